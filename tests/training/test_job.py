import itertools
import json
from pathlib import Path

import pytest

from raytrain.data.balance import BalanceConfig
from raytrain.data.preparation import PreparationError
from raytrain.data.shards import ShardError
from raytrain.errors import UserError


def test_a_job_knows_its_steps(tiny_world) -> None:
    job = tiny_world.job("a", "training.epochs=2")
    assert job.streams["weather"].samples > job.streams["words"].samples
    longest = -(-job.streams["weather"].samples // 32)
    assert job.total_steps() == 2 * longest
    assert [step.epoch for step in job.schedule()] == [0] * longest + [1] * longest


def test_salt_gives_streams_only_the_rows_that_they_need(tiny_world) -> None:
    job = tiny_world.job("a", "method.kind=salt", "training.steps=40")
    steps = [step.modalities for step in job.schedule()]
    assert len({*steps}) == 2
    assert all(len(modalities) == 1 for modalities in steps)
    streams = job.streams_from({"weather": ((2, 32),)})
    assert streams["words"].rows_wanted == 32 * steps.count(("words",))
    assert streams["weather"].rows_wanted == 32 * steps.count(("weather",)) - 64
    assert len([*itertools.groupby(steps)]) == 2


def test_shards_that_are_not_there(tiny_world) -> None:
    with pytest.raises(PreparationError) as error:
        tiny_world.job("a", f"data.root={tiny_world.folder}/nowhere")
    missing = f"{tiny_world.folder}/nowhere/weather"
    assert f"weather: there are no shards in {missing}" in str(error.value)


def test_a_missing_shard_is_named_before_the_start(tiny_world) -> None:
    tiny_world.shard("words", 2).unlink()
    with pytest.raises(ShardError, match=r"words/train-00002\.tar is missing.*Copy it again"):
        tiny_world.job("a")


def test_a_truncated_shard_is_named_before_the_start(tiny_world) -> None:
    shard = tiny_world.shard("weather", 1)
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(
        ShardError, match=r"weather/train-00001\.tar is truncated: 1,000 bytes, the manifest says"
    ):
        tiny_world.job("a")


def test_an_empty_modality(tiny_world) -> None:
    path = Path(tiny_world.root) / "words" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "shards": []}))
    with pytest.raises(UserError, match=r"words is empty: .*/words holds no training places"):
        tiny_world.job("a")


def test_fewer_places_than_a_global_batch(tiny_world) -> None:
    with pytest.raises(
        UserError,
        match=r"words has \d+ training places in .*/words, fewer than a global batch of 800; "
        r"prepare more places or lower training\.batch \(or training\.places\.words\)",
    ):
        tiny_world.job("a", "training.batch=800")
    job = tiny_world.job("a", "training.batch=800", "training.places.words=100")
    assert job.rows("words") == 100


def test_fewer_workers_share_the_same_batch(tiny_world) -> None:
    job = tiny_world.job("a", "training.batch=32", "scaling.min_workers=1", workers=4)
    assert [job.rows("words", workers) for workers in (4, 3, 2, 1)] == [8, 10, 16, 32]


def test_a_batch_that_workers_cannot_share(tiny_world) -> None:
    with pytest.raises(UserError, match="a batch of 32 weather pairs cannot be shared evenly by 3"):
        tiny_world.job("a", workers=3)


def test_a_field_that_the_shards_do_not_have(tiny_world) -> None:
    Path(tiny_world.card("words")).write_text("field: feature\ntower: {kind: projection}\n")
    with pytest.raises(ShardError, match="shards of words have no field `feature`; they hold obs"):
        tiny_world.job("a")


def test_a_tower_that_does_not_fit_the_observations(tiny_world) -> None:
    Path(tiny_world.card("words")).write_text("tower: {kind: cnn}\n")
    with pytest.raises(UserError, match="words: a cnn tower reads images"):
        tiny_world.job("a").build_model()


def test_places_are_balanced_by_modality(tiny_world) -> None:
    job = tiny_world.job("a", "data.balance.exponent=0.5", "data.balance_of.words.exponent=1")
    assert job.streams["weather"].balance == BalanceConfig(exponent=0.5)
    assert job.streams["words"].balance == BalanceConfig(exponent=1.0)
    for setting in (
        "data.balance_of.photos.exponent=1",
        "objective.logit_scale={per_modality: true, init_of: {photos: 2.0}}",
    ):
        with pytest.raises(UserError, match=r"(balance|init)_of: photos is not among"):
            tiny_world.job("a", setting)
