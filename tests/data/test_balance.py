"""Rows that are drawn by cell: how often, with how little chance, and as exactly as all others."""

import zlib
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from raytrain import geo
from raytrain.data.balance import BalanceConfig
from raytrain.data.manifest import Manifest
from raytrain.data.shards import read_shard
from raytrain.data.streams import LONLAT, OBSERVATION, STAND_IN, Stream
from raytrain.data.visits import Position, further
from raytrain.data.writer import Holdout, Observations, write_shards

EVENLY, HALF = BalanceConfig(exponent=1.0, cell_degrees=5.0), BalanceConfig(exponent=0.5)


def crowds(*counts: int) -> np.ndarray:
    """Places in cells of 5°, so many in each, in random order."""
    rng = np.random.default_rng(0)
    middle = np.array([[2.5 + 10 * i, 2.5] for i in range(len(counts))])
    lonlat_deg = np.repeat(middle, counts, axis=0) + rng.uniform(-1, 1, (sum(counts), 2))
    return np.asarray(rng.permutation(lonlat_deg))


def drawn_by_cell(balance: BalanceConfig, lonlat_deg: np.ndarray, seed: int = 0) -> list[int]:
    rows = balance.draw(lonlat_deg, np.random.default_rng(seed))
    assert len(rows) == len(lonlat_deg)
    cells = np.floor(lonlat_deg[rows, 0] / 10).astype(int)
    return np.bincount(cells, minlength=1 + int(lonlat_deg[:, 0].max() // 10)).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_cells_are_drawn_by_the_power_of_their_places(seed: int) -> None:
    """Never further than one from what is expected, whatever the chance."""
    lonlat_deg, n = crowds(900, 90, 9, 1), 1000
    assert drawn_by_cell(EVENLY, lonlat_deg, seed) == [n // 4] * 4
    half = replace(HALF, cell_degrees=5.0)
    expected = np.sqrt([900, 90, 9, 1]) / np.sqrt([900, 90, 9, 1]).sum() * n
    assert np.abs(drawn_by_cell(half, lonlat_deg, seed) - expected).max() < 1
    nothing = replace(EVENLY, exponent=0.0)
    assert drawn_by_cell(nothing, lonlat_deg, seed) == [900, 90, 9, 1]


def test_rows_of_a_cell_are_repeated_as_evenly_as_can_be() -> None:
    lonlat_deg = crowds(700, 20, 80)
    rows = EVENLY.draw(lonlat_deg, np.random.default_rng(1))
    times = np.bincount(rows, minlength=800)
    cell = np.floor(lonlat_deg[:, 0] / 10)
    for number, count in enumerate((700, 20, 80)):
        expected = 800 / 3 / count
        assert {*times[cell == number]} <= {int(expected), int(expected) + 1}
    assert not np.array_equal(rows, EVENLY.draw(lonlat_deg, np.random.default_rng(2)))


def test_places_that_lie_evenly_are_each_drawn_about_once() -> None:
    lonlat_deg = geo.random_on_sphere(8000, np.random.default_rng(0))
    rows = BalanceConfig(exponent=1.0, cell_degrees=20.0).draw(lonlat_deg, np.random.default_rng(0))
    assert len({*rows.tolist()}) > 0.9 * len(rows)


def test_rows_without_a_place_are_a_cell_of_their_own() -> None:
    lonlat_deg = crowds(50, 40)
    lonlat_deg[:10] = np.nan
    rows = EVENLY.draw(lonlat_deg, np.random.default_rng(0))
    assert np.sum(rows < 10) == 30


@pytest.mark.parametrize("wrong", [{"exponent": 1.5}, {"cell_degrees": 0.0}])
def test_settings_that_mean_nothing(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*; give"):
        BalanceConfig(**wrong)


@pytest.fixture(scope="module", params=["columns", "samples"])
def stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stream:
    """600 places, most of them in one cell, whose observation is the number of the row."""
    url = str(tmp_path_factory.mktemp("crowd"))
    rows = np.arange(600, dtype=np.float32)[:, None]
    made = Observations.of_arrays(crowds(480, 90, 30), {"row": rows})
    made = replace(made, layout=request.param)
    write_shards(url, made, modality="rows", shard_rows=100, holdout=Holdout(share=0.0))
    manifest = Manifest.load(url)
    return Stream(
        modality="rows", url=url, manifest=manifest, observation="row", seed=3, balance=EVENLY
    )


def taken(stream: Stream, rank: int, world: int, rows: int) -> np.ndarray:
    """The first rows of a rank's stream."""
    parts: list[np.ndarray] = []
    for visit in stream.visits(rank, world):
        parts.append(stream.read(visit)[OBSERVATION][:, 0])
        if sum(map(len, parts)) >= rows:
            return np.concatenate(parts)[:rows]
    raise AssertionError("a stream is endless")


def test_an_epoch_is_balanced_and_as_long_as_without(stream: Stream) -> None:
    columns = [stream.read(visit) for visit, _ in zip(stream.visits(0, 1), range(6), strict=False)]
    lonlat_deg = np.concatenate([c[LONLAT] for c in columns])
    shares = np.bincount(np.floor(lonlat_deg[:, 0] / 10).astype(int)) / stream.samples
    assert shares == pytest.approx([1 / 3] * 3, abs=0.01)
    rows = np.concatenate([c[OBSERVATION][:, 0] for c in columns])
    assert len(rows) == stream.samples
    second = taken(stream, 0, 1, 2 * len(rows))[len(rows) :]
    assert len({*rows, *second}) > len({*rows})  # another draw of the crowd


def test_every_row_comes_with_its_own_place(stream: Stream) -> None:
    places = {}
    for visit, _ in zip(
        replace(stream, balance=BalanceConfig()).visits(0, 1), range(6), strict=False
    ):
        columns = replace(stream, balance=BalanceConfig()).read(visit)
        places |= dict(zip(columns[OBSERVATION][:, 0], map(tuple, columns[LONLAT]), strict=True))
    columns = stream.read(next(stream.visits(0, 1)))
    for number, place in zip(columns[OBSERVATION][:, 0], columns[LONLAT], strict=True):
        assert places[number] == tuple(place)


@pytest.mark.parametrize("done", [0, 1, 99, 100, 450, 1234])
def test_a_position_is_the_number_of_rows_taken(stream: Stream, done: int) -> None:
    for rank, world in ((0, 1), (1, 2)):
        whole = taken(stream, rank, world, done + 150)
        later = taken(replace(stream, position=((world, done),)), rank, world, 150)
        assert np.array_equal(later, whole[done:])


def test_the_rows_are_the_same_however_many_ranks_take_them(stream: Stream) -> None:
    """Two epochs, as one rank draws them, and as ranks that come and go do."""
    alone = Counter(taken(stream, 0, 1, 2 * stream.samples).tolist())
    position, together = Position(), Counter[float]()
    for world, rows in ((3, 100), (2, 150), (1, 100), (1, 500)):
        for rank in range(world):
            here = replace(stream, position=position)
            together.update(taken(here, rank, world, rows).tolist())
        position = further(position, world, rows)
    assert sum(together.values()) == sum(alone.values()) == 1200
    assert together == alone


def test_a_row_of_no_use_is_replaced_and_counted(tiny_world: Any) -> None:
    """The picture of a row cannot be decoded, so nothing is known of its place either."""
    tiny_world.rewrite(tiny_world.shard("tiles", 1), {"000003.observation.png": b"no picture"})
    (stream,) = tiny_world.job(
        "a",
        f"data.modalities={tiny_world.card('tiles')}",
        "data.balance_of.tiles={exponent: 0.5, cell_degrees: 30}",
    ).streams.values()
    assert stream.balance == BalanceConfig(exponent=0.5, cell_degrees=30.0)
    visit = next(v for v in stream.visits(0, 1) if v.shard.name == "train-00001.tar")
    columns = stream.read(visit)
    assert 1 <= np.sum(columns[STAND_IN] >= 0) < 20
    assert len(columns[LONLAT]) == visit.shard.samples
    assert np.isfinite(columns[LONLAT]).all()


def test_a_stream_that_is_not_balanced_is_what_it_was(stream: Stream) -> None:
    """The order of rows is drawn from (seed, modality, epoch, shard), as runs of before had it."""
    plain = replace(stream, balance=BalanceConfig(cell_degrees=1.0))
    visit = next(plain.visits(0, 1))
    number = plain.manifest.shards_of("train").index(visit.shard)
    rng = np.random.default_rng([plain.seed, zlib.crc32(b"rows"), visit.epoch, number])
    written, skipped = read_shard(plain.url, visit.shard, plain.fields, plain.manifest.layout)
    assert not skipped
    expected = written["row"][rng.permutation(visit.shard.samples)]
    assert np.array_equal(plain.read(visit)[OBSERVATION], expected)
