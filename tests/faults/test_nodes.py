"""Nodes that are lost, leave and come, while a run trains."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
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


# Of a node that stands still the head hears nothing for so long before it counts it as lost.
SOON = {"RAY_health_check_timeout_ms": "4000", "RAY_health_check_failure_threshold": "3"}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that trains nothing, and two nodes."""
    folder = Path(tempfile.mkdtemp(prefix="rt-"))
    there = Cluster(folder, cpus=0, **SOON)
    try:
        there.wait_until_ready()
        for _ in range(2):
            there.add()
        there.wait_for_nodes(3)
        yield there
    finally:
        there.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("how", ["announced", "cut off"])
def test_a_run_shrinks_and_grows(how: str, cluster: Cluster, tiny_world: Any) -> None:
    """2 workers; 1 after a node was said to go, and went, or answered no more; 2 after it came
    back. One that was cut off finds at its return that it is counted as lost, and ends."""
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

    def cut_the_node_off() -> None:
        wait_for_checkpoint([2])
        processes = cluster.suspend(node)
        wait_for_checkpoint([2, 1])
        for process in processes:
            process.resume()
        psutil.wait_procs(processes)
        ended.set()

    def have_it_come_back() -> None:
        wait_for_checkpoint([2, 1])
        waiting = cluster.suspend(survivor, "RayTrainWorker")  # so that there are steps left
        ended.wait()
        cluster.add()
        cluster.wait_for_nodes(3)
        for process in waiting:
            process.resume()

    reactions = {"a worker was lost": have_it_come_back}
    if how == "announced":
        reactions["step "] = lambda: cluster.drain(node, seconds=60)
        reactions["a node of this run will be taken away"] = lose_the_node
    else:
        reactions["step "] = cut_the_node_off

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


def test_a_run_goes_on_when_the_head_was_restarted(cluster: Cluster, tiny_world: Any) -> None:
    """With the head goes what Ray knows of the job; the same job again goes on."""
    steps, every = 60, 15
    settings = [f"training.steps={steps}", f"training.checkpoint_every={every}", *SPREAD]
    arguments = tiny_world.arguments("head", "training.accumulate=4", *settings)
    entry = ["python", "-m", "raytrain.pretrain", *arguments]
    first = tiny_world.checkpoint_of("head", every)

    def lose_the_head() -> None:
        while not first.exists():
            time.sleep(0.1)
        cluster.restart_head()

    losing = threading.Thread(target=lose_the_head, daemon=True)
    losing.start()
    status, output = cluster.submit([], entry, tiny_world.folder)
    assert status != 0, output
    losing.join()
    for _ in range(2):
        cluster.add()
    status, output = cluster.submit([], entry, tiny_world.folder)
    assert status == 0, output
    assert "goes on" in output
    assert [*tiny_world.metrics("head")] == [*range(1, steps + 1)]
