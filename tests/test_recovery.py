"""Runs that are killed, stopped and go on: equal, bit for bit, to the run that never was."""

import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow

STEPS, EVERY = 105, 15  # a pass over the modalities takes 27 and 15 steps
SETTINGS = (
    f"training.steps={STEPS}",
    f"training.checkpoint_every={EVERY}",
    "training.validate_every=30",
    "training.accumulate=4",  # steps slow enough for a kill to land between two checkpoints
    "scaling.workers=2",
)


def arguments(world: Any, name: str, *overrides: str) -> list[str]:
    return list(world.arguments(name, *SETTINGS, *overrides, modalities="weather words"))


def test_a_run_that_is_disturbed_in_every_way_equals_one_that_is_not(tiny_world: Any) -> None:
    """A worker straggles, another is killed; then the command is, then Ray Train's controller, then
    it is stopped; and the run goes on each time, to the same end."""
    world, name = tiny_world, "disturbed"
    status, said = world.run(arguments(world, "whole"))
    assert status == 0, said
    assert len(world.metrics("whole")) == STEPS
    again = arguments(world, name, f"tracking.uri=sqlite:///{world.folder}/mlflow.db")

    run = world.start(again)
    workers = run.wait_for_workers(2)
    run.wait_for(world.checkpoint_of(name, EVERY))
    time.sleep(0.2)  # some steps more, which will be repeated
    workers[1].suspend()  # one that straggles is waited for
    time.sleep(1)
    workers[1].resume()
    workers[0].kill()
    before = world.checkpoint(name)
    run.wait_until(lambda: world.checkpoint(name) > before, "another checkpoint")
    descendants = run.descendants()
    run.signal(signal.SIGKILL)
    said = run.finish()[1]
    assert "a worker was lost; training goes on from step" in said
    assert "Traceback" not in said
    assert psutil.wait_procs(descendants, timeout=60)[1] == []  # Ray ends with its driver
    reached = step_of(world.checkpoint(name))
    assert [*world.metrics(name)][:reached] == [*range(1, reached + 1)]  # none is lost

    run = world.start(again)
    run.wait_until(lambda: bool(run.workers("TrainController")), "the controller")
    run.wait_for_workers(2)
    run.workers("TrainController")[0].kill()
    status, said = run.finish()
    assert status == 2, said
    assert "Ray Train's controller was lost; the same command with the run's name goes on" in said

    before = world.checkpoint(name)
    run = world.start(again)
    run.wait_until(lambda: world.checkpoint(name) > before, "another checkpoint")
    run.signal(signal.SIGINT)
    status, said = run.finish()
    assert status == 130, said
    assert f"{name} goes on from step " in said
    assert "stopping with a checkpoint; Ctrl-C again stops at once" in said
    reached = step_of(world.checkpoint(name))
    assert step_of(before) + EVERY < reached < STEPS
    assert (
        f"Stopped after step {reached} of {STEPS}; its checkpoint is in {world.storage}/{name}. "
        f"Go on with the same command and name={name}"
    ) in said
    assert "Traceback" not in said

    status, said = world.run(again)
    assert status == 0, said
    assert f"{name} goes on from step {reached}" in said
    assert_equals_whole(world, name)
    assert_one_mlflow_run(world, name)


def assert_equals_whole(world: Any, name: str) -> None:
    """Every figure of every step, each written once, and every weight."""
    expected, found = world.metrics("whole"), world.metrics(name)
    assert [*found] == [*range(1, STEPS + 1)]
    for step, record in found.items():  # where a run stopped it was validated once more
        assert {key: record.get(key) for key in expected[step]} == expected[step], step
    assert world.weights(name) == world.weights("whole")


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint_"))


def assert_one_mlflow_run(world: Any, name: str) -> None:
    """However often the run went on, MLflow has one, finished, with each step once."""
    with closing(sqlite3.connect(world.folder / "mlflow.db")) as database:
        runs = database.execute("select name, status from runs").fetchall()
        logged = database.execute("select step, value from metrics where key = 'loss'").fetchall()
    assert runs == [(name, "FINISHED")]
    assert sorted(step for step, _ in logged) == [*range(1, STEPS + 1)]
    expected = world.metrics("whole")
    assert [step for step, loss in logged if loss != expected[step]["loss"]] == []
