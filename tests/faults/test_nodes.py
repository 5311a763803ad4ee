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

STEPS, BATCH = 240, 96
SETTINGS = (
    f"training.steps={STEPS}",
    f"training.batch={BATCH}",
    "training.checkpoint_every=30",
    "training.accumulate=24",  # so slow that a node comes before the last step
    "scaling.workers=2",
    "scaling.cpus_per_worker=1.5",  # so that a node has room for one
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

    def wait_for_checkpoint(workers: list[int]) -> None:
        """Of steps that so many workers made, one number after another."""
        while True:
            with suppress(CheckpointError):  # the first is being written
                found = checkpoint.latest(run_url, say=lambda fault: None)
                position = found.positions["words"] if found else ()
                if [ranks for ranks, _ in position] == workers:
                    return
            time.sleep(0.2)

    def lose_a_node() -> None:
        wait_for_checkpoint([2])
        cluster.lose(cluster.nodes[2])

    def add_a_node() -> None:
        wait_for_checkpoint([2, 1])
        cluster.add()

    reactions = {
        "step ": lambda: cluster.drain(cluster.nodes[2], seconds=60),
        "a node of this run will be taken away": lose_a_node,
        "a worker was lost": add_a_node,
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
