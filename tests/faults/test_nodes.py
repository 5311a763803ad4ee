"""Nodes that are lost, leave and come, while a run trains."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nodes import BATCH, ELASTIC, Cluster, Training

from raytrain.data.visits import rows_taken

pytestmark = pytest.mark.slow


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
    node = cluster.nodes[2]
    training = Training(cluster, tiny_world.arguments("a", *ELASTIC), tiny_world, "a")
    training.wait_for_line("step ")
    cluster.drain(node, seconds=60)
    training.wait_for_line("a node of this run will be taken away; there is a checkpoint at once")
    training.wait_for_workers(2)
    cluster.lose(node)
    training.wait_for_workers(2, 1)
    training.wait_for_line("a worker was lost; training goes on from step")
    cluster.add()
    last = training.wait_for_workers(2, 1, 2)
    training.wait_for_line("workers came; training goes on from step")
    for position in last.positions.values():
        assert rows_taken(position) == last.step * BATCH
    steps = [*tiny_world.metrics("a")]
    assert steps == [*range(1, len(steps) + 1)]
    assert len(steps) >= last.step
