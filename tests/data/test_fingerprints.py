"""Fingerprints of rows, and the files in which rows lie by them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raytrain.data.bins import read_bin, write_bins
from raytrain.data.fingerprints import fingerprints
from raytrain.errors import UserError

FIRST = [[11704993914328238586, 12425463247873097878]]  # of rows(1)


def rows(n: int = 2000) -> pa.Table:
    rng = np.random.default_rng(0)
    vectors = pa.array(rng.normal(size=3 * n).astype(np.float32))
    words = [None if row % 7 == 0 else "ä" * (row % 50) for row in range(n)]
    return pa.table(
        {
            "lon": rng.uniform(-180, 180, n),
            "count": pa.array([None if row % 5 == 0 else row for row in range(n)], pa.int32()),
            "vector": pa.FixedSizeListArray.from_arrays(vectors, 3),
            "text": pa.array(words),
            "raw": pa.array([bytes([row % 256]) for row in range(n)]),
            "flag": pa.array(rng.random(n) < 0.5),
        }
    )


def test_rows_have_fingerprints_of_their_own_wherever_they_lie() -> None:
    table = rows()
    words = fingerprints(table)
    assert len({tuple(word) for word in words.tolist()}) == len(table)
    order = np.random.default_rng(1).permutation(len(table))
    moved = pa.concat_tables([table.take(order[:700]), table.take(order[700:])])
    np.testing.assert_array_equal(fingerprints(moved), words[order])
    np.testing.assert_array_equal(fingerprints(table.slice(333, 99)), words[333:432])


def test_the_fingerprint_of_a_row_stays_what_it_was() -> None:
    """Else shards would change with a version."""
    assert fingerprints(rows(1)).tolist() == FIRST


def test_any_change_of_a_row_changes_its_fingerprint() -> None:
    table = pa.table({"a": [1.0, 1.0, 1.0, 2.0], "b": ["x", None, "", "x"]})
    words = fingerprints(table)
    assert len({tuple(word) for word in words.tolist()}) == 4
    twins = pa.table({"a": [0, 1], "b": [1, 0]})
    assert len({tuple(word) for word in fingerprints(twins).tolist()}) == 2


def test_fingerprints_look_random() -> None:
    words = fingerprints(pa.table({"n": np.arange(40_000)}))
    for lane in words.T:
        bits = np.unpackbits(lane.copy().view(np.uint8)).reshape(-1, 64).mean(axis=0)
        assert np.abs(bits - 0.5).max() < 0.015  # six standard deviations


def test_a_bin_is_read_without_the_others(tmp_path: Path) -> None:
    table, url = rows(), str(tmp_path / "rows.bins")
    bin_of = np.random.default_rng(0).integers(0, 4, len(table)) * 2  # none in the odd ones
    write_bins(url, table, bin_of, 8)
    for number in range(8):
        found = read_bin(url, number)
        expected = table.filter(pa.array(bin_of == number))
        assert (found is None) == (len(expected) == 0)
        assert found is None or found.equals(expected)


def test_a_damaged_bin_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.bins"
    write_bins(str(path), rows(100), np.arange(100) % 3, 3)
    content = path.read_bytes()
    for damaged in (content[:-1], content[:20], content[:-50] + b"x" + content[-49:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"rows\.bins is damaged; delete it and give the same"):
            read_bin(str(path), 2)
    path.unlink()
    with pytest.raises(UserError, match="is not there: workers on other nodes wrote it"):
        read_bin(str(path), 2)
