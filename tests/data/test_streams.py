"""What a stream promises: every row once an epoch, a new order each, and exact positions."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from raytrain.data.augment import AugmentConfig, augmented, centred
from raytrain.data.manifest import Manifest, ShardError
from raytrain.data.streams import LONLAT, OBSERVATION, STAND_IN, Stream
from raytrain.data.visits import Position, further, rows_taken
from raytrain.data.writer import Observations, write_shards
from raytrain.geo import held_out, random_on_sphere


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    """A modality of 1,000 places whose observation is the number of the row."""
    url = str(tmp_path_factory.mktemp("rows"))
    lonlat_deg = random_on_sphere(1000, np.random.default_rng(0))
    rows = np.arange(1000, dtype=np.float32)[:, None]
    made = Observations.of_arrays(lonlat_deg, {"row": rows})
    write_shards(url, made, modality="rows", shard_rows=128)
    return Stream(modality="rows", url=url, manifest=Manifest.load(url), observation="row", seed=3)


def taken(stream: Stream, rank: int, world: int, rows: int) -> NDArray[np.float32]:
    """The first rows of a rank's stream."""
    parts: list[NDArray[np.float32]] = []
    for visit in stream.visits(rank, world):
        parts.append(stream.read(visit)[OBSERVATION][:, 0])
        if sum(map(len, parts)) >= rows:
            return np.concatenate(parts)[:rows]
    raise AssertionError("a stream is endless")


def test_an_epoch_is_every_training_row_once(stream: Stream) -> None:
    first = taken(stream, 0, 1, stream.samples)
    assert len({*first.tolist()}) == stream.samples
    second = taken(stream, 0, 1, 2 * stream.samples)[stream.samples :]
    assert sorted(second) == sorted(first)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("world", [2, 3, 11])
def test_ranks_share_every_epoch_and_drop_nothing(stream: Stream, world: int) -> None:
    """More ranks than shards too: then some are an epoch ahead."""
    shards = len(stream.manifest.shards_of("train"))
    visits = [itertools.islice(stream.visits(rank, world), shards) for rank in range(world)]
    counts = Counter((v.shard.name, v.epoch) for rank in visits for v in rank)
    assert set(counts.values()) == {1}
    assert len(counts) == world * shards
    assert {epoch for _, epoch in counts} == {*range(world)}


@pytest.mark.parametrize("done", [0, 1, 127, 128, 500, 949, 2500])
def test_a_position_is_the_number_of_rows_taken(stream: Stream, done: int) -> None:
    for rank, world in ((0, 1), (1, 2)):
        whole = taken(stream, rank, world, done + 300)
        later = taken(replace(stream, position=((world, done),)), rank, world, 300)
        assert np.array_equal(later, whole[done:])


def test_no_row_is_lost_or_comes_twice_where_the_number_of_ranks_changes(stream: Stream) -> None:
    """Each so many ranks take so many rows each, and the next go on; all of it makes whole epochs,
    in which every row comes once, but for the shards that the last ranks have begun."""
    phases = ((3, 100), (2, 170), (3, 90), (1, 1), (5, 130), (4, 64))
    position, seen = Position(), Counter[tuple[int, float]]()
    for world, rows in phases:
        for rank in range(world):
            wanted = rows
            for visit in replace(stream, position=position).visits(rank, world):
                numbers = stream.read(visit)[OBSERVATION][:wanted, 0].tolist()
                seen.update((visit.epoch, number) for number in numbers)
                wanted -= len(numbers)
                if not wanted:
                    break
        position = further(position, world, rows)
    assert position == phases
    assert sum(seen.values()) == rows_taken(position) == sum(w * r for w, r in phases)
    assert max(seen.values()) == 1
    left = replace(stream, position=position).visits(0, 1)
    rest = Counter[tuple[int, float]]()
    for visit in itertools.takewhile(lambda visit: visit.epoch < 3, left):
        rest.update((visit.epoch, n) for n in stream.read(visit)[OBSERVATION][:, 0].tolist())
    assert {*(seen | rest).values()} == {1}
    for epoch in range(3):
        assert sum(e == epoch for e, _ in seen | rest) == stream.samples


def test_another_seed_or_modality_has_another_order(stream: Stream) -> None:
    orders = [
        taken(changed, 0, 1, 300).tolist()
        for changed in (stream, replace(stream, seed=4), replace(stream, modality="other"))
    ]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_training_and_validation_places_lie_in_different_blocks(stream: Stream) -> None:
    for visit in itertools.islice(stream.visits(0, 1), 8):
        assert not held_out(stream.read(visit)[LONLAT]).any()
    assert held_out(stream.validation(10_000)[LONLAT]).all()
    assert len(stream.validation(7)[LONLAT]) == 7


def test_augmentation_repeats_after_a_resume(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (300, 2, 8, 8), dtype=np.uint8)
    made = Observations.of_arrays(random_on_sphere(300, rng), {"image": images})
    write_shards(str(tmp_path), made, modality="image", shard_rows=64)
    whole = Stream(
        modality="image",
        url=str(tmp_path),
        manifest=Manifest.load(str(tmp_path)),
        observation="image",
        augment=AugmentConfig(flip=True, crop_px=6),
    )
    visit, later = (next(replace(whole, position=((1, n),)).visits(0, 1)) for n in (0, 20))
    assert np.array_equal(whole.read(visit)[OBSERVATION][20:], whole.read(later)[OBSERVATION])
    again = next(v for v in whole.visits(0, 1) if v.epoch == 1)
    assert whole.read(again)[OBSERVATION].shape[1:] == (2, 6, 6)


def test_crops_and_flips() -> None:
    images = np.arange(2 * 1 * 4 * 4).reshape(2, 1, 4, 4)
    config = AugmentConfig(flip=True, crop_px=2)
    corner = augmented(images, np.array([[0, 0, 0.9, 0.9], [0.99, 0.99, 0.9, 0.9]]), config)
    assert np.array_equal(corner[0, 0], images[0, 0, :2, :2])
    assert np.array_equal(corner[1, 0], images[1, 0, 2:, 2:])
    flipped = augmented(images, np.array([[0, 0, 0.1, 0.1]] * 2), AugmentConfig(flip=True))
    assert np.array_equal(flipped, images[..., ::-1, ::-1])
    assert np.array_equal(centred(images, config)[0, 0], images[0, 0, 1:3, 1:3])


def test_other_rows_stand_in_for_those_that_cannot_be_used(stream: Stream, tmp_path: Path) -> None:
    """A place of NaN is written into a shard behind the manifest's back."""
    names = [shard.name for shard in stream.manifest.shards_of("train")]
    for path in Path(stream.url).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    visit = next(stream.visits(0, 1))
    content = bytearray((tmp_path / visit.shard.name).read_bytes())
    bad = stream.read(visit)[LONLAT][5].tobytes()
    at = content.index(bad)
    content[at : at + 8] = np.float64(np.nan).tobytes()
    (tmp_path / visit.shard.name).write_bytes(content)
    spoilt = replace(stream, url=str(tmp_path), verify=False)
    columns, whole = spoilt.read(visit), stream.read(visit)
    assert columns[STAND_IN].tolist().count(names.index(visit.shard.name)) == 1
    assert np.flatnonzero(columns[STAND_IN] >= 0).tolist() == [5]
    others = np.arange(len(whole[OBSERVATION])) != 5
    assert np.array_equal(columns[OBSERVATION][others], whole[OBSERVATION][others])
    assert np.isfinite(columns[LONLAT]).all()
    with pytest.raises(ShardError, match="sha256"):
        replace(spoilt, verify=True).read(visit)
