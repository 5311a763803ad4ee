"""A look is a part, drawn by a seed, and its figures are those of its rows."""

from pathlib import Path

import numpy as np
import pytest
from inspection_shards import ROWS, Make, change_manifest, numbers, on_land, reseal

from raytrain.data.manifest import Field, Manifest
from raytrain.data.shards import read_shard
from raytrain.inspection import look as looking
from raytrain.inspection.look import look
from raytrain.inspection.tally import Numbers


@pytest.mark.parametrize("shape", [(3,), (2, 5, 4), ()])
def test_figures_of_parts_are_those_of_all(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(1e4, 1, (1000, *shape)).astype(np.float64)
    values.reshape(1000, -1)[[3, 500], 0] = np.nan, np.inf
    tally = Numbers(Field(dtype="float64", shape=shape), 4, rng)
    for part in np.split(values, [10, 400, 401]):
        tally.add(part)
    tally.add(values[:0])
    flat = np.moveaxis(values.reshape(1000, shape[0] if shape else 1, -1), 1, 0)
    finite = [channel[np.isfinite(channel)] for channel in flat]
    np.testing.assert_allclose(tally.mean, [c.mean() for c in finite])
    np.testing.assert_allclose(tally.std, [c.std() for c in finite], rtol=1e-6)
    assert tally.low.tolist() == [c.min() for c in finite]
    assert tally.high.tolist() == [c.max() for c in finite]
    assert tally.not_finite.tolist() == [2] + [0] * (len(finite) - 1)
    assert {*tally.sample(0)} <= {*finite[0]}
    assert tally.copies.count == 0


def test_a_part_is_looked_at_and_the_seed_draws_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make()
    assert look(url).is_whole
    assert look(url).rows == ROWS
    monkeypatch.setattr(looking, "MOST_ROWS", 30)
    seen = look(url, most_shards=3)
    assert {shard.split for shard in seen.shards} == {"train", "val"}
    assert len(seen.shards) == 3
    assert not seen.is_whole
    assert seen.rows <= 90
    again, other = look(url, 3), look(url, 3, seed=1)
    assert np.array_equal(seen.lonlat_deg, again.lonlat_deg)
    assert not np.array_equal(seen.lonlat_deg, other.lonlat_deg)


def test_values_are_those_of_training_rows(make: Make) -> None:
    url = make()
    manifest = Manifest.load(url)
    train = [read_shard(url, s, manifest.fields)[0]["value"] for s in manifest.shards_of("train")]
    tally = look(url).fields["value"]
    assert isinstance(tally, Numbers)
    assert tally.rows == manifest.samples("train") < ROWS
    np.testing.assert_allclose(tally.mean, np.concatenate(train).mean(axis=0), rtol=1e-5)


def test_rows_that_cannot_be_used_are_counted_by_reason(make: Make) -> None:
    """Places of NaN are written into a shard behind the manifest's back."""
    url = make()
    shard = Path(url) / "train-00000.tar"
    content, places = bytearray(shard.read_bytes()), on_land()
    for place in places[:300]:
        if (at := content.find(place.tobytes())) >= 0:
            content[at : at + 8] = np.float64(np.nan).tobytes()
    shard.write_bytes(content)
    bad = sum(content.count(place.tobytes()) == 0 for place in places)
    change_manifest(url, lambda m: reseal(m, shard.name, bytes(content)))
    ((reason, (count, first)),) = look(url).skipped.items()
    assert reason.startswith("lon …, lat … is not a number")
    assert 10 < count < 100
    assert first.startswith("train-00000.tar, row ")
    assert count <= bad


def test_numbers_of_a_sample_are_kept_and_no_whole_shard(make: Make) -> None:
    seen = look(make(numbers()))
    assert len(seen.samples) == looking.SHOWN
    assert all(sample.observed["value"].base is None for sample in seen.samples)
