"""Nodes that are lost, leave and come, while a run trains."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nodes import Cluster

from raytrain.data.visits import rows_taken
from raytrain.training import checkpoint

pytestmark = pytest.mark.slow

STEPS, BATCH, EVERY = 400, 96, 25
SETTINGS = (
    f"training.steps={STEPS}",
    f"training.batch={BATCH}",
    f"training.checkpoint_every={EVERY}",
    "training.accumulate=8",  # slow steps
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
    off_schedule: list[int] = []
    going = cluster.nodes[2]

    def take_a_node_away() -> None:
        cluster.drain(going, seconds=60)
        while not off_schedule:
            time.sleep(0.1)
            for path in Path(run_url).glob("checkpoint_*/state.json"):
                step = int(path.parent.name.removeprefix("checkpoint_"))
                off_schedule.extend([step] if step % EVERY else [])
        cluster.lose(going)

    leaving = threading.Thread(target=take_a_node_away, daemon=True)

    def hear(line: str) -> None:
        if line.startswith("step ") and not leaving.ident:
            leaving.start()
        if "with 1 in place of 2" in line:
            cluster.add()

    entry = ["python", "-m", "raytrain.pretrain", *tiny_world.arguments("elastic", *SETTINGS)]
    status, output = cluster.submit([], entry, tiny_world.folder, hear)
    assert status == 0, output
    assert off_schedule
    assert "a worker was lost; training goes on from step" in output
    assert "workers came; training goes on from step" in output
    last = checkpoint.latest(run_url)
    assert last is not None
    for position in last.positions.values():
        assert [ranks for ranks, _ in position] == [2, 1, 2]
        assert rows_taken(position) == STEPS * BATCH
