"""`ray job submit` as README shows it, on a real cluster of two nodes that asks for a token."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import raytrain

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
RAY = str(Path(sys.executable).with_name("ray"))
PATIENCE_S = 400  # for one job, on a machine that has other things to do


@dataclass(frozen=True)
class Cluster:
    """Two nodes of this machine, in a home of their own, and the token that they ask for."""

    address: str
    token: str
    environment: dict[str, str]

    def get(self, path: str, token: str | None) -> Any:
        """What the head answers to a request with the token, or without one."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"{self.address}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def live_nodes(self) -> int:
        try:
            states = self.get("/api/v0/nodes", self.token)["data"]["result"]["result"]
        except (OSError, ValueError):  # the head is still starting
            return 0
        return sum(node["state"] == "ALIVE" for node in states)

    def submit(self, options: list[str], entry: list[str], folder: Path) -> tuple[int, str]:
        """`ray job submit` from a folder: exit status and output."""
        done = subprocess.run(
            [RAY, "job", "submit", "--address", self.address, *options, "--", *entry],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )
        return done.returncode, done.stdout

    def nodes_of_workers(self) -> dict[str, set[str]]:
        """The nodes that training workers ran on, by job."""
        query = "/api/v0/actors?filter_keys=class_name&filter_predicates=%3D"
        found = self.get(f"{query}&filter_values=RayTrainWorker", self.token)
        nodes: dict[str, set[str]] = {}
        for actor in found["data"]["result"]["result"]:
            nodes.setdefault(actor["job_id"], set()).add(actor["node_id"])
        return nodes


@pytest.fixture(scope="module")
def cluster(ray_folder: Path) -> Iterator[Cluster]:
    """A head and a second node, on loopback addresses of their own."""
    home = ray_folder / "home"
    (home / ".ray").mkdir(parents=True)
    token = secrets.token_hex(32)
    (home / ".ray" / "auth_token").write_text(token)
    own = {
        "HOME": str(home),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(RAY).parent}:{os.environ['PATH']}",  # jobs say `python`
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    }
    outside = ("AWS_", "MLFLOW_", "PYTHONPATH", "RAY_", "RAYTRAIN_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(outside)}
    gcs, ui = free_port(), free_port()
    there = Cluster(f"http://127.0.0.2:{ui}", token, {**kept, **own})
    head = ["--head", f"--port={gcs}", "--dashboard-host=127.0.0.2", f"--dashboard-port={ui}"]
    nodes = [_node(there, head, "127.0.0.2", free_port(), ray_folder)]
    try:
        _wait_for_nodes(there, 1, nodes, ray_folder)
        worker = [f"--address=127.0.0.2:{gcs}"]
        nodes.append(_node(there, worker, "127.0.0.3", free_port(), ray_folder))
        _wait_for_nodes(there, 2, nodes, ray_folder)
        yield there
    finally:
        _end(nodes)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        return int(probe.getsockname()[1])


def _node(
    cluster: Cluster, options: list[str], ip: str, agent: int, folder: Path
) -> "subprocess.Popen[bytes]":
    common = [
        "--block", f"--node-ip-address={ip}", f"--dashboard-agent-listen-port={agent}",
        "--num-cpus=2", "--num-gpus=0", "--min-worker-port=0", "--max-worker-port=0",
        f"--object-store-memory={100 * 2**20}", f"--temp-dir={folder / ip[-1]}",
    ]  # fmt: skip
    with open(folder / f"{ip}.log", "wb") as log:
        return subprocess.Popen(
            [RAY, "start", *options, *common],
            env=cluster.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_for_nodes(
    cluster: Cluster, count: int, nodes: "list[subprocess.Popen[bytes]]", folder: Path
) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while cluster.live_nodes() < count:
        if time.monotonic() > deadline or any(node.poll() is not None for node in nodes):
            logs = "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))
            pytest.fail(f"the cluster did not start:\n{logs}")
        time.sleep(0.5)


def _end(nodes: "list[subprocess.Popen[bytes]]") -> None:
    """End every process of these nodes by its id; `ray stop` would end those of others too."""
    family = [psutil.Process(node.pid) for node in nodes if node.poll() is None]
    family += [child for node in family for child in node.children(recursive=True)]
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=30)
    for node in nodes:
        node.wait()


def overrides(tiny_world: Any, name: str) -> list[str]:
    """Two workers that do not fit on one node, and MLflow beside the runs."""
    return tiny_world.arguments(
        name,
        "training.steps=4",
        "scaling.workers=2",
        "scaling.cpus_per_worker=1.5",
        f"tracking.uri=sqlite:///{tiny_world.folder}/mlflow.db",
    )


def check(cluster: Cluster, tiny_world: Any, name: str, result: tuple[int, str]) -> None:
    """The run is complete, and both nodes had a part in it."""
    status, output = result
    assert status == 0, output
    assert f"{name} starts: melt, 4 steps, 2 workers on CPU" in output
    assert set(tiny_world.metrics(name)) >= {1, 2, 3, 4}
    encoder = raytrain.load(f"{tiny_world.storage}/{name}")
    assert np.isfinite(encoder.encode(13.4, 52.5)).all()
    assert cluster.token not in output
    assert {len(nodes) for nodes in cluster.nodes_of_workers().values()} == {2}


def test_without_the_token_nobody_is_let_in(cluster: Cluster) -> None:
    for token in (None, "0" * 64):
        with pytest.raises(urllib.error.HTTPError) as refused:
            cluster.get("/api/jobs/", token)
        refused.value.close()
        assert refused.value.code in (401, 403)
    assert cluster.get("/api/jobs/", cluster.token) == []


def test_a_job_uses_the_raytrain_installed_on_the_nodes(
    cluster: Cluster, tiny_world: Any, tmp_path: Path
) -> None:
    entry = ["python", "-m", "raytrain.pretrain", *overrides(tiny_world, "installed")]
    check(cluster, tiny_world, "installed", cluster.submit([], entry, tmp_path))
    assert (tiny_world.folder / "mlflow.db").exists()


def test_a_job_may_bring_a_checkout_of_its_own(
    cluster: Cluster, tiny_world: Any, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    for name in ("raytrain", "datasets"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    (checkout / "raytrain" / "recipes" / "own.yaml").write_text("seed: 7\n")
    entry = ["python", "-m", "raytrain.pretrain", "--config", "own"]
    options = ["--working-dir", ".", "--runtime-env-json", '{"env_vars": {"OMP_NUM_THREADS": "1"}}']
    result = cluster.submit(options, [*entry, *overrides(tiny_world, "own")], checkout)
    check(cluster, tiny_world, "own", result)
    assert raytrain.load(f"{tiny_world.storage}/own").config["seed"] == 7
