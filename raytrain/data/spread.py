"""Work on numbered things, spread over a cluster by Ray Data."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray.data
from numpy.typing import NDArray
from ray.exceptions import RayTaskError

from raytrain.errors import UserError

CPUS = 1.0  # of each task


def spread(work: Callable[[int], int], numbers: Sequence[int]) -> Iterator[int]:
    """What `work` gives for each of the numbers, as they come, by one task each; Ray must run. A
    UserError of a task is raised here as it is."""
    if not numbers:
        return
    make_quiet(ray.data.DataContext.get_current())
    items = [{"number": number} for number in numbers]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    done = dataset.map_batches(_call, fn_kwargs={"work": work}, batch_size=1, num_cpus=CPUS)
    for row in rows_of(done):
        yield row["done"]


def _call(batch: dict[str, NDArray[np.int64]], work: Callable[[int], int]) -> dict[str, list[int]]:
    return {"done": [work(int(number)) for number in batch["number"]]}


def make_quiet(context: ray.data.DataContext) -> None:
    """Let Ray Data show no progress of its own, and raise what was raised."""
    context.enable_progress_bars, context.raise_original_map_exception = False, True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what matters is raised


def rows_of(dataset: "ray.data.Dataset") -> Iterator[dict[str, Any]]:
    """The rows of a dataset as they come. Raises the UserError of a task, without Ray's words."""
    with users_errors():
        yield from dataset.iter_rows()


@contextmanager
def users_errors() -> Iterator[None]:
    """Raises the UserError that a task raised, in one line."""
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, UserError):  # Ray adds lines about its retries
            raise UserError(str(error.cause).partition("\n")[0]) from None
        raise
