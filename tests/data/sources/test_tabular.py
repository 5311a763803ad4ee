"""Parts of a table together are the table, wherever it is cut."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raytrain import geo
from raytrain.data.sources import csv_parts, tabular
from raytrain.data.sources.files import SourceError
from raytrain.data.sources.tabular import TableFiles, read_part

WANTED = ("note", "number")


def table(rows: int = 200) -> pd.DataFrame:
    """Notes hold what CSV can trip over."""
    rng = np.random.default_rng(0)
    notes = ["plain", 'said "so"', "two\nlines", ",", '"', "", "\n\n", '5" wide', "é" * 30]
    lon, lat = geo.random_on_sphere(rows, rng).T
    note = rng.choice(np.array(notes, object), rows)
    return pd.DataFrame({"note": note, "lon": lon, "lat": lat, "number": range(rows)})


def read(folder: Path | str, parts: int) -> pd.DataFrame:
    files = TableFiles(str(folder))
    found = files.parts(WANTED)
    assert len(found) >= parts
    pieces = [rows for part in found for rows in read_part(part)]
    columns = pd.concat([rows.columns.to_pandas() for rows in pieces], ignore_index=True)
    lonlat_deg = np.concatenate([rows.lonlat_deg for rows in pieces])
    keys = [key for rows in pieces for key in rows.keys.to_pylist()]
    reasons = [reason for rows in pieces for reason in rows.reasons.to_pylist()]
    return columns.assign(lon=lonlat_deg[:, 0], lat=lonlat_deg[:, 1], key=keys, reason=reasons)


def check(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert found["note"].fillna("").tolist() == expected["note"].tolist()
    assert found["number"].astype(int).tolist() == expected["number"].tolist()
    np.testing.assert_array_equal(found[["lon", "lat"]], expected[["lon", "lat"]])
    assert found["reason"].isna().all()


@pytest.mark.parametrize("block", [300, 5000])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_csv_is_cut_where_rows_end(
    block: int, ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_parts, "BLOCK_BYTES", block)
    expected = table()
    expected.to_csv(tmp_path / "t.csv", index=False, lineterminator=ends)
    found = read(tmp_path / "t.csv", parts=3)
    check(found, expected)
    assert found["key"].tolist() == [f"t.csv row {row}" for row in range(1, 201)]


def test_quotes_inside_a_field_open_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_parts, "BLOCK_BYTES", 100)
    rows = [f'{row}" wide,{row},{row / 2},{row}' for row in range(90)]
    (tmp_path / "t.csv").write_text("\n".join(["note,lon,lat,number", *rows]))
    found = read(tmp_path / "t.csv", parts=10)
    assert found["note"].tolist() == [f'{row}" wide' for row in range(90)]
    assert found["lat"].tolist() == [row / 2 for row in range(90)]


def test_rows_with_too_few_or_too_many_cells_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = table(40)
    expected["note"] = "x"
    lines = expected.to_csv(index=False).splitlines()
    lines[5:5], lines[30:30] = ["x,1"], ["x,1,2,3,4"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    monkeypatch.setattr(csv_parts, "BLOCK_BYTES", 300)
    for name in ("t.csv", "t.csv.gz"):
        found = read(tmp_path / name, parts=1)
        wrong = found[found["reason"].notna()]
        assert wrong["key"].tolist() == [f"{name} row 5", f"{name} row 30"]
        assert {*wrong["reason"]} == {"it has more or fewer cells than the header"}
        good = found[found["reason"].isna()]
        assert good["number"].astype(int).tolist() == [*range(40)]
        assert good["key"].iloc[-1] == f"{name} row 42"


def test_a_quote_that_is_left_open_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_parts, "BLOCK_BYTES", 100)
    monkeypatch.setattr(csv_parts, "LONGEST_ROW", 1000)
    (tmp_path / "t.csv").write_text('note,lon,lat,number\na,1,2,3\n"b,1,2,3\n' + "c,1,2,3\n" * 300)
    with pytest.raises(SourceError, match="the row that begins at byte 28 has no end within"):
        TableFiles(str(tmp_path / "t.csv")).parts(WANTED)


def test_a_compressed_file_is_one_part_of_many_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = table(3000)
    expected.to_csv(tmp_path / "t.csv.gz", index=False)
    monkeypatch.setattr(tabular, "TABLE_ROWS", 256)
    monkeypatch.setattr(tabular, "READ_BYTES", 4096)
    (part,) = TableFiles(str(tmp_path / "t.csv.gz")).parts(WANTED)
    assert 2700 < part.rows < 3300
    assert len([*read_part(part)]) == 12
    check(read(tmp_path / "t.csv.gz", parts=1), expected)


def test_parquet_is_cut_at_row_groups_and_columns_may_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "PART_ROWS", 50)
    expected = table()
    expected[:150].to_parquet(tmp_path / "a.parquet", row_group_size=20)
    expected[150:][["number", "lat", "lon", "note"]].to_parquet(tmp_path / "b.parquet")
    found = read(tmp_path, parts=5)
    check(found, expected)
    assert found["key"].iloc[149] == "a.parquet row 150"
    assert found["key"].iloc[150] == "b.parquet row 1"


def test_files_of_csv_have_their_own_order_of_columns(tmp_path: Path) -> None:
    expected = table()
    expected[:150].to_csv(tmp_path / "a.csv", index=False)
    expected[150:][["number", "lat", "lon", "note"]].to_csv(tmp_path / "b.csv", index=False)
    check(read(tmp_path, parts=2), expected)
    expected[:1].drop(columns="note").to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(SourceError, match=r"c\.csv has no column `note` as .*a\.csv"):
        read(tmp_path, parts=2)
