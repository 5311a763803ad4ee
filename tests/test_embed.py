"""`python -m raytrain.embed`: what it writes, and what it says of bad input."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raytrain
from raytrain import geo, storage
from raytrain.bulk import write
from raytrain.embed import main
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import save_location_encoder
from raytrain.evaluation.baselines import unit_xyz
from raytrain.settings import build, to_dict

XYZ = "raytrain.evaluation.baselines:unit_xyz"


def make_run(folder: Path, **more: Any) -> str:
    """A checkpoint of a small encoder."""
    small = {"positional": {"degrees": 4}, "network": {"width": 16}, "dim": 8}
    config = build(LocationEncoderConfig, small, "location")
    save_location_encoder(folder, {"location": to_dict(config), **more}, config.build())
    return str(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    cards = {"trees": {"licence": "CC BY 4.0", "credit": "Foresters"}}
    return make_run(tmp_path_factory.mktemp("run"), cards=cards)


@pytest.fixture
def places(tmp_path: Path) -> pd.DataFrame:
    """500 places by number, in points.csv and points.parquet."""
    lon, lat = geo.random_on_sphere(500, np.random.default_rng(0)).T
    table = pd.DataFrame({"number": range(500), "Longitude": lon, "lat": lat, "site": "x"})
    table.to_csv(tmp_path / "points.csv", index=False)
    table.to_parquet(tmp_path / "points.parquet", index=False)
    return table


def wkb(lon: float, lat: float, order: str = "<") -> bytes:
    return struct.pack(f"{order}BIdd", order == "<", 1, lon, lat)


def write_geoparquet(file: Path, points: list[bytes | None], **column: Any) -> None:
    column = {"encoding": "WKB", "geometry_types": ["Point"], **column}
    about = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    schema = pa.schema(
        [("number", pa.int64()), ("geometry", pa.binary())], {"geo": json.dumps(about)}
    )
    pq.write_table(pa.table([range(len(points)), points], schema), file)


def written(folder: Path) -> tuple[pa.Table, Any]:
    """The table without embeddings, and these [n, d]."""
    table = pq.read_table(folder)
    column = table["embedding"].combine_chunks()
    assert isinstance(column.type, pa.FixedSizeListType)
    x = np.asarray(column.flatten()).reshape(len(column), -1)
    return table.drop_columns(["embedding"]), x


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    said = capsys.readouterr().out
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said.removeprefix("error: ")


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
class TestWriting:
    def test_a_table_with_bad_rows(
        self, run: str, places: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bad = ["7,?,1,x", "8,10,100,x", "9,200,10,x", '10,,,"two\nlines"']
        text = (tmp_path / "points.csv").read_text() + "\n".join(bad) + "\n"
        (tmp_path / "points.csv").write_text(text)
        command = [run, "--input", f"{tmp_path}/points.csv", "--output", f"{tmp_path}/out"]
        assert main(command) == 0
        said = capsys.readouterr().out
        assert said.startswith("500 places of 24 float32 columns in ")
        reasons = "2 no coordinates; 1 coordinates seem swapped; 1 coordinates outside [-180, 180]"
        assert f"left out: {reasons}" in said
        assert f"{tmp_path}/out/_left_out\n" in said
        table, x = written(tmp_path / "out")
        assert table.column_names == ["lon", "lat", "number", "site"]
        np.testing.assert_array_equal(table["number"], places.number)
        np.testing.assert_array_equal(table["lon"], places.Longitude)
        expected = raytrain.load(run).encode(places.Longitude, places.lat)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-5)
        left_out = pq.read_table(tmp_path / "out" / "_left_out").to_pylist()
        assert [(row["number"], row["Longitude"], row["lat"]) for row in left_out] == [
            (7, "?", "1"), (8, "10", "100"), (9, "200", "10"), (10, "", ""),
        ]  # fmt: skip
        assert left_out[1]["why_left_out"] == "coordinates seem swapped"
        assert left_out[3]["site"] == "two\nlines"

        assert main(command) == 0
        assert "500 places of 24 float32 columns, 500 of them there bef" in capsys.readouterr().out

    def test_a_folder_of_parquet_and_half_precision(
        self, places: pd.DataFrame, tmp_path: Path
    ) -> None:
        folder, out = tmp_path / "many", tmp_path / "out"
        folder.mkdir()
        for number in range(3):
            places[number::3].to_parquet(folder / f"{number}.parquet", index=False)
        command = [XYZ, "--input", f"{folder}/*.parquet", "--output", str(out)]
        assert main([*command, "--dtype", "float16"]) == 0
        table, x = written(out)
        assert x.dtype == np.float16
        expected = unit_xyz(table["lon"].to_numpy(), table["lat"].to_numpy())
        np.testing.assert_allclose(x, expected, atol=1e-3)
        assert sorted(table["number"].to_pylist()) == [*range(500)]

    def test_geoparquet(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        heights = struct.pack("<BIddd", 1, 1001, 3.0, 4.0, 5.0)
        line = struct.pack("<BIIdddd", 1, 2, 2, 0, 0, 1, 1)
        points = [wkb(13.5, 52.25), wkb(-60, -3, ">"), None, heights, line, b"", wkb(0, 95)]
        write_geoparquet(tmp_path / "p.geoparquet", points, geometry_types=[])
        command = [XYZ, "--input", f"{tmp_path}/p.geoparquet", "--output", f"{tmp_path}/out"]
        assert main(command) == 0
        assert "left out: 3 no coordinates; 1 coordinates seem swapped" in capsys.readouterr().out
        table, x = written(tmp_path / "out")
        found = [(row["number"], row["lon"], row["lat"]) for row in table.to_pylist()]
        assert found == [(0, 13.5, 52.25), (1, -60, -3), (3, 3, 4)]
        assert table["geometry"].to_pylist() == [points[i] for i in (0, 1, 3)]
        assert b"geo" in table.schema.metadata  # still GeoParquet
        np.testing.assert_allclose(x, unit_xyz(*np.array(found)[:, 1:].T), atol=1e-6)

    def test_a_grid_replaces_what_was_there(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = [XYZ, "--grid", "5", "--output", str(tmp_path)]
        assert main(command) == 0
        capsys.readouterr()
        other = [XYZ, "--grid", "10", "--output", str(tmp_path)]
        assert "holds an embedding with another input; name another" in refusal(capsys, *other)
        assert main([*other, "--overwrite"]) == 0
        table, x = written(tmp_path)
        places = np.stack([table["lon"], table["lat"]], axis=1)
        np.testing.assert_array_equal(places, geo.cell_grid(10.0)[0])
        np.testing.assert_allclose(x, unit_xyz(*places.T), atol=1e-6)

    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_a_grid_as_netcdf(
        self, dtype: str, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(write, "PART_ROWS", 100)  # two rows of 36 cells
        output = f"{tmp_path}/grid.nc"
        assert main([run, "--grid", "10", "--output", output, "--dtype", dtype]) == 0
        assert [file.name for file in tmp_path.iterdir()] == ["grid.nc"]
        encoder = raytrain.load(run)
        with netCDF4.Dataset(output) as file:
            x = file["embedding"]
            assert (x.dimensions, x.shape) == (("column", "lat", "lon"), (24, 18, 36))
            lat, lon = file["lat"], file["lon"]
            assert (lat.standard_name, lat.units) == ("latitude", "degrees_north")
            assert (lon.standard_name, lon.units) == ("longitude", "degrees_east")
            assert file.Conventions == "CF-1.11"
            assert (file.license, file.acknowledgement) == ("trees: CC BY 4.0", "trees: Foresters")
            tolerance = {"float32": 1e-5, "float16": 2e-3}[dtype]
            for row, column in ((0, 0), (1, 30), (5, 7), (17, 35)):  # north-west … south-east
                assert (lon[column], lat[row]) == (10 * column - 175, 85 - 10 * row)
                (expected,) = encoder.encode(float(lon[column]), float(lat[row]))
                np.testing.assert_allclose(x[:, row, column], expected, tolerance, tolerance)

    def test_trouble_on_the_way_is_one_message(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def said_of(name: str) -> str:
            output = str(tmp_path / f"out-{name}")
            return refusal(capsys, XYZ, "--input", str(tmp_path / name), "--output", output)

        (tmp_path / "none.csv").write_text("lon,lat\n,1\n")
        assert "none.csv: no row has a place (1 no coordinates)" in said_of("none.csv")
        (tmp_path / "mixed.csv").write_text("lon,lat,n\n" + "1,1,1\n" * 900_000 + "1,1,x\n")
        said = said_of("mixed.csv")
        assert "mixed.csv is not readable as csv: " in said
        assert "A damaged file, or columns whose type changes: the first rows of CSV" in said
        (tmp_path / "two").mkdir()
        pd.DataFrame({"lon": [1.0], "lat": [2.0], "n": [3]}).to_parquet(tmp_path / "two" / "a.pq")
        pd.DataFrame({"lon": [1.0], "lat": [2.0]}).to_parquet(tmp_path / "two" / "b.pq")
        assert "b.pq has no column `n` as " in said_of("two")

    def test_output_on_s3(self, s3: Any, run: str, places: pd.DataFrame, tmp_path: Path) -> None:
        output = f"{s3.bucket}/embedded"
        storage.write(f"{s3.bucket}/points.csv", (tmp_path / "points.csv").read_bytes())
        environment = {**os.environ, **s3.environment, "RAY_ADDRESS": "local"}
        command = [sys.executable, "-m", "raytrain.embed", run, "--output", output, "--input"]
        subprocess.run([*command, f"{s3.bucket}/points.csv"], check=True, env=environment)
        (file,) = [file for file in storage.files(output) if file.endswith(".parquet")]
        table = pq.read_table(pa.BufferReader(storage.read(file)))
        np.testing.assert_array_equal(table["number"], places.number)
        again = subprocess.run(
            [*command, f"{s3.bucket}/points.csv"], check=True, env=environment, capture_output=True
        )
        assert b"500 of them there before" in again.stdout


@pytest.mark.slow
def test_a_killed_command_goes_on(tmp_path: Path, tiny_world: Any) -> None:
    """Killed in the middle, interrupted, and then left alone: every row once."""
    run = make_run(tmp_path / "run")
    rows = 7 * write.PART_ROWS + 77
    lon, lat = geo.random_on_sphere(rows, np.random.default_rng(0)).T
    lat[::1000] = np.nan
    table = pd.DataFrame({"number": range(rows), "lon": lon.round(3), "lat": lat.round(3)})
    table.to_csv(tmp_path / "points.csv", index=False)

    def start(output: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "raytrain.embed", run, "--output", output, "--input"]
        return subprocess.Popen(
            [*command, str(tmp_path / "points.csv")],
            env=tiny_world.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    broken = tmp_path / "broken"
    for number, wanted in ((signal.SIGKILL, 1), (signal.SIGINT, 3)):
        process = start(str(broken))
        while len([*broken.glob("0*.parquet")]) < wanted:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        descendants = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, number)
        said = process.communicate()[0]
        assert psutil.wait_procs(descendants, timeout=60)[1] == []
    assert process.returncode == 130, said
    assert "stopped; the same command goes on" in said
    parts = [*broken.glob("0*.parquet")]
    assert 3 <= len(parts) < 8
    before = sum(pq.read_metadata(part).num_rows for part in parts)
    process = start(str(broken))
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert f"{before:,} of them there before" in said
    good, x = written(broken)
    left_out = pq.read_table(broken / "_left_out")
    expected = table[table["lat"].notna()]
    assert good["number"].to_pylist() == expected["number"].to_list()
    assert left_out["number"].to_pylist() == table[table["lat"].isna()]["number"].to_list()
    expected_x = raytrain.load(run).encode(expected["lon"], expected["lat"])
    np.testing.assert_allclose(x, expected_x, atol=1e-5)


def test_bad_input_is_named(
    places: pd.DataFrame, run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv, out = str(tmp_path / "points.csv"), ("--output", str(tmp_path / "out"))
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    places.rename(columns={"site": "embedding"}).to_csv(tmp_path / "e.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR")
    mercator = {"name": "WGS 84 / Pseudo-Mercator", "id": {"authority": "EPSG", "code": 3857}}
    write_geoparquet(tmp_path / "m.geoparquet", [], crs=mercator)
    write_geoparquet(tmp_path / "u.geoparquet", [], crs=None)
    write_geoparquet(tmp_path / "l.geoparquet", [], geometry_types=["LineString"])
    for arguments, message in (
        ((), "give either --input PLACES or --grid DEGREES"),
        (("--input", csv, "--grid", "1"), "give either --input PLACES or --grid DEGREES"),
        (("--grid", "0"), "--grid 0: give the size of a cell in (0, 180] degrees"),
        (("--input", "nosuch.csv"), "nosuch.csv: no CSV or Parquet file; name a file, or a folder"),
        (("--input", f"{tmp_path}/p*"), "p*: CSV and Parquet side by side"),
        (("--input", f"{tmp_path}/x.csv"), "x.csv has no column `lon`; it has: a, b"),
        (("--input", f"{tmp_path}/e.csv"), "e.csv has a column `embedding` already"),
        (("--input", f"{tmp_path}/bad.parquet"), "bad.parquet is not readable as parquet: "),
        (("--input", f"{tmp_path}/m.geoparquet"), "of `geometry` is WGS 84 / Pseudo-Mercator; con"),
        (("--input", f"{tmp_path}/u.geoparquet"), "of `geometry` is unknown; convert it to EPSG:4"),
        (("--input", f"{tmp_path}/l.geoparquet"), "`geometry` holds LineString as WKB, not points"),
        (("--input", csv, "--output", "x.nc"), "x.nc: only a --grid becomes NetCDF; name a folder"),
        (("--grid", "9", "--output", "s3://b/x.nc"), "NetCDF needs a path of this machine"),
    ):
        assert message in refusal(capsys, XYZ, *out, *arguments)
    assert "nosuch holds neither a checkpoint_…" in refusal(capsys, "nosuch", "--input", csv, *out)
    assert "there is no module `nosuch`" in refusal(capsys, "nosuch:f", "--input", csv, *out)


def test_what_is_no_output_stays(
    places: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = str(tmp_path / "points.parquet")
    (tmp_path / "points.csv").unlink()
    for more in ((), ("--overwrite",)):
        command = (XYZ, "--input", mine, "--output", str(tmp_path), *more)
        assert f"holds {mine}, which must stay" in refusal(capsys, *command)
    assert Path(mine).exists()
    inside = (XYZ, "--input", str(tmp_path), "--output", f"{tmp_path}/out")
    assert f"{tmp_path}/out lies in {tmp_path} and would be read" in refusal(capsys, *inside)


def test_an_embedding_of_another_encoder_is_refused(
    run: str, places: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from raytrain.bulk.places import Table
    from raytrain.evaluation.roster import encoder

    table, out = Table(f"{tmp_path}/points.csv"), f"{tmp_path}/out"
    write.open_folder(run, encoder(run), table, out, "float32", False)
    command = ("--input", f"{tmp_path}/points.csv", "--output", out)
    changed = make_run(tmp_path / "changed")
    assert "holds an embedding with another encoder" in refusal(capsys, changed, *command)
    said = refusal(capsys, run, *command, "--dtype", "float16")
    assert "holds an embedding with another dtype" in said
    with open(tmp_path / "points.csv", "a") as file:
        file.write("501,1,2,x\n")
    assert "holds an embedding with another input" in refusal(capsys, run, *command)


def test_a_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "netCDF4", None)
    said = refusal(capsys, XYZ, "--grid", "9", "--output", f"{tmp_path}/x.nc")
    assert "x.nc needs netCDF4: pip install 'raytrain[grid]', or name a folder" in said
