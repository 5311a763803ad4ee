"""How workers share a stream: for any number of them, of shards and of epochs, nothing twice and
nothing left out."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from raytrain.data.manifest import Field, Manifest, Shard
from raytrain.data.streams import Stream
from raytrain.data.visits import Position, Visit, further


def any_stream(rng: np.random.Generator, shards: int) -> Stream:
    """A stream of shards of any sizes, which are never read."""
    made = [
        Shard(name=f"{split}-{n}.tar", split=split, samples=int(rows), bytes=0, sha256="")
        for split, count in (("train", shards), ("val", 2))
        for n, rows in enumerate(rng.integers(50, 900, count))
    ]
    manifest = Manifest(
        modality="any",
        layout="columns",
        fields={"row": Field(dtype="float32", shape=(1,))},
        shards=tuple(made[n] for n in rng.permutation(len(made))),
    )
    seed = int(rng.integers(1_000_000))
    return Stream(modality="any", url="/none", manifest=manifest, observation="row", seed=seed)


def first(stream: Stream, rank: int, world: int, visits: int) -> list[Visit]:
    return [*itertools.islice(stream.visits(rank, world), visits)]


def rows(visits: list[Visit]) -> list[tuple[str, int, int]]:
    """Each row by shard, epoch and its number in the epoch's order."""
    return [(v.shard.name, v.epoch, n) for v in visits for n in range(v.skip, v.shard.samples)]


@pytest.mark.parametrize("world", [1, 2, 3, 7, 10, 64])
def test_workers_share_shards_without_overlap_and_leave_none_out(world: int) -> None:
    rng = np.random.default_rng(world)
    for shards in (1, 2, 9, 10, 11, 57, *rng.integers(1, 300, 10).tolist()):
        stream, epochs = any_stream(rng, shards), int(rng.integers(1, 6))
        each = -(-epochs * shards // world)  # visits of a rank until all epochs are through
        visited = [first(stream, rank, world, each) for rank in range(world)]
        counts = Counter((v.shard.name, v.epoch) for visits in visited for v in visits)
        assert {*counts.values()} == {1}
        train = [shard.name for shard in stream.manifest.shards_of("train")]
        assert counts.keys() >= {*itertools.product(train, range(epochs))}
        assert {name for name, _ in counts} == {*train}
        assert not any(v.skip for visits in visited for v in visits)


def taken(stream: Stream, world: int, rows_each: int) -> list[tuple[str, int, int]]:
    """All rows that the workers take, so many each."""
    visits = rows_each // 50 + 2  # begun ones among them
    return [
        row for rank in range(world) for row in rows(first(stream, rank, world, visits))[:rows_each]
    ]


@pytest.mark.parametrize("worlds", [(10, 10), (1, 10), (10, 3, 7), (3, 12, 2)])
def test_workers_may_come_and_go_anywhere(worlds: tuple[int, ...]) -> None:
    """No row comes twice, and the first epoch is whole once the last workers took as much each."""
    rng = np.random.default_rng(worlds)
    for shards in (1, 10, *rng.integers(1, 40, 3).tolist()):
        stream, found = any_stream(rng, shards), list[tuple[str, int, int]]()
        *before, last = [(world, int(rng.integers(2000))) for world in worlds]
        for number, (world, rows_each) in enumerate([*before, (last[0], stream.samples)]):
            here = replace(stream, position=positions(before[:number]))
            found += taken(here, world, rows_each)
        assert len({*found}) == len(found)
        assert sum(epoch == 0 for _, epoch, _ in found) == stream.samples


def positions(phases: list[tuple[int, int]]) -> Position:
    position: Position = ()
    for world, rows_each in phases:
        position = further(position, world, rows_each)
    return position
