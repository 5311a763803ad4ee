from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from in_memory import in_memory

from raytrain import geo
from raytrain.data.conversion import write_rows
from raytrain.data.manifest import Manifest
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.tables import TableSource, clean_places
from raytrain.data.writer import Observations

RNG = np.random.default_rng(0)


def points(n: int = 1000) -> pd.DataFrame:
    lonlat_deg = geo.random_on_sphere(n, RNG)
    table = pd.DataFrame(RNG.normal(size=(n, 5)), columns=[f"b{band}" for band in range(5)])
    return table.assign(Longitude=lonlat_deg[:, 0], LAT=lonlat_deg[:, 1], site="x")


def observe(table: pd.DataFrame, folder: Path, **options: Any) -> Observations:
    table.to_csv(folder / "points.csv", index=False)
    return in_memory(TableSource(file="points.csv", **options), context(folder))


def context(folder: Path) -> Context:
    return Context(modality="soil", field="vector", folder=folder)


def written(table: pd.DataFrame, folder: Path, **options: Any) -> Manifest:
    table.to_csv(folder / "points.csv", index=False)
    source = TableSource(file="points.csv", **options)
    url = str(folder / "shards")
    return write_rows(url, source, context(folder), described={})[0]


def test_numeric_columns_become_a_vector(tmp_path: Path) -> None:
    table = points()
    offered = observe(table, tmp_path)
    np.testing.assert_allclose(offered.lonlat_deg, table[["Longitude", "LAT"]])
    taken = offered.take(np.array([3, 1]))["vector"]
    np.testing.assert_allclose(taken, table.iloc[[3, 1], :5], rtol=1e-6)
    assert offered.fields["vector"].shape == (5,)
    assert offered.dropped == {}


def test_named_columns_in_their_order(tmp_path: Path) -> None:
    table = points().rename(columns={"Longitude": "east", "LAT": "north"})
    offered = observe(table, tmp_path, lon="east", lat="north", columns=("b3", "b0"))
    np.testing.assert_allclose(
        offered.take(np.arange(9))["vector"], table[["b3", "b0"]][:9], rtol=1e-6
    )


def test_parquet_is_read_too(tmp_path: Path) -> None:
    table = points()
    table.loc[3, "b0"] = None
    table.to_parquet(tmp_path / "points.parquet")
    offered = in_memory(TableSource(file="points.parquet"), context(tmp_path))
    assert len(offered.lonlat_deg) == 999
    assert offered.dropped == {"a number is missing or not finite": 1}
    np.testing.assert_allclose(
        offered.take(np.arange(3))["vector"], table.iloc[:3, :5].astype(float), rtol=1e-6
    )


def test_bad_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    table = points()
    table.loc[0, "Longitude"] = np.nan
    table.loc[1, "Longitude"] = 400.0
    table.loc[2, ["Longitude", "LAT"]] = [10.0, 150.0]
    table.loc[3, "b2"] = np.nan
    table.loc[4, "b1"] = np.inf
    table.loc[900, ["Longitude", "LAT"]] = 0.0
    table.loc[901] = table.loc[900]
    table = table.astype({"b3": object})
    table.loc[990, "b3"] = "a word"
    offered = observe(table, tmp_path, columns=("b0", "b1", "b2", "b3", "b4"))
    assert len(offered.lonlat_deg) == 992
    assert offered.dropped == {
        "no coordinates": 1,
        "coordinates seem swapped": 1,
        "coordinates outside [-180, 180] x [-90, 90]": 1,
        "a number is missing or not finite": 3,
        "exactly at 0, 0": 2,
    }
    np.testing.assert_allclose(
        offered.take(np.array([0]))["vector"][0], table.iloc[5, :5].astype(float), rtol=1e-6
    )


def test_too_many_bad_rows_are_an_error(tmp_path: Path) -> None:
    table = points()
    table.loc[:19, "b2"] = np.nan
    with pytest.raises(SourceError) as error:
        written(table, tmp_path)
    assert str(error.value) == (
        "points.csv: 20 of 1,000 rows cannot be used (a number is missing or not finite: 20). "
        "Mend it, or allow it with `source.max_bad_share` (now 0.01)"
    )
    manifest = written(table, tmp_path, max_bad_share=0.05)
    assert manifest.samples("train") + manifest.samples("val") == 980


def test_swapped_columns_are_suspected(tmp_path: Path) -> None:
    table = points().rename(columns={"Longitude": "LAT", "LAT": "Longitude"})
    with pytest.raises(SourceError, match=r"latitude beyond 90°; the columns .* seem swapped"):
        written(table, tmp_path)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no column `lon`; set `source\.lon` to one of: b0, b1"):
        observe(points().drop(columns="Longitude"), tmp_path)
    with pytest.raises(SourceError, match="no column `b9`; it has: "):
        observe(points(), tmp_path, columns=("b9",))
    with pytest.raises(SourceError, match="no numeric column besides the coordinates"):
        observe(points()[["Longitude", "LAT", "site"]], tmp_path)


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "points.parquet").write_bytes(b"nonsense")
    with pytest.raises(SourceError, match=r"points\.parquet is not readable as parquet"):
        in_memory(TableSource(file="points.parquet"), context(tmp_path))
    with pytest.raises(SourceError, match=r"none\.csv does not exist; a path in a card is relativ"):
        in_memory(TableSource(file="none.csv"), context(tmp_path))


def test_rows_keep_their_places_whatever_their_index() -> None:
    table = pd.DataFrame({"lon": [1.0, 2.0, np.nan, 4.0], "lat": [10.0, 20.0, 30.0, 40.0]})
    shuffled = table.assign(value=table.lat * 2).iloc[[3, 2, 1, 0]]
    good, dropped = clean_places(shuffled, "points")
    assert good[["lon", "lat", "value"]].to_numpy().tolist() == [
        [4.0, 40.0, 80.0],
        [2.0, 20.0, 40.0],
        [1.0, 10.0, 20.0],
    ]
    assert dropped == {"no coordinates": 1}
