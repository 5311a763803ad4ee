"""`ray job submit` as README shows it, on a real cluster of two nodes that asks for a token."""

import json
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nodes import Cluster

import raytrain
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import save_location_encoder
from raytrain.settings import to_dict

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


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


def a_second_node(cluster: Cluster) -> None:
    if len(cluster.nodes) < 2:
        cluster.add()


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

    def come(line: str) -> None:
        if "minutes for nodes" in line:
            cluster.add()

    status, output = cluster.submit([], entry, tmp_path, come)
    check(cluster, tiny_world, "installed", (status, output))
    assert "need 3 CPUs, but the cluster has 2; waiting up to 15 minutes for nodes" in output
    assert (tiny_world.folder / "mlflow.db").exists()


def test_a_job_may_bring_a_checkout_of_its_own(
    cluster: Cluster, tiny_world: Any, tmp_path: Path
) -> None:
    a_second_node(cluster)
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
    a_second_node(cluster)
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
    a_second_node(cluster)
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
