"""The training loop on a GPU, without Ray; tests of the command run it on CPUs, with Ray."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import raytrain
from raytrain.batch import Pairs
from raytrain.data.streams import LONLAT, OBSERVATION, Stream
from raytrain.training import checkpoint
from raytrain.training.board import Record
from raytrain.training.job import Job
from raytrain.training.loop import train
from raytrain.training.optim import build_optimizer

GPU = torch.device("cuda", 0)
STEPS = 40
LON, LAT = np.linspace(-180, 180, 50), np.linspace(-90, 90, 50)
pytestmark = pytest.mark.gpu


def batches(stream: Stream, rows: int) -> Iterator[Pairs]:
    """The stream of one worker as Ray hands it over: on the device, in batches."""
    kept: dict[str, torch.Tensor] = {}
    for visit in stream.visits(0, 1):
        columns = stream.read(visit)
        for name in (LONLAT, OBSERVATION):
            fresh = torch.from_numpy(columns[name]).to(GPU)
            kept[name] = torch.cat([kept[name], fresh]) if name in kept else fresh
        while len(kept[LONLAT]) >= rows:
            yield Pairs(kept[LONLAT][:rows], kept[OBSERVATION][:rows])
            kept = {name: column[rows:] for name, column in kept.items()}


def run(job: Job, stop_at: int | None = None) -> list[Record]:
    """Train from the newest checkpoint to the end, or to the step after `stop_at`."""
    start, records = checkpoint.latest(job.run_url), list[Record]()
    streams = job.streams_from(start.positions if start else {})

    def report(record: Record) -> bool:
        records.append(record)
        return record["step"] == stop_at

    opened = {name: batches(stream, job.rows(name)) for name, stream in streams.items()}
    train(job, opened, GPU, start, report)
    return [record for record in records if "loss" in record]


def settings(precision: str) -> list[str]:
    return [f"training.precision={precision}", f"training.steps={STEPS}", "optim.lr=1e-2"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_learns_and_its_checkpoint_is_read_without_a_gpu(
    tiny_world, precision: str, accumulate: int
) -> None:
    job = tiny_world.job("a", *settings(precision), f"training.accumulate={accumulate}")
    losses = [record["loss"] for record in run(job)]
    assert len(losses) == STEPS
    assert np.mean(losses[-5:]) < 0.9 * losses[0]
    here = raytrain.load(job.run_url).encode(LON, LAT)
    there = raytrain.load(job.run_url, device="cuda").encode(LON, LAT)
    # In float32 both: what differs is the order of sums.
    np.testing.assert_allclose(there, here, atol=1e-5 * np.abs(here).max())
    model = job.build_model()
    optimizer = build_optimizer(model, job.config.optim)
    start = checkpoint.latest(job.run_url)
    assert start is not None
    checkpoint.restore(start, model, optimizer)
    for state in optimizer.state.values():
        assert state["exp_avg"].device.type == "cpu"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_that_was_stopped_goes_on_as_if_it_was_not(tiny_world, precision: str) -> None:
    whole = {
        record["step"]: record["loss"] for record in run(tiny_world.job("a", *settings(precision)))
    }
    job = tiny_world.job("b", *settings(precision))
    before = run(job, stop_at=15)
    assert before[-1]["step"] == 16
    after = run(job)
    assert [record["step"] for record in after] == [*range(17, STEPS + 1)]
    # A GPU may add in another order each time.
    limit = 1e-3 if precision == "float32" else 0.05
    for record in after:
        assert record["loss"] == pytest.approx(whole[record["step"]], rel=limit)


def test_auto_is_bfloat16_and_near_float32(tiny_world) -> None:
    found = {
        name: run(tiny_world.job(name, *settings(name))) for name in ("auto", "bfloat16", "float32")
    }
    first = {name: records[0]["loss"] for name, records in found.items()}
    assert first["auto"] == first["bfloat16"] != first["float32"]
    assert first["auto"] == pytest.approx(first["float32"], rel=0.02)
