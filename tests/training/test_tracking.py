"""MLflow by the driver."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from raytrain.training.config import TrackingConfig
from raytrain.training.tracking import Tracker

LOG_ONE_STEP = """
import sys
from raytrain.training.config import TrackingConfig
from raytrain.training.tracking import Tracker
tracker = Tracker(TrackingConfig(uri=sys.argv[1]), sys.argv[2], "run", {})
tracker.log({"step": 1, "loss": 2.0})
tracker.finish("FINISHED")
"""


def test_a_driver_that_is_killed_while_mlflow_makes_its_tables_spoils_nothing(
    tmp_path: Path,
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    driver = subprocess.Popen([sys.executable, "-c", LOG_ONE_STEP, uri, str(tmp_path / "run")])
    patience = time.monotonic() + 60
    while not (half_made := [*tmp_path.glob("mlflow.db*")]) and time.monotonic() < patience:
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    assert half_made
    assert half_made[0].name != "mlflow.db"
    kept = tmp_path / "run" / "metrics.jsonl"  # was written in time, or was not
    steps = [(1, 2.0), (2, 1.0)] if kept.exists() else [(2, 1.0)]

    said: list[str] = []
    tracker = Tracker(TrackingConfig(uri=uri), str(tmp_path / "run"), "run", {}, said.append)
    tracker.log({"step": 2, "loss": 1.0})
    tracker.finish("FINISHED")
    assert said == []
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        assert database.execute("select name, status from runs").fetchall() == [("run", "FINISHED")]
        logged = database.execute("select step, value from metrics where key = 'loss'")
        assert logged.fetchall() == steps


def test_a_step_that_mlflow_has_and_the_file_lacks_is_not_logged_twice(tmp_path: Path) -> None:
    """So a driver leaves them that is killed between two writes of the file."""
    uri, run = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "run"
    for first, kept in ((1, 2), (3, 5)):
        tracker = Tracker(TrackingConfig(uri=uri), str(run), "run", {})
        for step in range(first, first + 3):
            tracker.log({"step": step, "loss": 1.0 / step})
        tracker.finish("FINISHED")
        file = run / "metrics.jsonl"
        lines = file.read_text().splitlines(keepends=True)
        assert len(lines) == first + 2
        file.write_text("".join(lines[:kept]))
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        logged = database.execute("select step from metrics where key = 'loss' order by step")
        assert [step for (step,) in logged] == [1, 2, 3, 4, 5]
