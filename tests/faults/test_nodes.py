"""Nodes that are lost, leave and come, while a run trains."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from nodes import Cluster

from raytrain.data.visits import rows_taken
from raytrain.training import checkpoint
from raytrain.training.checkpoint import CheckpointError

pytestmark = pytest.mark.slow

STEPS, BATCH = 200, 96
SPREAD = ("scaling.workers=2", "scaling.cpus_per_worker=1.5")  # a node has room for one
SETTINGS = (
    f"training.steps={STEPS}",
    f"training.batch={BATCH}",
    "training.checkpoint_every=25",
    "training.accumulate=6",  # steps slow enough for what happens between two
    *SPREAD,
    "scaling.min_workers=1",
    "scaling.grow_seconds=3",
)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that trains nothing, and two nodes."""
    folder = Path(tempfile.mkdtemp(prefix="rt-"))
    there = Cluster(folder, cpus=0)
    try:
        there.wait_until_ready()
        for _ in range(2):
            there.add()
        there.wait_for_nodes(3)
        yield there
    finally:
        there.end()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_run_shrinks_and_grows(cluster: Cluster, tiny_world: Any) -> None:
    """2 workers; 1 after a node was said to go, and went; 2 after another came."""
    run_url = f"{tiny_world.storage}/elastic"
    survivor, node = cluster.nodes[1:3]
    ended = threading.Event()

    def wait_for_checkpoint(workers: list[int]) -> None:
        """Of steps that so many workers made, one number after another."""
        while True:
            with suppress(CheckpointError):  # the first is being written
                found = checkpoint.latest(run_url, say=lambda fault: None)
                position = found.positions["words"] if found else ()
                if [ranks for ranks, _ in position] == workers:
                    return
            time.sleep(0.1)

    def lose_the_node() -> None:
        wait_for_checkpoint([2])
        cluster.lose(node)
        ended.set()

    def have_it_come_back() -> None:
        wait_for_checkpoint([2, 1])
        waiting = cluster.suspend(survivor, "RayTrainWorker")  # so that there are steps left
        ended.wait()
        cluster.add()
        cluster.wait_for_nodes(3)
        for process in waiting:
            process.resume()

    reactions = {
        "step ": lambda: cluster.drain(node, seconds=60),
        "a node of this run will be taken away": lose_the_node,
        "a worker was lost": have_it_come_back,
    }

    def hear(line: str) -> None:
        for words in [*reactions]:
            if line.startswith(words):
                threading.Thread(target=reactions.pop(words), daemon=True).start()

    entry = ["python", "-m", "raytrain.pretrain", *tiny_world.arguments("elastic", *SETTINGS)]
    status, output = cluster.submit([], entry, tiny_world.folder, hear)
    assert status == 0, output
    assert not reactions, output
    assert "with 1 in place of 2" in output
    assert "workers came; training goes on from step" in output
    last = checkpoint.latest(run_url)
    assert last is not None
    for position in last.positions.values():
        assert [ranks for ranks, _ in position] == [2, 1, 2]
        assert rows_taken(position) == STEPS * BATCH
    assert [*tiny_world.metrics("elastic")] == [*range(1, STEPS + 1)]
