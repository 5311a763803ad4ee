"""MLflow's server goes away while a run trains, for good or for a while."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from raytrain.pretrain import main
from raytrain.training import tracking

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]

STEPS, PATIENCE_S = 200, 400
OF = " join runs using (run_uuid) where name = '{}' "


@dataclass(frozen=True)
class Server:
    """MLflow's own, with all its processes."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    uri: str

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """What its database answers."""
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            return database.execute(query).fetchall()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TIMEOUT": "5", "MAX_RETRIES": "0"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [Path(sys.executable).with_name("mlflow"), "server", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", port, "--artifacts-destination", folder / "kept"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, folder, f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: answers(f"{server.uri}/health"))
        yield server
    finally:
        server.signal(signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def newest(world: Any, name: str) -> int:
    """The step of a run's newest checkpoint; 0 before the first. Older ones are deleted."""
    found = (Path(world.storage) / name).glob("checkpoint_*/state.json")
    return max((int(path.parent.name.removeprefix("checkpoint_")) for path in found), default=0)


def train(world: Any, server: Server, name: str, meanwhile: Callable[[], None]) -> int:
    """The command, in this process."""
    settings = (f"training.steps={STEPS}", "training.checkpoint_every=10")
    beside = threading.Thread(target=meanwhile)
    beside.start()
    status = main(world.arguments(name, *settings, f"tracking.uri={server.uri}"))
    beside.join()
    return status


@contextmanager
def held() -> Iterator[None]:
    """Training does not go on meanwhile, and so does not end before."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any("RayTrainWorker" in part for part in process.cmdline()):
                process.suspend()
                found.append(process)
    yield
    for process in found:
        process.resume()


def test_mlflow_is_away_for_a_while(
    tiny_world: Any,
    server: Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It answers nothing in mid-run, and has everything in the end."""
    missed, reason = threading.Event(), tracking._reason
    monkeypatch.setattr(tracking, "_reason", lambda error: missed.set() or reason(error))

    def pause() -> None:
        wait_until(lambda: newest(tiny_world, "a") >= 10)
        server.signal(signal.SIGSTOP)
        wait_until(lambda: newest(tiny_world, "a") >= 20)
        with held():
            missed.wait(PATIENCE_S)
            server.signal(signal.SIGCONT)
            wait_until(lambda: answers(f"{server.uri}/health"))

    status, said = train(tiny_world, server, "a", pause), capsys.readouterr().out
    assert status == 0, said
    assert said.count(f"MLflow at {server.uri} failed (TimeoutError: ") == 1, said
    assert said.count(f"MLflow at {server.uri} has all that it missed") == 1, said
    assert "Traceback" not in said
    steps = [*range(1, STEPS + 1)]
    assert [*tiny_world.metrics("a")] == steps
    logged = server.ask("select step from metrics" + OF.format("a") + "and key = 'loss'")
    assert sorted(step for (step,) in logged) == steps
    assert server.ask("select status from runs where name = 'a'") == [("FINISHED",)]
    files = {path.name for path in (server.folder / "kept").rglob("*.*")}
    assert {"config.json", "map.png", "probes.json"} <= files


def test_mlflow_goes_for_good(
    tiny_world: Any, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill() -> None:
        wait_until(lambda: newest(tiny_world, "b") >= 10)
        with held():
            wait_until(lambda: bool(server.ask("select step from metrics" + OF.format("b"))))
            server.signal(signal.SIGKILL)

    status, said = train(tiny_world, server, "b", kill), capsys.readouterr().out
    assert status == 0, said
    assert said.count(f"MLflow at {server.uri} failed (") == 1, said
    assert f"MLflow at {server.uri} lacks " in said
    assert f" lines of {tiny_world.storage}/b/metrics.jsonl, and the end of the run" in said
    assert said.count("MLflow at") == 2
    assert [*tiny_world.metrics("b")] == [*range(1, STEPS + 1)]
    assert server.ask("select status from runs where name = 'b'") == [("RUNNING",)]
