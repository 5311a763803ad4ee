"""Raw rows to shards: the same bytes whoever does it, and every row accounted for."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from raytrain import geo
from raytrain.data import conversion
from raytrain.data.conversion import write_rows
from raytrain.data.manifest import Manifest
from raytrain.data.report import Report
from raytrain.data.shards import read_shard
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.land import land_mask
from raytrain.data.sources.tables import TableSource
from raytrain.errors import UserError

FILES, ROWS, SHARD_ROWS = 5, 4000, 50  # which makes 5 bins
COLUMNS = ["a", "b", "c"]


def make_table(folder: Path) -> pd.DataFrame:
    """CSV files with rows that are bad, equal, and at sea."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(ROWS, 3)).astype(np.float32), columns=COLUMNS)
    lon, lat = geo.random_on_sphere(ROWS, rng).T
    table = table.assign(lon=lon, lat=lat)
    table.loc[3900:3949] = table.loc[100:149].to_numpy()  # in other files than their likes
    table.loc[7, "lon"], table.loc[8, "a"] = np.nan, np.inf
    table.loc[9, ["lon", "lat"]] = 0.0
    (folder / "soil").mkdir()
    for number, rows in enumerate(np.array_split(np.arange(ROWS), FILES)):
        table.loc[rows].to_csv(folder / "soil" / f"{number}.csv", index=False)
    return table


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("raw")
    return folder, make_table(folder)


@pytest.fixture
def in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Ray."""
    monkeypatch.setattr(conversion, "_over_cluster", lambda start_ray: conversion._in_turn)


def write(raw: Path, url: Path | str, **options: Any) -> tuple[Manifest, Report]:
    settings = {"file": "soil", "shard_rows": SHARD_ROWS, **options}
    told = {"on_rows": settings.pop("on_rows")} if "on_rows" in settings else {}
    context = Context(modality="soil", field="vector", folder=raw)
    return write_rows(str(url), TableSource(**settings), context, described=settings, **told)


def content(folder: Path) -> dict[str, str]:
    """Every file, hidden ones too, and a digest of it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def whole(raw: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Report]]:
    """Shards that nothing disturbed, made without Ray."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "_over_cluster", lambda start_ray: conversion._in_turn)
        yield folder, write(raw[0], folder)[1]


def all_rows(url: Path, manifest: Manifest, split: str) -> tuple[geo.Array, Any]:
    read = [
        read_shard(str(url), shard, manifest.fields, manifest.layout, verify=True)[0]
        for shard in manifest.shards_of(split)
    ]
    columns = [np.concatenate([rows[name] for rows in read]) for name in ("lonlat", "vector")]
    return columns[0], columns[1]


def test_every_good_row_is_there_once(whole: tuple[Path, Report], raw: Any) -> None:
    folder, report = whole
    manifest, table = Manifest.load(str(folder)), raw[1]
    good = table.drop(index=[7, 8, 9]).drop_duplicates()
    assert len(good) == ROWS - 3 - 50
    parts = [all_rows(folder, manifest, split) for split in ("train", "val")]
    found = np.concatenate([np.concatenate([v, p], axis=1) for p, v in parts])
    expected = good[[*COLUMNS, "lon", "lat"]].to_numpy()
    assert sorted(map(tuple, found)) == sorted(map(tuple, expected))
    for (places, _), held in zip(parts, (False, True), strict=True):
        assert (geo.held_out(places) == held).all()
    vectors = parts[0][1]
    np.testing.assert_allclose(manifest.field("vector").mean, vectors.mean(0), atol=1e-6)
    np.testing.assert_allclose(manifest.field("vector").std, vectors.std(0), rtol=1e-5)
    assert report.kept == {"train": manifest.samples("train"), "val": manifest.samples("val")}


def test_the_report_accounts_for_every_row(whole: tuple[Path, Report], raw: Any) -> None:
    folder, report = whole
    assert report.rows == ROWS
    assert sum(report.kept.values()) + sum(report.bad.values()) + report.duplicates.rows == ROWS
    assert report.duplicates.rows == 50
    assert all(example["key"].startswith("4.csv row ") for example in report.duplicates.examples)
    assert report.bad == {
        "a number is missing or not finite": 1,
        "exactly at 0, 0": 1,
        "no coordinates": 1,
    }
    (example,) = report.left_out["no coordinates"].examples
    assert example["key"] == "0.csv row 8"
    assert example["lon"] is None
    assert example["lat"] == raw[1].loc[7, "lat"]
    stored = json.loads((folder / "report.json").read_text())
    assert Report.from_dict(stored).to_dict() == report.to_dict()
    lonlat_deg = raw[1].drop(index=[7, 9])[["lon", "lat"]].to_numpy()
    land = land_mask()[geo.raster_pixels(lonlat_deg, 3600, 7200)]
    assert report.at_sea == (~land).sum()
    kept = raw[1].drop(index=[7, 8, 9]).drop_duplicates()[["lon", "lat"]].to_numpy()
    row, column = geo.raster_pixels(kept, 180, 360)
    np.testing.assert_array_equal(report.cells, np.bincount(row * 360 + column, minlength=64800))


def test_shards_are_alike_and_mixed(whole: tuple[Path, Report], raw: Any) -> None:
    folder, _ = whole
    manifest = Manifest.load(str(folder))
    sizes = [shard.samples for shard in manifest.shards_of("train")]
    assert min(sizes) > SHARD_ROWS * 0.8
    assert max(sizes) <= SHARD_ROWS
    number = {tuple(place): row for row, place in enumerate(raw[1][["lon", "lat"]].to_numpy())}
    for shard in manifest.shards_of("train")[:3]:
        places = read_shard(str(folder), shard, {}, manifest.layout)[0]["lonlat"]
        rows = np.array([number[tuple(place)] for place in places])
        assert {*(rows // (ROWS // FILES))} == {*range(FILES)}  # of every file
        assert abs(np.corrcoef(rows, np.arange(len(rows)))[0, 1]) < 0.5


def test_how_rows_are_dealt_to_files_changes_nothing(
    whole: tuple[Path, Report], raw: Any, tmp_path: Path, in_turn: None
) -> None:
    (tmp_path / "soil").mkdir()
    raw[1].to_csv(tmp_path / "soil" / "one.csv", index=False)
    write(tmp_path, tmp_path / "out")
    assert content(tmp_path / "out").items() - content(whole[0]).items() == {
        ("report.json", content(tmp_path / "out")["report.json"])  # which names rows of files
    }


def test_a_stop_anywhere_changes_nothing(
    whole: tuple[Path, Report], raw: Any, tmp_path: Path, in_turn: None
) -> None:
    heard = 0

    def stop_sometimes(done: int, rows: int, doing: str) -> None:
        nonlocal heard
        heard += 1
        if done and heard % 3 == 0:
            raise KeyboardInterrupt

    stops = 0
    while not (tmp_path / "manifest.json").exists():
        try:
            write(raw[0], tmp_path, on_rows=stop_sometimes)
        except KeyboardInterrupt:
            stops += 1
            if stops == 3:  # so that it has to be made again
                next(tmp_path.glob("*.tar"), tmp_path / "none").unlink(missing_ok=True)
    assert stops > 2
    assert content(tmp_path) == content(whole[0])


def test_another_plan_begins_anew(
    whole: tuple[Path, Report], raw: Any, tmp_path: Path, in_turn: None
) -> None:
    def stop(done: int, rows: int, doing: str) -> None:
        if doing == "writing" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(raw[0], tmp_path, on_rows=stop, shard_rows=40)
    assert [*tmp_path.glob("*.tar")]
    write(raw[0], tmp_path)
    assert content(tmp_path) == content(whole[0])


def test_places_at_sea_are_left_out_on_demand(raw: Any, tmp_path: Path, in_turn: None) -> None:
    manifest, report = write(raw[0], tmp_path, land=True)
    assert 0.6 * ROWS < report.at_sea < 0.8 * ROWS  # which is more than max_bad_share, and fine
    assert report.bad["at sea"] <= report.at_sea
    places = np.concatenate([all_rows(tmp_path, manifest, s)[0] for s in ("train", "val")])
    assert land_mask()[geo.raster_pixels(places, 3600, 7200)].all()


@dataclass(frozen=True, kw_only=True)
class Failing(TableSource):
    """Some rows turn out to have no observation."""

    kind: Literal["table"] = "table"
    max_bad_share: float = 0.5
    least: float = 0.0

    def observe(self, rows: pa.Table, context: Context) -> Any:
        observed, _ = super().observe(rows, context)
        vectors = observed[context.field]
        bad = np.flatnonzero(vectors[:, 0] < self.least).tolist()
        return {context.field: vectors}, dict.fromkeys(bad, "the photo is missing")


def test_rows_that_turn_out_bad_are_left_out(raw: Any, tmp_path: Path, in_turn: None) -> None:
    context = Context(modality="soil", field="vector", folder=raw[0])
    source = Failing(file="soil", shard_rows=SHARD_ROWS, max_bad_share=0.6)
    manifest, report = write_rows(str(tmp_path), source, context, described={})
    bad = report.left_out["the photo is missing"]
    assert 1800 < bad.rows < 2200
    assert len(bad.examples) == 5
    assert sum(report.kept.values()) + sum(report.bad.values()) + report.duplicates.rows == ROWS
    assert all((all_rows(tmp_path, manifest, s)[1][:, 0] >= 0).all() for s in ("train", "val"))
    source = Failing(file="soil", shard_rows=SHARD_ROWS, least=0.1)
    with pytest.raises(SourceError, match=r"soil: 2,\d+ of 4,000 rows cannot be used \(.*photo is"):
        write_rows(str(tmp_path), source, context, described={"least": 0.1})
    assert not (tmp_path / "manifest.json").exists()


def test_files_on_disks_of_other_nodes_are_named(
    raw: Any, tmp_path: Path, in_turn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(work: Any, numbers: Any) -> Iterator[int]:
        return iter(numbers)

    monkeypatch.setattr(conversion, "_in_turn", elsewhere)
    with pytest.raises(UserError, match=r"is on disks of their own .* give --root a URL, or a fol"):
        write(raw[0], tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
class TestRay:
    @pytest.mark.parametrize("workers", [1, 2, 4])
    def test_any_number_of_workers_gives_the_same_bytes(
        self,
        workers: int,
        whole: tuple[Path, Report],
        raw: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import ray

        from raytrain.data import spread

        monkeypatch.setattr(spread, "CPUS", ray.cluster_resources()["CPU"] / workers)
        write(raw[0], tmp_path)
        assert content(tmp_path) == content(whole[0])

    def test_what_a_worker_cannot_read_is_one_message(self, raw: Any, tmp_path: Path) -> None:
        (tmp_path / "soil").mkdir()
        for number in range(2):
            raw[1].to_parquet(tmp_path / "soil" / f"{number}.parquet")
        damaged = bytearray((tmp_path / "soil" / "1.parquet").read_bytes())
        damaged[1000 : len(damaged) // 2] = bytes(len(damaged) // 2 - 1000)
        (tmp_path / "soil" / "1.parquet").write_bytes(damaged)
        with pytest.raises(UserError, match=r"1\.parquet is not readable as parquet") as error:
            write(tmp_path, tmp_path / "out")
        assert "\n" not in str(error.value)

    def test_a_killed_command_goes_on(
        self, whole: tuple[Path, Report], raw: Any, tmp_path: Path
    ) -> None:
        import ray

        (tmp_path / "soil.yaml").write_text(
            f"field: vector\nsource: {{kind: table, file: {raw[0]}/soil, shard_rows: {SHARD_ROWS}}}"
        )
        address = ray.get_runtime_context().gcs_address
        command = [sys.executable, "-m", "raytrain.prepare", "soil.yaml", "--root", "root"]

        def start() -> "subprocess.Popen[str]":
            return subprocess.Popen(
                command,
                cwd=tmp_path,
                env={**os.environ, "RAY_ADDRESS": address},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

        killed, working = start(), tmp_path / "root" / "soil" / ".working"
        while not [*working.glob("bin-*.json")]:
            assert killed.poll() is None, killed.communicate()[0]
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert not (tmp_path / "root" / "soil" / "manifest.json").exists()
        times = {p.name: p.stat().st_mtime_ns for p in working.glob("*.json")}
        assert len([name for name in times if name.startswith("part")]) == FILES
        again = start()
        said = again.communicate()[0]
        assert again.returncode == 0, said
        shards = {f: d for f, d in content(tmp_path / "root" / "soil").items() if "tar" in f}
        assert shards == {f: d for f, d in content(whole[0]).items() if "tar" in f}
        assert (tmp_path / "root" / "places.png").exists()
