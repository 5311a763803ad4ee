"""Checkpoints are written beside the training, and a storage that refuses them does not end it."""

import threading
from pathlib import Path

import pytest
import torch

from raytrain.training import checkpoint, saver
from raytrain.training.checkpoint import CheckpointError, Snapshot
from raytrain.training.job import Job
from raytrain.training.optim import build_optimizer
from raytrain.training.saver import Saver


def snapshot(job: Job, step: int) -> Snapshot:
    model = job.build_model()
    return checkpoint.snapshot(model, build_optimizer(model, job.config.optim), step, {})


def a_saver(job: Job, said: list[str]) -> Saver:
    return Saver(job.run_url, job.resolved, keep=2, say=said.append)


def steps(job: Job) -> list[str]:
    return sorted(path.name[-3:] for path in Path(job.run_url).glob("checkpoint_*"))


def test_training_does_not_wait_and_the_newest_counts(
    tiny_world, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, said = tiny_world.job("a"), list[str]()
    begun, go_on, save = threading.Event(), threading.Event(), checkpoint.save

    def slowly(*arguments: object) -> object:
        begun.set()
        go_on.wait()
        return save(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "save", slowly)
    writer = a_saver(job, said)
    writer.save(snapshot(job, 1))
    begun.wait()
    for step in (2, 3, 4):
        writer.save(snapshot(job, step))
    assert steps(job) == []
    go_on.set()
    writer.finish()
    assert steps(job) == ["001", "004"]
    assert said == []


def test_a_snapshot_is_not_changed_by_what_training_does_next(tiny_world) -> None:
    job = tiny_world.job("a")
    model = job.build_model()
    optimizer = build_optimizer(model, job.config.optim)
    copies = []
    for step in (1, 2):
        sum(p.sum() for p in model.parameters() if p.requires_grad).backward()
        optimizer.step()
        copies.append(checkpoint.snapshot(model, optimizer, step, {}))
    weights = [torch.cat([v.flatten() for v in copy.weights.values()]) for copy in copies]
    assert (weights[0] != weights[1]).any()
    moments = [copy.optimizer["state"][0]["exp_avg"] for copy in copies]
    assert (moments[0] != moments[1]).any()


def test_what_the_storage_refuses_is_said_once_and_the_next_is_tried(tiny_world) -> None:
    job, said = tiny_world.job("a"), list[str]()
    Path(job.run_url).parent.mkdir(parents=True, exist_ok=True)
    Path(job.run_url).write_text("a file is no folder to write into")
    writer = a_saver(job, said)
    for step in (1, 2):
        writer.save(snapshot(job, step))
        writer.writing[-1].result()
    assert len(said) == 1
    assert said[0].startswith(f"the checkpoint of step 1 cannot be written ({job.run_url}/check")
    assert said[0].endswith("training goes on, and the next is tried")
    Path(job.run_url).unlink()
    writer.save(snapshot(job, 3))
    writer.finish()
    assert steps(job) == ["003"]
    assert said[1:] == ["the checkpoint of step 3 was written"]


def test_the_last_one_is_tried_until_it_is_written(
    tiny_world, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "PAUSE_S", 0.05)
    job, said = tiny_world.job("a"), list[str]()
    Path(job.run_url).parent.mkdir(parents=True, exist_ok=True)
    Path(job.run_url).write_text("in the way")
    writer = a_saver(job, said)
    writer.save(snapshot(job, 5))
    threading.Timer(0.3, Path(job.run_url).unlink).start()
    writer.finish()
    assert steps(job) == ["005"]
    assert said[-1] == "the checkpoint of step 5 was written"

    monkeypatch.setattr(saver, "PATIENCE_S", 0.2)
    Path(tiny_world.job("b").run_url).write_text("for good")
    writer = a_saver(tiny_world.job("b"), said)
    writer.save(snapshot(job, 5))
    with pytest.raises(CheckpointError, match=r"of step 5, cannot be written: .*goes on from the"):
        writer.finish()


def test_a_checkpoint_that_may_not_be_written_is_not(tiny_world) -> None:
    job = tiny_world.job("a")
    even = Saver(job.run_url, job.resolved, keep=2, say=print, may_save=lambda step: step % 2 == 0)
    for step in (4, 5):
        even.save(snapshot(job, step))
        even.writing[-1].result()
    even.finish()
    assert steps(job) == ["004"]
