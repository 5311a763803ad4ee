"""Commands other than pretrain as jobs, on a real cluster of two nodes that asks for a token."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nodes import Cluster

from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import save_location_encoder
from raytrain.settings import to_dict

pytestmark = pytest.mark.slow


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
