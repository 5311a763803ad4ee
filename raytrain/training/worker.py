"""What runs in each Ray Train worker: open the streams, call the loop, tell the driver."""

import logging
import os
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.torch
import ray.util
import torch
from ray.exceptions import RayError, RayTaskError
from ray.train.v2._internal.execution.context import get_train_context

from raytrain import storage
from raytrain.data.reader import Reader, by_ray
from raytrain.encoders.pretrained import CONFIG
from raytrain.errors import UserError
from raytrain.training import checkpoint
from raytrain.training.board import Record
from raytrain.training.config import ScalingConfig
from raytrain.training.job import Job
from raytrain.training.loop import train

ASK_S = 0.1  # between two questions whether a checkpoint may be written
NO_MEMORY = "can't allocate memory"  # torch says it so on a CPU
LOWER_MEMORY = (
    "Raise training.accumulate, which keeps the batch and its negatives, or lower training.batch "
    "or the model's size"
)


def run_worker(settings: dict[str, Any]) -> Record:
    """The train function of TorchTrainer. Returns the outcome of `train`.

    Tells the driver of an error that no restart will mend.
    """
    try:
        return _train(settings["job"], settings["board"])
    except Exception as error:
        message = user_message(error)
        if message is None and not _echoes_a_loss(error):
            message = traceback.format_exc()
        if message is not None:
            ray.get(settings["board"].put.remote({"error": message}))
        raise


def _echoes_a_loss(error: Exception) -> bool:
    """Whether a restart may mend it: other ranks or nodes were lost."""
    if isinstance(error, RayError):
        return not isinstance(error, RayTaskError)
    alone = ray.train.get_context().get_world_size() == 1
    return isinstance(error, RuntimeError | OSError) and not alone


def _train(job: Job, board: Any) -> Record:
    context = ray.train.get_context()
    if storage.size(f"{job.run_url}/{CONFIG}") is None:
        raise UserError(
            f"node {ray.util.get_node_ip_address()} does not see {job.run_url}, which the driver "
            "made; on several nodes `storage` must be a file system that all share, or s3://…"
        )
    torch.set_num_threads(_threads(job.config.scaling, context.get_local_world_size()))
    ranks = context.get_world_size()

    def skipped(modality: str, shards: dict[str, int]) -> None:
        board.put.remote({"skipped": {modality: shards}})

    readers = {
        name: Reader(
            stream,
            partial(by_ray, ray.train.get_dataset_shard(name), job.rows(name, ranks)),
            world=ranks,
            max_skipped_share=job.config.data.max_skipped_share,
            on_skipped=skipped,
        )
        for name, stream in job.streams.items()
    }
    storage.log.addHandler(Notices(board))
    report = Reporter(board)
    first = context.get_world_rank() == 0
    start = checkpoint.latest(
        job.run_url, lambda fault: report({"notice": fault}) if first else False
    )
    if first:
        report.group = ray.get(board.begin.remote(start.step if start else 0, ranks))
    device, in_danger = ray.train.torch.get_device(), _node_goes(report)
    return train(job, readers, device, start, report, in_danger, report.may_save)


def _node_goes(report: "Reporter") -> Callable[[], bool]:
    """Tells once of each notice that a node of this run will be taken away. Every worker has it;
    ray.train.get_preemption_info would have all of them wait for each other, at every step."""
    heard, context = None, get_train_context().preemption_context

    def news() -> bool:
        nonlocal heard
        notice = context.preemption_info
        if notice == heard:
            return False
        heard = notice
        report({"notice": "a node of this run will be taken away; there is a checkpoint at once"})
        return True

    return news


def _threads(scaling: ScalingConfig, workers_here: int) -> int:
    """Torch threads of a worker. On CPUs one core of the node is left to the reads: threads that
    wait for each other on a busy core slow a step down manyfold."""
    if scaling.threads_per_worker is not None:
        return scaling.threads_per_worker
    if torch.cuda.is_available():
        return max(1, int(scaling.cpus_per_worker))
    return max(1, ((os.cpu_count() or 1) - 1) // workers_here)


def user_message(error: BaseException | None) -> str | None:
    """The message of the UserError in a chain of causes (Ray wraps what its tasks raise), or what
    to do where memory has run out."""
    while error is not None:
        if isinstance(error, UserError):
            return str(error)
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or NO_MEMORY in str(error):
            reason = str(error).partition("\n")[0]
            return f"a worker ran out of memory ({reason}). {LOWER_MEMORY}"
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None


class Notices(logging.Handler):
    """Passes what is logged here on to the user."""

    def __init__(self, board: Any) -> None:
        super().__init__()
        self.board = board

    def emit(self, record: logging.LogRecord) -> None:
        self.board.put.remote({"notice": record.getMessage()})


class Reporter:
    """Passes records to the board without waiting; its answer is the board's to an earlier one."""

    def __init__(self, board: Any) -> None:
        self.board, self.pending, self.stop = board, None, False
        self.group: int | None = None

    def __call__(self, record: Record) -> bool:
        if self.pending is not None and ray.wait([self.pending], timeout=0)[0]:
            self.stop = ray.get(self.pending)
        self.pending = self.board.put.remote(record, self.group)
        return self.stop

    def may_save(self, step: int) -> bool:
        """The board's answer, as soon as it has one."""
        while (answer := ray.get(self.board.may_save.remote(self.group, step))) is None:
            time.sleep(ASK_S)
        return bool(answer)
