"""`python -m raytrain.embed`: what it writes, and what it says of bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raytrain
from raytrain import geo
from raytrain.embed import main
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import save_location_encoder
from raytrain.evaluation.baselines import unit_xyz
from raytrain.settings import build, to_dict

XYZ = "raytrain.evaluation.baselines:unit_xyz"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of a small encoder."""
    small = {"positional": {"degrees": 4}, "network": {"width": 16}, "dim": 8}
    config = build(LocationEncoderConfig, small, "location")
    folder = tmp_path_factory.mktemp("run")
    save_location_encoder(folder, {"location": to_dict(config)}, config.build())
    return str(folder)


@pytest.fixture
def places(tmp_path: Path) -> pd.DataFrame:
    """500 places by number, in points.csv and points.parquet."""
    lon, lat = geo.random_on_sphere(500, np.random.default_rng(0)).T
    table = pd.DataFrame({"number": range(500), "Longitude": lon, "lat": lat, "site": "x"})
    table.to_csv(tmp_path / "points.csv", index=False)
    table.to_parquet(tmp_path / "points.parquet", index=False)
    return table


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
        text = (tmp_path / "points.csv").read_text() + "7,?,1,x\n8,10,100,x\n9,200,10,x\n10,,,x\n"
        (tmp_path / "points.csv").write_text(text)
        assert main([run, str(tmp_path / "points.csv"), "--output", str(tmp_path / "out")]) == 0
        said = capsys.readouterr().out
        assert said.startswith("500 places of 24 float32 columns in ")
        assert "left out: 2 no coordinates; 1 coordinates seem swapped; 1 coordinates outs" in said
        table, x = written(tmp_path / "out")
        assert table.column_names == ["lon", "lat", "number", "site"]
        order = np.argsort(table["number"])
        np.testing.assert_array_equal(table["lon"].to_numpy()[order], places.Longitude)
        expected = raytrain.load(run).encode(places.Longitude, places.lat)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x[order], expected, rtol=1e-5, atol=1e-5)

    def test_a_folder_of_parquet_and_half_precision(
        self, places: pd.DataFrame, tmp_path: Path
    ) -> None:
        folder, out = tmp_path / "many", tmp_path / "out"
        folder.mkdir()
        for number in range(3):
            places[number::3].to_parquet(folder / f"{number}.parquet", index=False)
        command = [XYZ, f"{folder}/*.parquet", "--output", str(out), "--dtype", "float16"]
        assert main(command) == 0
        table, x = written(out)
        assert x.dtype == np.float16
        expected = unit_xyz(table["lon"].to_numpy(), table["lat"].to_numpy())
        np.testing.assert_allclose(x, expected, atol=1e-3)
        assert {*table["number"].to_pylist()} == {*range(500)}

    def test_a_grid_replaces_what_was_there(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = [XYZ, "--grid", "5", "--output", str(tmp_path)]
        assert main(command) == 0
        capsys.readouterr()
        assert "is not empty; name another --output, or give --over" in refusal(capsys, *command)
        assert main([*command, "--overwrite"]) == 0
        table, x = written(tmp_path)
        places = np.stack([table["lon"], table["lat"]], axis=1)
        expected = geo.cell_grid(5.0)[0]
        np.testing.assert_array_equal(
            places[np.lexsort(places.T)], expected[np.lexsort(expected.T)]
        )
        np.testing.assert_allclose(x, unit_xyz(*places.T), atol=1e-6)

    def test_trouble_on_the_way_is_one_message(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = ["--output", str(tmp_path / "out")]
        (tmp_path / "none.csv").write_text("lon,lat\n,1\n")
        said = refusal(capsys, XYZ, str(tmp_path / "none.csv"), *out)
        assert "none.csv: no row has a place (1 no coordinates)" in said
        (tmp_path / "mixed.csv").write_text("lon,lat,n\n" + "1,1,1\n" * 300_000 + "1,1,x\n")
        said = refusal(capsys, XYZ, str(tmp_path / "mixed.csv"), *out, "--overwrite")
        assert "mixed.csv: Failed to read CSV file: " in said
        assert "A damaged file, or columns whose type changes: in CSV the first rows" in said


def test_bad_input_is_named(
    places: pd.DataFrame, run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv, out = str(tmp_path / "points.csv"), ("--output", str(tmp_path / "out"))
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    places.rename(columns={"site": "embedding"}).to_csv(tmp_path / "e.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR")
    for arguments, message in (
        ((XYZ,), "give either PLACES or --grid DEGREES"),
        ((XYZ, csv, "--grid", "1"), "give either PLACES or --grid DEGREES"),
        ((XYZ, "--grid", "0"), "--grid 0: give the size of a cell in (0, 180] degrees"),
        ((XYZ, "nosuch.csv"), "nosuch.csv: no CSV or Parquet file; name a file, or a folder or"),
        ((XYZ, f"{tmp_path}/p*"), "p*: CSV and Parquet side by side"),
        ((XYZ, f"{tmp_path}/x.csv"), "x.csv has no column `lon`; it has: a, b"),
        ((XYZ, f"{tmp_path}/e.csv"), "e.csv has a column `embedding` already"),
        ((XYZ, f"{tmp_path}/bad.parquet"), "bad.parquet is not readable as parquet: "),
        (("nosuch", csv), "nosuch holds neither latest.json"),
        (("nosuch:f", csv), "there is no module `nosuch`"),
    ):
        assert message in refusal(capsys, *arguments, *out)
    assert "is not empty; name another --output" in refusal(
        capsys, XYZ, csv, "--output", str(tmp_path)
    )


def test_overwrite_spares_what_is_no_output(
    places: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = str(tmp_path / "points.parquet")
    command = (XYZ, mine, "--output", str(tmp_path), "--overwrite")
    assert f"holds {tmp_path}/points.csv, which must stay" in refusal(capsys, *command)
    (tmp_path / "points.csv").unlink()
    assert f"holds {mine}, which must stay" in refusal(capsys, *command)
    assert Path(mine).exists()
