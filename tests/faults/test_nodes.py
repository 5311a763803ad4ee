"""Nodes that are lost, leave and come, while a run trains; on their own network, too.

Both clusters are in this one file so that one process of pytest runs them one after another.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cluster.hosts import Network, lack, network
from nodes import BATCH, ELASTIC, FOREVER, Cluster, Place, Training

from raytrain.data.visits import rows_taken
from raytrain.training.checkpoint import Checkpoint

LACK = lack()
pytestmark = pytest.mark.slow

SOON = {  # it does not take long until a head counts a silent node as lost, and a node its head
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
}


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


@pytest.fixture
def wires() -> Iterator[tuple[Network, Cluster]]:
    """A network, and on it a head that trains nothing and two nodes that always come back."""
    folder = Path(tempfile.mkdtemp(prefix="rt-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        wires = stack.enter_context(network(folder / "switch.log"))

        @cache
        def place(number: int) -> Place:
            address = f"10.9.0.{number}"
            return address, wires.join(stack, folder / f"node-{number}.log", f"{address}/24")

        cluster = Cluster(folder, cpus=0, place=place, **SOON)
        stack.callback(cluster.end)
        cluster.wait_until_ready()
        for _ in range(2):
            cluster.add(within=FOREVER)
        cluster.wait_for_nodes(3)
        yield wires, cluster


def check_rows_and_steps(world: Any, last: Checkpoint) -> None:
    """Nothing was lost or done twice up to the newest checkpoint, whoever took part."""
    for position in last.positions.values():
        assert rows_taken(position) == last.step * BATCH
    steps = [*world.metrics("a")]
    assert steps == [*range(1, len(steps) + 1)]
    assert len(steps) >= last.step


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
    check_rows_and_steps(tiny_world, last)


@pytest.mark.cluster
@pytest.mark.skipif(LACK is not None, reason=str(LACK))  # tests/cluster says so in red
def test_a_run_outlasts_a_node_that_is_cut_off_and_a_head_that_is_restarted(
    wires: tuple[Network, Cluster], tiny_world: Any
) -> None:
    """2 workers; 1 when a node is not heard of; 2 when it is again, and found itself given up.
    With the head goes what Ray knows of the job; the same job again goes on."""
    network, cluster = wires
    arguments = tiny_world.arguments("a", *ELASTIC)
    training = Training(cluster, arguments, tiny_world, "a")
    training.wait_for_workers(2)
    network.cut("node-4")
    training.wait_for_workers(2, 1)
    network.mend("node-4")
    before = training.wait_for_workers(2, 1, 2)
    cluster.restart_head()
    status, output = training.ended.result()
    assert status != 0, output
    cluster.wait_for_nodes(3)
    training = Training(cluster, arguments, tiny_world, "a")
    last = training.wait_for(lambda found: found.step > before.step + 100)
    training.wait_for_line("a goes on from step")
    check_rows_and_steps(tiny_world, last)
