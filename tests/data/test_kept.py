"""Shards that are kept in Ray's object store: the same batches, and no file is read again."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raytrain.data import kept
from raytrain.data.reader import ByThread, Reader
from raytrain.data.shards import ShardError
from raytrain.data.streams import Stream

pytestmark = pytest.mark.usefixtures("local_ray")


def streams(world: Any, modalities: str) -> dict[str, Stream]:
    cards = ",".join(world.card(name) for name in modalities.split())
    found: dict[str, Stream] = world.job("a", f"data.modalities={cards}").streams
    return found


def first_batches(stream: Stream, count: int = 40, rows: int = 64) -> list[dict[str, Any]]:
    return [*islice(stream.batches(rows), count)]


@pytest.mark.parametrize("modality", ["weather", "tiles"])
def test_batches_are_the_same_and_no_file_is_read(tiny_world: Any, modality: str) -> None:
    stream = streams(tiny_world, modality)[modality]
    wanted, held_out = first_batches(stream), stream.validation(50)
    sharing = kept.keep([stream])
    assert sharing.bytes_read == sum(shard.bytes for shard in stream.manifest.shards)
    for shard in stream.manifest.shards:
        Path(stream.shard_url(shard)).unlink()
    shared = replace(stream, kept=sharing.kept)
    for batch, other in zip(wanted, first_batches(shared), strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])
    for name, column in shared.validation(50).items():
        np.testing.assert_array_equal(held_out[name], column)


def test_a_row_that_cannot_be_used_is_counted_as_before(tiny_world: Any) -> None:
    stream = streams(tiny_world, "tiles")["tiles"]
    tiny_world.rewrite(tiny_world.shard("tiles", 1), {"000003.observation.png": b"no picture"})
    damaged = streams(tiny_world, "tiles")["tiles"]
    shared = replace(damaged, kept=kept.keep([damaged]).kept)
    found = first_batches(shared)
    for batch, other in zip(first_batches(damaged), found, strict=True):
        np.testing.assert_array_equal(batch["observation"], other["observation"])
    skipped: list[dict[str, int]] = []
    reader = Reader(
        shared,
        lambda: ByThread(shared, 64, torch.device("cpu")),
        world=1,
        max_skipped_share=1.0,
        on_skipped=lambda modality, shards: skipped.append(shards),
    )
    for _ in range(40):
        next(reader)
    assert skipped
    assert {name for shards in skipped for name in shards} == {"train-00001.tar"}
    assert stream.samples == damaged.samples


def test_a_damaged_shard_is_named(tiny_world: Any) -> None:
    stream = streams(tiny_world, "weather")["weather"]
    shard = tiny_world.shard("weather")
    content = bytearray(shard.read_bytes())
    content[2000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ShardError, match=f"{shard} is changed: its sha256 is"):
        kept.keep([stream])


def test_what_does_not_fit_is_not_kept(tiny_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "SHARE", 1e-9)
    sharing = kept.keep(streams(tiny_world, "weather words").values())
    assert not sharing.kept
    assert sharing.bytes_read == 0
    assert "do not fit into the object store" in sharing.words
