"""MLflow, the only place that knows it.

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
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from raytrain import storage
from raytrain.errors import UserError
from raytrain.settings import Tree, flat, redacted
from raytrain.training.config import TrackingConfig
from raytrain.training.metrics import Metrics

RUN_FILE = "mlflow.json"
RETRY_S = 30.0  # between two attempts, where MLflow does not answer
MOST = 1000  # figures that it takes at once


class Tracker:
    """One run in MLflow and its metrics.jsonl. MLflow is spoken to by a thread of its own, from the
    first metric on: its import and its database take seconds, which the first step would wait for.

    Where it does not answer, training goes on, and it is given what it lacks when it answers again;
    `say` hears of both, and at the end of what it still lacks. A resumed run goes on in the MLflow
    run of `run_url`/mlflow.json. With a `parent` it is a child of its run, and shares its thread.
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
        self.metrics = Metrics(run_url)
        self.run_id: str | None = None
        self._client: Any = None
        self._monitor: Any = None
        self._given = 0  # lines of metrics that MLflow was given
        self._there: dict[str, int] = {}  # the last step of what it had from earlier starts
        self._owed = deque[Callable[[], Any]]()  # what it lacks besides, in order
        self.parent = parent
        self._is_away, self._again_s = False, 0.0  # when it is tried again
        self._family: list[Tracker] = [self] if parent is None else parent._family
        if parent is None:
            self._thread = ThreadPoolExecutor(1, "mlflow")
        else:
            self._family.append(self)

    def log(self, record: dict[str, Any]) -> None:
        """Metrics of one global step. A step that was logged before, and is repeated after a
        restart, is passed over."""
        self.metrics.add(record)
        self._tell()

    def artifact(self, name: str, content: bytes) -> None:
        """Keep a file with the run."""
        self._tell(lambda: self._artifact(name, content))

    def tag(self, key: str, value: str) -> None:
        self._tell(lambda: self._client.set_tag(self.run_id, key, redacted(value)))

    def finish(self, status: str) -> None:
        """`status` is FINISHED, FAILED or KILLED; waits until MLflow has everything, or until it
        does not answer once more."""
        self.metrics.flush()
        self._tell(self._end_monitor)
        self._tell(lambda: self._client.set_terminated(self.run_id, status))
        if self.parent is not None or self.config.uri is None:
            return
        self._thread.submit(self._give_all, at_last=True)
        self._thread.shutdown(wait=True)
        if self._is_away:
            lines = sum(len(tracker.metrics.lines) for tracker in self._family)
            lacking = lines - sum(tracker._given for tracker in self._family)
            self.say(
                f"MLflow at {redacted(self.config.uri)} lacks {lacking} of {lines} lines of "
                f"{self.metrics.url}, and the end of the run"
            )

    def started(self) -> str:
        """The id of its run in MLflow, which is made where it is not there. On MLflow's thread."""
        if self._client is None:
            self._start()
        assert self.run_id is not None
        return self.run_id

    def _tell(self, owed: Callable[[], Any] | None = None) -> None:
        """Have MLflow given soon what is new."""
        if self.config.uri is not None:
            if owed is not None:
                self._owed.append(owed)
            root = self._family[0]
            root._thread.submit(root._give_all)

    def _give_all(self, at_last: bool = False) -> None:
        """What the run and its children owe. On MLflow's thread."""
        if time.monotonic() < self._again_s and not at_last:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for tracker in self._family:
                    tracker._give()
        except Exception as error:  # whatever it is, it must not end the training
            self._again_s = time.monotonic() + RETRY_S
            if self._is_away:
                return
            self._is_away = True
            if self._monitor is not None:  # it gives up where MLflow does not answer
                self._owed.appendleft(self._start_monitor)
            self.say(
                f"MLflow at {redacted(self.config.uri)} failed ({_reason(error)}); training goes "
                f"on, the metrics are in {self.metrics.url}, and it is tried again"
            )
        else:
            if self._is_away:
                self.say(f"MLflow at {redacted(self.config.uri)} has all that it missed")
            self._is_away = False

    def _give(self) -> None:
        """The lines that MLflow lacks, then what else it is owed, each kept until it has it."""
        lines = self.metrics.lines
        if self._given == len(lines) and not self._owed:
            return
        self.started()
        while self._given < len(lines):
            self._give_lines()
        while self._owed:
            self._owed[0]()
            self._owed.popleft()

    def _give_lines(self) -> None:
        """As many as it takes at once, without what it has from earlier starts. Of a batch that is
        given once more it passes over what it has: equal figures of equal times."""
        from mlflow.entities import Metric

        batch: list[Metric] = []
        given = self._given
        for line in self.metrics.lines[given:]:
            record = json.loads(line)
            step, now = record.pop("step"), self.metrics.times_ms[given]
            if len(batch) + len(record) > MOST and batch:
                break
            new = {k: v for k, v in record.items() if step > self._there.get(_key(k), -1)}
            batch += [Metric(_key(k), v, now, step) for k, v in new.items()]
            given += 1
        if batch:
            self._client.log_batch(self.run_id, metrics=batch)
        self._given = given

    def _start(self) -> None:
        mlflow = _imported()
        mlflow.set_tracking_uri(self.config.uri)
        _make_whole(str(self.config.uri))
        client = mlflow.MlflowClient(self.config.uri)
        if storage.size(f"{self.run_url}/{RUN_FILE}") is None:
            self.run_id = self._new_run(client)
        else:
            self.run_id = json.loads(storage.read(f"{self.run_url}/{RUN_FILE}"))["run_id"]
            client.update_run(self.run_id, status="RUNNING")
            there = client.get_run(self.run_id).data._metric_objs
            self._there = {metric.key: metric.step for metric in there}
        self._client = client
        if self.parent is None:
            self._start_monitor()

    def _new_run(self, client: Any) -> str:
        """A run, with its settings."""
        from mlflow.entities import Param

        found = client.get_experiment_by_name(self.config.experiment)
        experiment = (
            found.experiment_id if found else client.create_experiment(self.config.experiment)
        )
        tags = {"mlflow.parentRunId": self.parent.started()} if self.parent else {}
        run = client.create_run(experiment, self.began_ms, tags, run_name=self.name)
        run_id = str(run.info.run_id)
        content = {"run_id": run_id, "uri": redacted(self.config.uri)}
        storage.write(f"{self.run_url}/{RUN_FILE}", json.dumps(content).encode())
        settings = redacted(self.resolved)
        parameters = [Param(key, str(value)) for key, value in flat(settings).items()]
        self._owed.appendleft(partial(client.log_dict, run_id, settings, "config.json"))
        for first in range(0, len(parameters), 100):  # as many as it takes at once
            some = parameters[first : first + 100]
            self._owed.appendleft(partial(client.log_batch, run_id, params=some))
        return run_id

    def _start_monitor(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._end_monitor()
        self._monitor = SystemMetricsMonitor(self.run_id, resume_logging=True)
        self._monitor.start()

    def _end_monitor(self) -> None:
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None

    def _artifact(self, name: str, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self._client.log_artifact(self.run_id, str(path))


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
        raise UserError(
            f"MLflow at {redacted(uri)} cannot be used ({_reason(error)}). Start it, correct "
            "tracking.uri, or leave it out with tracking.uri=null"
        ) from None


def _reason(error: BaseException) -> str:
    """The first line of what is behind an error of MLflow's."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    said = (redacted(str(error)).splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {said}"


def _imported() -> Any:
    """MLflow, quiet, and soon at its end where its server does not answer."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # the user hears of errors from here
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
