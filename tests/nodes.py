"""A real Ray cluster on this machine: nodes with a loopback address each, that come and go."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

RAY = str(Path(sys.executable).with_name("ray"))
PATIENCE_S = 400  # for one job, on a machine that has other things to do


class Cluster:
    """A head and the nodes that are added to it, with a home and a token of their own."""

    def __init__(self, folder: Path, cpus: int = 2) -> None:
        self.folder, self.token = folder, secrets.token_hex(32)
        self.gcs, ui = free_port(), free_port()
        self.address = f"http://127.0.0.2:{ui}"
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
        }
        self.nodes: list[subprocess.Popen[bytes]] = []
        at = [f"--port={self.gcs}", "--dashboard-host=127.0.0.2", f"--dashboard-port={ui}"]
        self._start("--head", f"--num-cpus={cpus}", *at)

    def add(self, cpus: int = 2) -> "subprocess.Popen[bytes]":
        """Have another node, as an autoscaler would start it."""
        return self._start(f"--address=127.0.0.2:{self.gcs}", f"--num-cpus={cpus}")

    def _start(self, *options: str) -> "subprocess.Popen[bytes]":
        number = str(2 + len(self.nodes))
        common = [
            "--block", f"--node-ip-address=127.0.0.{number}", "--num-gpus=0",
            f"--dashboard-agent-listen-port={free_port()}", "--min-worker-port=0",
            "--max-worker-port=0", f"--object-store-memory={100 * 2**20}",
            f"--temp-dir={self.folder / number}",
        ]  # fmt: skip
        with open(self.folder / f"{number}.log", "wb") as log:
            node = subprocess.Popen(
                [RAY, "start", *options, *common],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.nodes.append(node)
        return node

    def drain(self, node: "subprocess.Popen[bytes]", seconds: int) -> None:
        """Tell Ray that a node will be taken away, as a cloud does of a spot instance."""
        address = f"127.0.0.{2 + self.nodes.index(node)}"
        found = self.get("/api/v0/nodes", self.token)["data"]["result"]["result"]
        (number,) = [n["node_id"] for n in found if n["node_ip"] == address]
        notice = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot instance goes"]
        deadline = f"--deadline-remaining-seconds={seconds}"
        command = [RAY, "drain-node", f"--address=127.0.0.2:{self.gcs}", f"--node-id={number}"]
        subprocess.run([*command, *notice, deadline], env=self.environment, check=True)

    def lose(self, node: "subprocess.Popen[bytes]") -> None:
        """A node is gone at once, with all that ran on it, as when its machine loses power."""
        self._kill([node])

    def suspend(self, node: "subprocess.Popen[bytes]", title: str) -> list[psutil.Process]:
        """A node's processes of this title stand still, until each, as returned, is resumed."""
        family = [p for p in self._family([node]) if title in " ".join(p.cmdline())]
        for process in family:
            process.suspend()
        return family

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if self.get("/api/v0/nodes", self.token)["data"]["result"]["result"]:
                    return
            except (OSError, ValueError):
                if time.monotonic() > deadline or self.nodes[0].poll() is not None:
                    log = (self.folder / "2.log").read_text()
                    pytest.fail(f"the head did not start:\n{log}")
            time.sleep(0.5)

    def wait_for_nodes(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.alive() < count:
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
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"{self.address}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

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
        process = subprocess.Popen(
            [RAY, "job", "submit", "--address", self.address, *options, "--", *entry],
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        return int(probe.getsockname()[1])
