"""`ray job submit` as README shows it, on a real cluster of two nodes that asks for a token."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import raytrain
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import save_location_encoder
from raytrain.settings import to_dict

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
RAY = str(Path(sys.executable).with_name("ray"))
PATIENCE_S = 400  # for one job, on a machine that has other things to do


class Cluster:
    """Nodes on this machine, with a loopback address each, and a home and a token of their own."""

    def __init__(self, folder: Path) -> None:
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
        self._start("2", "--head", *at)

    def grow(self) -> None:
        """Have a second node, as an autoscaler would start it."""
        if len(self.nodes) == 1:
            self._start("3", f"--address=127.0.0.2:{self.gcs}")

    def _start(self, number: str, *options: str) -> None:
        common = [
            "--block", f"--node-ip-address=127.0.0.{number}", "--num-cpus=2", "--num-gpus=0",
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

    def end(self) -> None:
        """End every process by its id; `ray stop` would end those of other clusters too."""
        family = [psutil.Process(node.pid) for node in self.nodes if node.poll() is None]
        family += [child for node in family for child in node.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)
        for node in self.nodes:
            node.wait()

    def get(self, path: str, token: str | None) -> Any:
        """What the head answers to a request with the token, or without one."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"{self.address}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def nodes_of_workers(self) -> dict[str, set[str]]:
        """The nodes that training workers ran on, by job."""
        query = "/api/v0/actors?filter_keys=class_name&filter_predicates=%3D"
        found = self.get(f"{query}&filter_values=RayTrainWorker", self.token)
        nodes: dict[str, set[str]] = {}
        for actor in found["data"]["result"]["result"]:
            nodes.setdefault(actor["job_id"], set()).add(actor["node_id"])
        return nodes

    def nodes_of_tasks(self, function: str) -> set[str]:
        """The nodes that tasks of a function ran on."""
        query = "/api/v0/tasks?filter_keys=func_or_class_name&filter_predicates=%3D"
        found = self.get(f"{query}&filter_values={function}", self.token)
        return {task["node_id"] for task in found["data"]["result"]["result"]}

    def submit(self, options: list[str], entry: list[str], folder: Path) -> tuple[int, str]:
        """`ray job submit` from a folder: exit status and output. Nodes that it waits for come."""
        process = subprocess.Popen(
            [RAY, "job", "submit", "--address", self.address, *options, "--", *entry],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        patience = threading.Timer(PATIENCE_S, process.kill)
        patience.start()
        lines = []
        assert process.stdout is not None
        with process, process.stdout:
            for line in process.stdout:
                lines.append(line)
                if "minutes for nodes" in line:
                    self.grow()
        patience.cancel()
        return process.returncode, "".join(lines)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="rt-"))  # short: names of sockets have a limit
    there = Cluster(folder)
    try:
        there.wait_until_ready()
        yield there
    finally:
        there.end()
        shutil.rmtree(folder, ignore_errors=True)


def overrides(tiny_world: Any, name: str) -> list[str]:
    """A short run of two workers that do not fit on one node."""
    spread = ("scaling.workers=2", "scaling.cpus_per_worker=1.5")
    return [str(x) for x in tiny_world.arguments(name, "training.steps=4", *spread)]


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
    mlflow = f"tracking.uri=sqlite:///{tiny_world.folder}/mlflow.db"
    entry = ["python", "-m", "raytrain.pretrain", *overrides(tiny_world, "installed"), mlflow]
    status, output = cluster.submit([], entry, tmp_path)
    check(cluster, tiny_world, "installed", (status, output))
    assert "need 3 CPUs, but the cluster has 2; waiting up to 15 minutes for nodes" in output
    assert (tiny_world.folder / "mlflow.db").exists()


def test_a_job_may_bring_a_checkout_of_its_own(
    cluster: Cluster, tiny_world: Any, tmp_path: Path
) -> None:
    cluster.grow()
    checkout = tmp_path / "checkout"
    for name in ("raytrain", "datasets"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    (checkout / "raytrain" / "recipes" / "own.yaml").write_text("seed: 7\n")
    entry = ["python", "-m", "raytrain.pretrain", "--config", "own"]
    variables = {"RAYTRAIN_STORAGE": tiny_world.storage}  # as cluster.yaml sets it on every node
    options = ["--working-dir", ".", "--runtime-env-json", json.dumps({"env_vars": variables})]
    entry += [x for x in overrides(tiny_world, "own") if not x.startswith("storage=")]
    result = cluster.submit(options, entry, checkout)
    check(cluster, tiny_world, "own", result)
    assert raytrain.load(f"{tiny_world.storage}/own").config["seed"] == 7


def test_an_evaluation_is_spread_over_the_nodes(cluster: Cluster, tmp_path: Path) -> None:
    cluster.grow()
    location = LocationEncoderConfig(dim=8)
    save_location_encoder(tmp_path / "run", {"location": to_dict(location)}, location.build())
    few = ["tasks=igbp,koppen", "seeds=2", "skip=geoclip", f"output={tmp_path}/page"]
    entry = ["python", "-m", "raytrain.evaluate", f"{tmp_path}/run", *few]
    mlflow = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    status, output = cluster.submit([], [*entry, mlflow], tmp_path)
    assert status == 0, output
    content = json.loads((tmp_path / "page" / "scores.json").read_text())
    assert {*content["tables"][0]["scores"]} >= {"label-kNN", f"{tmp_path}/run"}
    assert (tmp_path / "page" / "report.html").stat().st_size > 100_000
    assert len(cluster.nodes_of_tasks("score_cell")) == 2


def test_the_doctor_finds_the_cluster_fit(
    cluster: Cluster, tiny_world: Any, tmp_path: Path
) -> None:
    cluster.grow()
    entry = ["python", "-m", "raytrain.doctor", *overrides(tiny_world, "fit")]
    status, output = cluster.submit([], entry, tmp_path)
    assert status == 0, output
    lines = {line[4:17].strip(): line for line in output.splitlines() if line[:3] in ("ok ", "see")}
    assert "refuses who has no token (401)" in lines["job server"]
    assert "every node asks for it" in lines["token"]
    assert "listens on 127.0.0.2 alone" in lines["dashboard"]
    assert "of this node" in lines["clock"]
    assert "by the slowest node" in lines["storage"]
    assert "gloo among 2 workers" in lines["all-reduce"]
    assert cluster.token not in output
