"""Commands as jobs, on a real cluster of nodes that asks for a token; and nodes, the head among
them, that are cut off, lost, leave and come while a job trains."""

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from cluster.hosts import lack, network
from nodes import PATIENCE_S, Cluster

from raytrain.data.visits import rows_taken
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import save_location_encoder
from raytrain.settings import to_dict
from raytrain.training import checkpoint
from raytrain.training.checkpoint import CheckpointError

LACK = lack()
pytestmark = pytest.mark.slow

STEPS, BATCH = 360, 96
SETTINGS = (
    f"training.steps={STEPS}",
    f"training.batch={BATCH}",
    "training.checkpoint_every=20",
    "training.accumulate=24",  # so slow that a node comes before the last step
    "scaling.workers=2",
    "scaling.cpus_per_worker=1.5",  # so that a node has room for one
    "scaling.min_workers=1",
    "scaling.grow_seconds=3",
)
QUICK = {  # what Ray takes for a node that is lost: no answer for 3 times 5 s
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that trains nothing, and two nodes; on a network of their own, where there can be."""
    folder = Path(tempfile.mkdtemp(prefix="rt-"))  # short: names of sockets have a limit
    with nullcontext() if LACK else network(folder / "switch.log") as wires:
        there = Cluster(folder, cpus=0, network=wires, settings=QUICK)
        try:
            there.wait_until_ready()
            for _ in range(2):
                there.add()
            there.wait_for_nodes(3)
            yield there
        finally:
            there.end()
            shutil.rmtree(folder, ignore_errors=True)


def overrides(tiny_world: Any, name: str) -> list[str]:
    """A short run of two workers that do not fit on one node."""
    spread = ("scaling.workers=2", "scaling.cpus_per_worker=1.5")
    return [str(x) for x in tiny_world.arguments(name, "training.steps=4", *spread)]


def test_an_evaluation_is_spread_over_the_nodes(cluster: Cluster, tmp_path: Path) -> None:
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
    entry = ["python", "-m", "raytrain.doctor", *overrides(tiny_world, "fit")]
    status, output = cluster.submit([], entry, tmp_path)
    assert status == 0, output
    lines = {line[4:17].strip(): line for line in output.splitlines() if line[:3] in ("ok ", "see")}
    assert "refuses who has no token (401)" in lines["job server"]
    assert "every node asks for it" in lines["token"]
    assert f"listens on {cluster.net}.2 alone" in lines["dashboard"]
    assert "of this node" in lines["clock"]
    assert "by the slowest node" in lines["storage"]
    assert "gloo among 2 workers" in lines["all-reduce"]
    assert cluster.token not in output


class Elastic:
    """A run that is submitted, and what is done when it says something."""

    def __init__(self, cluster: Cluster, world: Any) -> None:
        self.cluster, self.world = cluster, world
        self.url = f"{world.storage}/elastic"
        self.failed: list[BaseException] = []

    def train(self, place: int | None, reactions: dict[str, Callable[[], None]]) -> tuple[int, str]:
        """Exit status and output of the command, on a node or (None) as a job on the head; each
        reaction follows the first line that begins with its key."""

        def react(reaction: Callable[[], None]) -> None:
            try:
                reaction()
            except BaseException as error:
                self.failed.append(error)
                raise

        def hear(line: str) -> None:
            print(time.strftime("%X"), line, end="", flush=True)
            for words in [*reactions]:
                if line.startswith(words):
                    threading.Thread(target=react, args=[reactions.pop(words)], daemon=True).start()

        settings = self.world.arguments("elastic", *SETTINGS)
        entry = ["python", "-m", "raytrain.pretrain", *settings]
        if place is None:
            done = self.cluster.submit([], entry, self.world.folder, hear)
        else:
            done = self.cluster.run(place, entry, self.world.folder, hear)
        assert not reactions, done[1]
        assert not self.failed, done[1]
        return done

    def workers(self) -> list[int]:
        """Of the newest checkpoint: how many made its steps, one number after another."""
        with suppress(CheckpointError):  # the first is being written
            found = checkpoint.latest(self.url, say=lambda fault: None)
            return [ranks for ranks, _ in found.positions["words"]] if found else []
        return []

    def wait_for_checkpoint(self, workers: list[int]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.workers() != workers:
            assert time.monotonic() < deadline, f"no checkpoint of {workers} workers"
            time.sleep(0.2)


@pytest.mark.cluster
@pytest.mark.skipif(LACK is not None, reason=str(LACK))
def test_a_run_outlives_nodes_that_go(cluster: Cluster, tiny_world: Any) -> None:
    """2 workers, also while one is cut off for seconds; 1 after its node was said to go and went
    off the network, which comes back and must not write; then head, driver and all are lost, and
    the same command goes on with 1; 2 after another node came."""
    run = Elastic(cluster, tiny_world)
    node = cluster.nodes[2]

    def cut_off_for_seconds_and_drain() -> None:
        cluster.cut(node)
        time.sleep(3)
        cluster.mend(node)
        run.wait_for_checkpoint([2])
        cluster.drain(node, seconds=60)

    def cut_off() -> None:
        run.wait_for_checkpoint([2])
        cluster.cut(node)
        print(time.strftime("%X"), "CUT", flush=True)

    def lose_the_head() -> None:
        run.wait_for_checkpoint([2, 1])
        cluster.mend(node)
        print(time.strftime("%X"), "MENDED", flush=True)
        node.wait(PATIENCE_S)  # it learns that it was given up
        print(time.strftime("%X"), "STALE EXITED", flush=True)
        cluster.lose(cluster.nodes[0])

    def add_a_node() -> None:
        cluster.add()

    status, output = run.train(
        1,
        {
            "step ": cut_off_for_seconds_and_drain,
            "a node of this run will be taken away": cut_off,
            "a worker was lost": lose_the_head,
        },
    )
    assert status == 2, output
    assert "error: Ray's head, " in output
    assert output.endswith(
        "the same command with the run's name goes on from its last checkpoint\n"
    )
    assert "with 1 in place of 2" in output
    lost = output.partition("a node of this run will be taken away")
    assert "a worker was lost" not in lost[0], "a cut of seconds is waited for"
    cluster.lose(cluster.nodes[1])
    cluster.restart_head()
    cluster.add()
    cluster.wait_for_nodes(2)

    status, output = run.train(None, {"first step": add_a_node})
    assert status == 0, output
    assert "elastic goes on from step " in output
    assert "workers came; training goes on from step" in output
    last = checkpoint.latest(run.url)
    assert last is not None
    for position in last.positions.values():
        assert [ranks for ranks, _ in position] == [2, 1, 2]
        assert rows_taken(position) == STEPS * BATCH
    metrics = tiny_world.metrics("elastic")
    assert [*metrics] == [*range(1, STEPS + 1)]
