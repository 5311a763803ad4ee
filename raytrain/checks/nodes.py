"""The nodes of the cluster, and a function on every one of them."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raytrain.checks.finding import reason

T = TypeVar("T")

HEAD = "node:__internal_head__"  # a resource that Ray gives to the head alone


@dataclass(frozen=True)
class Node:
    """A node by its id, the name that findings call it by, and what Ray counts on it."""

    id: str
    name: str
    resources: dict[str, float]

    @property
    def is_head(self) -> bool:
        return HEAD in self.resources

    @property
    def is_here(self) -> bool:
        """The node of this process."""
        return bool(self.id == ray.get_runtime_context().get_node_id())


@dataclass(frozen=True)
class Answers(Generic[T]):
    """What nodes answered, and why others did not, by the node's name."""

    given: dict[str, T]
    failed: dict[str, str]


def alive() -> list[Node]:
    """The nodes of the cluster, by IP; where several share one, with the start of their ids."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    shared = Counter(node["NodeManagerAddress"] for node in nodes)
    named = []
    for node in nodes:
        address, known_as = node["NodeManagerAddress"], node["NodeID"][:6]
        name = address if shared[address] == 1 else f"{address} ({known_as})"
        named.append(Node(node["NodeID"], name, node["Resources"]))
    return sorted(named, key=lambda node: node.name)


def everywhere(
    nodes: list[Node], function: Callable[..., T], *arguments: Any, seconds: float = 45.0
) -> Answers[T]:
    """Call `function(*arguments)` on every node at once, beside whatever runs there. A node that
    does not answer in time is given up, with what it was doing."""
    answers: Answers[T] = Answers({}, {})
    waiting = {node.name: _pinned(node, function).remote(*arguments) for node in nodes}
    deadline = time.monotonic() + seconds
    for name, reference in waiting.items():
        try:
            answers.given[name] = ray.get(reference, timeout=max(0.0, deadline - time.monotonic()))
        except GetTimeoutError:
            ray.cancel(reference, force=True)
            answers.failed[name] = f"no answer in {seconds:g} s"
        except RayTaskError as error:
            answers.failed[name] = reason(error.cause)
        except Exception as error:  # the node or its worker is gone
            answers.failed[name] = reason(error)
    return answers


def clock_offset_s(node: Node, tries: int = 3, seconds: float = 20.0) -> float:
    """How far a node's clock is ahead of this one, in seconds, to half a round trip of the quickest
    of some calls. Raises Ray's GetTimeoutError where the node does not answer."""
    now, trips = _pinned(node, _now), []
    for _ in range(tries):
        sent = time.time()
        there: float = ray.get(now.remote(), timeout=seconds)
        received = time.time()
        trips.append((received - sent, there - (sent + received) / 2))
    return min(trips)[1]


def _now() -> float:
    return time.time()


def _pinned(node: Node, function: Callable[..., Any]) -> Any:
    on_it = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=on_it)(function)
