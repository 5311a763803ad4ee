"""A real Ray cluster on this machine: nodes with an address each, that come and go."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from raytrain.training import checkpoint
from raytrain.training.checkpoint import Checkpoint, CheckpointError

RAY = str(Path(sys.executable).with_name("ray"))
PATIENCE_S = 900  # for one job, on a machine that has other things to do
FOREVER = ("sh", "-c", 'while true; do "$@"; sleep 1; done', "sh")

BATCH = 96
ELASTIC = (  # settings of a run that has two workers where it can, a node each
    "training.steps=20000",  # more than there is time for
    f"training.batch={BATCH}",
    "training.checkpoint_every=50",
    "scaling.workers=2",
    "scaling.cpus_per_worker=1.5",  # a node has room for one
    "scaling.min_workers=1",
    "scaling.grow_seconds=3",
)

Place = tuple[str, Sequence[str]]  # an address, and what runs a command where that is


def loopback(number: int) -> Place:
    return f"127.0.0.{number}", ()


class Cluster:
    """A head and the nodes that are added to it, with a home and a token of their own, each at the
    `place` of its number: they count from 2, which is the head."""

    def __init__(
        self,
        folder: Path,
        cpus: int = 2,
        place: Callable[[int], Place] = loopback,
        **environment: str,
    ) -> None:
        self.folder, self.token, self.place = folder, secrets.token_hex(32), place
        self.gcs, ui = free_port(), free_port()
        self.ip, self.at_head = place(2)
        self.address = f"http://{self.ip}:{ui}"
        (folder / "home" / ".ray").mkdir(parents=True)
        (folder / "home" / ".ray" / "auth_token").write_text(self.token)
        outside = ("AWS_", "MLFLOW_", "PYTHONPATH", "RAY_", "RAYTRAIN_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(outside)}
        self.environment = kept | {
            "HOME": str(folder / "home"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(RAY).parent}:{os.environ['PATH']}",  # jobs say `python`
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
            **environment,
        }
        at = [f"--port={self.gcs}", f"--dashboard-host={self.ip}", f"--dashboard-port={ui}"]
        self.head = ("--head", f"--num-cpus={cpus}", *at)
        self.nodes = [self._start(2, self.at_head, *self.head)]

    def add(self, cpus: int = 2, within: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
        """Have another node, as an autoscaler would start it, or as `within` does."""
        number = 2 + len(self.nodes)
        options = (f"--address={self.ip}:{self.gcs}", f"--num-cpus={cpus}")
        node = self._start(number, [*self.place(number)[1], *within], *options)
        self.nodes.append(node)
        return node

    def _start(
        self, number: int, within: Sequence[str], *options: str
    ) -> "subprocess.Popen[bytes]":
        common = [
            "--block", f"--node-ip-address={self.place(number)[0]}", "--num-gpus=0",
            f"--dashboard-agent-listen-port={free_port()}", "--min-worker-port=0",
            "--max-worker-port=0", f"--object-store-memory={100 * 2**20}",
            f"--temp-dir={self.folder / str(number)}",
        ]  # fmt: skip
        with open(self.folder / f"{number}.log", "ab") as log:
            return subprocess.Popen(
                [*within, RAY, "start", *options, *common],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def restart_head(self) -> None:
        """The head is gone at once, with all that it knew, and another comes in its place."""
        self._kill(self.nodes[:1])
        self.nodes[0] = self._start(2, self.at_head, *self.head)
        self.wait_until_ready()

    def drain(self, node: "subprocess.Popen[bytes]", seconds: int) -> None:
        """Tell Ray that a node will be taken away, as a cloud does of a spot instance."""
        address = self.place(2 + self.nodes.index(node))[0]
        found = self.get("/api/v0/nodes", self.token)["data"]["result"]["result"]
        (number,) = [n["node_id"] for n in found if n["node_ip"] == address]
        notice = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot instance goes"]
        deadline = f"--deadline-remaining-seconds={seconds}"
        command = [RAY, "drain-node", f"--address={self.ip}:{self.gcs}", f"--node-id={number}"]
        command = [*self.at_head, *command, *notice, deadline]
        subprocess.run(command, env=self.environment, check=True)

    def lose(self, node: "subprocess.Popen[bytes]") -> None:
        """A node is gone at once, with all that ran on it, as when its machine loses power."""
        self._kill([node])

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if self.get("/api/v0/nodes", self.token)["data"]["result"]["result"]:
                    return
            except (subprocess.CalledProcessError, ValueError):
                if time.monotonic() > deadline or self.nodes[0].poll() is not None:
                    log = (self.folder / "2.log").read_text()
                    pytest.fail(f"the head did not start:\n{log}")
            time.sleep(0.5)

    def wait_for_nodes(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(subprocess.CalledProcessError):  # a head that is too busy
                if self.alive() >= count:
                    return
            assert time.monotonic() < deadline, f"{count} nodes did not come"
            time.sleep(0.2)

    def alive(self) -> int:
        found = self.get("/api/v0/nodes", self.token)["data"]["result"]["result"]
        return sum(node["state"] == "ALIVE" for node in found)

    def end(self) -> None:
        """End every process by its id; `ray stop` would end those of other clusters too."""
        self._kill(self.nodes)

    def _family(self, nodes: "list[subprocess.Popen[bytes]]") -> list[psutil.Process]:
        """All processes of nodes."""
        family = [psutil.Process(node.pid) for node in nodes if node.poll() is None]
        return family + [child for node in family for child in node.children(recursive=True)]

    def _kill(self, nodes: "list[subprocess.Popen[bytes]]") -> None:
        family = self._family(nodes)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)
        for node in nodes:
            node.wait()

    def get(self, path: str, token: str | None) -> Any:
        """What the head answers to a request with the token, or without one."""
        header = ["-H", f"Authorization: Bearer {token}"] if token else []
        curl = ["curl", "--silent", "--show-error", "--fail", "--max-time", "10", *header]
        answer = subprocess.run(
            [*self.at_head, *curl, f"{self.address}{path}"], check=True, capture_output=True
        )
        return json.loads(answer.stdout)

    def nodes_of_tasks(self, function: str) -> set[str]:
        """The nodes that tasks of a function ran on."""
        query = "/api/v0/tasks?filter_keys=func_or_class_name&filter_predicates=%3D"
        found = self.get(f"{query}&filter_values={function}", self.token)
        return {task["node_id"] for task in found["data"]["result"]["result"]}

    def submit(
        self,
        options: list[str],
        entry: list[str],
        folder: Path,
        hear: Callable[[str], object] = lambda line: None,
    ) -> tuple[int, str]:
        """`ray job submit` from a folder: exit status and output; `hear` gets each line at once."""
        command = [RAY, "job", "submit", "--address", self.address]
        process = subprocess.Popen(
            [*self.at_head, *command, *options, "--", *entry],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        patience = threading.Timer(PATIENCE_S, process.kill)
        patience.daemon = True
        patience.start()
        lines = []
        assert process.stdout is not None
        with process, process.stdout:
            for line in process.stdout:
                lines.append(line)
                hear(line)
        patience.cancel()
        return process.returncode, "".join(lines)


class Training:
    """A job of raytrain.pretrain with these arguments, seen by what it prints and stores."""

    def __init__(self, cluster: Cluster, arguments: list[str], world: Any, name: str) -> None:
        entry = ["python", "-m", "raytrain.pretrain", *arguments]
        self.lines: list[str] = []
        self.run_url, self.deadline = f"{world.storage}/{name}", time.monotonic() + PATIENCE_S
        self.ended = ThreadPoolExecutor().submit(
            cluster.submit, [], entry, world.folder, self.lines.append
        )

    def wait_for_line(self, beginning: str) -> None:
        while not any(line.startswith(beginning) for line in self.lines):
            self.wait(beginning)

    def wait_for(self, what: Callable[[Checkpoint], bool]) -> Checkpoint:
        """The newest checkpoint, as soon as it is of that kind."""
        while True:
            with contextlib.suppress(CheckpointError):  # the first is being written
                found = checkpoint.latest(self.run_url, say=lambda _: None)
                if found and what(found):
                    return found
            self.wait("a checkpoint")

    def wait_for_workers(self, *counts: int) -> Checkpoint:
        """The newest checkpoint, when the run has trained with so many, one after another."""
        return self.wait_for(lambda found: workers_of(found, "words") == [*counts])

    def wait(self, what: str) -> None:
        if self.ended.done() or time.monotonic() > self.deadline:
            pytest.fail(f"{what} did not come:\n{''.join(self.lines)}")
        time.sleep(0.1)


def workers_of(found: Checkpoint, modality: str) -> list[int]:
    """How many took part, one number after another, in what a checkpoint has seen of a stream."""
    return [ranks for ranks, _ in found.positions[modality]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        return int(probe.getsockname()[1])
