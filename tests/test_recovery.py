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

STEPS, EVERY = 90, 15  # a pass over the modalities takes 27 and 15 steps
SETTINGS = (
    f"training.steps={STEPS}",
    f"training.checkpoint_every={EVERY}",
    "training.validate_every=30",
    "training.accumulate=4",  # steps slow enough for a kill to land between two checkpoints
    "scaling.workers=2",
)


def arguments(world: Any, name: str, *overrides: str) -> list[str]:
    return list(world.arguments(name, *SETTINGS, *overrides, modalities="weather words"))


@pytest.fixture(scope="module")
def whole(module_world: Any) -> Any:
    """The world of the run `whole`, which nothing disturbed."""
    status, said = module_world.run(arguments(module_world, "whole"))
    assert status == 0, said
    assert len(module_world.metrics("whole")) == STEPS
    return module_world


def assert_equals_whole(world: Any, name: str) -> None:
    """Every figure of every step, each written once, and every weight."""
    expected, found = world.metrics("whole"), world.metrics(name)
    assert [*found] == [*range(1, STEPS + 1)]
    for step, record in found.items():  # where a run stopped it was validated once more
        assert {name: record.get(name) for name in expected[step]} == expected[step], step
    assert world.weights(name) == world.weights("whole")


def test_a_worker_is_killed_and_the_run_recovers_by_itself(whole: Any) -> None:
    run = whole.start(arguments(whole, "lost-worker"))
    workers = run.wait_for_workers(2)
    run.wait_for(whole.checkpoint_of("lost-worker", EVERY))
    time.sleep(0.2)  # some steps more, which will be repeated
    workers[1].suspend()  # one that straggles is waited for
    time.sleep(1)
    workers[1].resume()
    workers[0].kill()
    status, said = run.finish()
    assert status == 0, said
    assert "a worker was lost; training goes on from step" in said
    assert "Traceback" not in said
    assert_equals_whole(whole, "lost-worker")


def test_a_run_that_was_killed_and_then_stopped_goes_on(whole: Any) -> None:
    again = arguments(whole, "stopped", f"tracking.uri=sqlite:///{whole.folder}/mlflow.db")
    run = whole.start(again)
    run.wait_for(whole.checkpoint_of("stopped", EVERY))
    time.sleep(0.2)
    descendants = run.descendants()
    run.signal(signal.SIGKILL)
    run.finish()
    assert psutil.wait_procs(descendants, timeout=60)[1] == []  # Ray ends with its driver
    reached = step_of(whole.checkpoint("stopped"))
    assert [*range(1, reached + 1)] == [*whole.metrics("stopped")][:reached]

    run = whole.start(again)
    run.wait_until(lambda: bool(run.workers("TrainController")), "the controller")
    run.wait_for_workers(2)
    run.workers("TrainController")[0].kill()
    status, said = run.finish()
    assert status == 2, said
    assert "Ray Train's controller was lost; the same command with the run's name goes on" in said

    before = whole.checkpoint("stopped")
    run = whole.start(again)
    run.wait_until(lambda: whole.checkpoint("stopped") > before, "another checkpoint")
    run.signal(signal.SIGINT)
    status, said = run.finish()
    assert status == 130, said
    assert "stopped goes on from step " in said
    assert "stopping with a checkpoint; Ctrl-C again stops at once" in said
    reached = step_of(whole.checkpoint("stopped"))
    assert step_of(before) + EVERY < reached < STEPS
    assert (
        f"Stopped after step {reached} of {STEPS}; its checkpoint is in {whole.storage}/stopped. "
        "Go on with the same command and name=stopped"
    ) in said
    assert "Traceback" not in said

    status, said = whole.run(again)
    assert status == 0, said
    assert f"stopped goes on from step {reached}" in said
    assert_equals_whole(whole, "stopped")
    assert_one_mlflow_run(whole)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint_"))


def assert_one_mlflow_run(world: Any) -> None:
    """However often the run went on, MLflow has one, finished, with each step once."""
    with closing(sqlite3.connect(world.folder / "mlflow.db")) as database:
        runs = database.execute("select name, status from runs").fetchall()
        logged = database.execute("select step, value from metrics where key = 'loss'").fetchall()
    assert runs == [("stopped", "FINISHED")]
    assert sorted(step for step, _ in logged) == [*range(1, STEPS + 1)]
    expected = world.metrics("whole")
    assert [step for step, loss in logged if loss != expected[step]["loss"]] == []
