"""MLflow, the only place that knows it; and metrics.jsonl, which is there without it.

The driver tracks: workers need neither MLflow nor its credentials, a sqlite file serves a cluster,
and a run has one writer, which sets its final state.
"""

import json
import logging
import os
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from raytrain import storage
from raytrain.errors import UserError
from raytrain.settings import Tree, flat, redacted
from raytrain.storage import StorageError
from raytrain.training.config import TrackingConfig

RUN_FILE, METRICS_FILE = "mlflow.json", "metrics.jsonl"
FLUSH_S = 2.0  # a driver that is killed loses no more of metrics.jsonl


class Tracker:
    """One run in MLflow and its metrics.jsonl. MLflow is spoken to by a thread of its own, from the
    first metric on: its import and its database take seconds, which the first step would wait for.

    Where it cannot be reached, training goes on; `say` then hears why, `problem` keeps it, and the
    metrics are in metrics.jsonl. A resumed run goes on in the MLflow run of `run_url`/mlflow.json.
    With a `parent` it is a child of its run, and shares its thread.
    """

    def __init__(
        self,
        config: TrackingConfig,
        run_url: str,
        name: str,
        resolved: Tree,
        say: Callable[[str], None] = lambda problem: None,
        parent: "Tracker | None" = None,
    ) -> None:
        self.config, self.run_url, self.name = config, run_url, name
        self.resolved, self.say = resolved, say
        self.began_ms = int(time.time() * 1000)
        self.problem: str | None = None
        self._flushed = time.monotonic()
        self.last_step: dict[str, int] = {}
        self.lines: list[str] = self._earlier_lines()
        self.run_id: str | None = None
        self._client: Any = None
        self._monitor: Any = None
        self.parent = parent
        self._thread: ThreadPoolExecutor = (
            parent._thread if parent else ThreadPoolExecutor(1, "mlflow")
        )

    def log(self, record: dict[str, Any]) -> None:
        """Metrics of one global step. A step that was logged before, and is repeated after a
        restart, is passed over."""
        step = record["step"]
        metrics = {k: float(v) for k, v in record.items() if k != "step"}
        metrics = {k: v for k, v in metrics.items() if step > self.last_step.get(k, -1)}
        if metrics:
            self.last_step |= dict.fromkeys(metrics, step)
            self.lines.append(json.dumps({"step": step, **metrics}))
            self._do(lambda: self._log(metrics, step))
        if time.monotonic() - self._flushed > FLUSH_S + len(self.lines) / 1000:
            with suppress(StorageError):  # finish() says so, if it lasts
                self.flush()

    def flush(self) -> None:
        """Write metrics.jsonl."""
        self._flushed = time.monotonic()
        storage.write(
            f"{self.run_url}/{METRICS_FILE}", "".join(f"{x}\n" for x in self.lines).encode()
        )

    def artifact(self, name: str, content: bytes) -> None:
        """Keep a file with the run."""
        self._do(lambda: self._artifact(name, content))

    def tag(self, key: str, value: str) -> None:
        self._do(lambda: self._client.set_tag(self.run_id, key, redacted(value)))

    def finish(self, status: str) -> None:
        """`status` is FINISHED, FAILED or KILLED; waits until MLflow has everything."""
        self.flush()
        self._do(lambda: self._monitor.finish() if self._monitor else None)
        self._do(lambda: self._client.set_terminated(self.run_id, status))
        if self.parent is None:
            self._thread.shutdown(wait=True)

    def started(self) -> str:
        """The id of its run in MLflow, which is made where it is not there. On MLflow's thread."""
        if self._client is None:
            self._start()
        assert self.run_id is not None
        return self.run_id

    def _do(self, action: Callable[[], Any]) -> "Future[None] | None":
        if self.config.uri is None or self.problem is not None:
            return None
        return self._thread.submit(self._guarded, action)

    def _guarded(self, action: Callable[[], Any]) -> None:
        if self.problem is not None:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.started()
                action()
        except Exception as error:  # whatever it is, it must not end the training
            self.problem = (
                f"MLflow at {redacted(self.config.uri)} failed ({type(error).__name__}: "
                f"{redacted(str(error)).splitlines()[0][:200]}); training goes on, and the metrics "
                f"are in {self.run_url}/{METRICS_FILE}"
            )
            self.say(self.problem)

    def _start(self) -> None:
        mlflow = _imported()
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        mlflow.set_tracking_uri(self.config.uri)
        _make_whole(str(self.config.uri))
        self._client = mlflow.MlflowClient(self.config.uri)
        try:
            self.run_id = json.loads(storage.read(f"{self.run_url}/{RUN_FILE}"))["run_id"]
            self._client.update_run(self.run_id, status="RUNNING")
        except FileNotFoundError:
            found = self._client.get_experiment_by_name(self.config.experiment)
            experiment = (
                found.experiment_id
                if found
                else self._client.create_experiment(self.config.experiment)
            )
            tags = {"mlflow.parentRunId": self.parent.started()} if self.parent else {}
            run = self._client.create_run(experiment, self.began_ms, tags, run_name=self.name)
            self.run_id = run.info.run_id
            content = {"run_id": self.run_id, "uri": redacted(self.config.uri)}
            storage.write(f"{self.run_url}/{RUN_FILE}", json.dumps(content).encode())
            self._client.log_dict(self.run_id, redacted(self.resolved), "config.json")
            for key, value in flat(redacted(self.resolved)).items():
                self._client.log_param(self.run_id, key, value, synchronous=False)
        if self.parent is None:
            self._monitor = SystemMetricsMonitor(self.run_id, resume_logging=True)
            self._monitor.start()

    def _log(self, metrics: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(_key(k), v, now, step) for k, v in metrics.items()]
        self._client.log_batch(self.run_id, metrics=batch)

    def _artifact(self, name: str, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self._client.log_artifact(self.run_id, str(path))

    def _earlier_lines(self) -> list[str]:
        try:
            lines = storage.read(f"{self.run_url}/{METRICS_FILE}").decode().splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            record = json.loads(line)
            self.last_step |= {k: record["step"] for k in record if k != "step"}
        return lines


def reach(config: TrackingConfig) -> str:
    """What MLflow says of the experiment, in words; nothing is made or changed. Raises UserError
    where it cannot be used."""
    uri = str(config.uri)
    try:
        file = _sqlite_file(uri)
        if file and not file.exists():
            with tempfile.TemporaryFile(dir=file.parent):
                return f"{uri}: the run makes it"
        if file:
            with closing(sqlite3.connect(file, timeout=5)) as opened:
                opened.execute("BEGIN IMMEDIATE")  # refused where it may not be written
        found = _imported().MlflowClient(uri).get_experiment_by_name(config.experiment)
        there = "is there" if found else "will be new"
        return f"{redacted(uri)} answers; experiment {config.experiment} {there}"
    except Exception as error:  # SQLite's, SQLAlchemy's, MLflow's and requests' own
        why = (redacted(str(error)).splitlines() or [""])[0][:200]
        raise UserError(
            f"MLflow at {redacted(uri)} cannot be used ({type(error).__name__}: {why}). Start it, "
            "correct tracking.uri, or leave it out with tracking.uri=null"
        ) from None


def _imported() -> Any:
    """MLflow, quiet, and soon at its end where its server does not answer."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return mlflow


def _sqlite_file(uri: str) -> Path | None:
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    return Path(path) if uri.startswith("sqlite:///") else None


def _make_whole(uri: str) -> None:
    """Make a sqlite file that is not there yet under another name first: MLflow takes a second or
    two for its tables, and would never open again what a driver that is killed then leaves."""
    from mlflow import MlflowClient

    path = _sqlite_file(uri)
    if path is None or path.exists():
        return
    making = path.with_name(f"{path.name}.{os.getpid()}")
    MlflowClient(f"sqlite:///{making}").search_experiments(max_results=1)
    with suppress(FileExistsError):  # another run was faster
        os.link(making, path)
    making.unlink()


def _key(name: str) -> str:
    return name.replace("@", "_at_")  # MLflow takes letters, digits and _-./ :
