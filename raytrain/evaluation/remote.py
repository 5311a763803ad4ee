"""Work on cells by Ray tasks, instead of `map`."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

from raytrain.errors import UserError

A = TypeVar("A")
B = TypeVar("B")

AHEAD = 2  # tasks in flight for each CPU that there is: enough to keep all busy
LEAST = 8  # and so many where nodes are still to come


def over_cluster(function: Callable[[A], B], cells: Iterable[A]) -> Iterator[B]:
    """`map`, with each call a Ray task of one CPU and one thread; Ray must run.

    Cells are taken as tasks end, so that few are in flight. Results come in the cells' order. A
    UserError of a task is raised here as it is, in its turn; other errors as Ray's.
    """
    one_thread = {"env_vars": {"OMP_NUM_THREADS": "1"}}
    task = ray.remote(num_cpus=1, runtime_env=one_thread)(function)
    most = max(LEAST, AHEAD * int(ray.cluster_resources().get("CPU", 0)))
    waiting: deque[Any] = deque()  # all whose result was not given out yet, in order
    running: list[Any] = []
    for cell in cells:
        if len(running) >= most:
            _, running = ray.wait(running)
        running.append(task.remote(cell))
        waiting.append(running[-1])
        while waiting[0] not in running:
            yield _result(waiting.popleft())
    while waiting:
        yield _result(waiting.popleft())


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
