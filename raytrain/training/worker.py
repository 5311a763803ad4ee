"""What runs in each Ray Train worker: open the streams, call the loop, tell the driver."""

import traceback
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from raytrain.data.streams import Reader
from raytrain.errors import UserError
from raytrain.training import checkpoint
from raytrain.training.job import Job
from raytrain.training.loop import Record, train


class Board:
    """Where rank 0 leaves records and the driver finds them; the driver may ask for a stop. An
    actor, made one by `launch`."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.stop = self.begun = False

    def begin(self, step: int) -> None:
        """Training begins behind `step`: more than once where workers were lost."""
        if self.begun:
            self.records.append({"notice": f"a worker was lost; training goes on from step {step}"})
        self.begun = True

    def put(self, record: Record) -> bool:
        """Leave a record; the answer is whether to stop."""
        self.records.append(record)
        return self.stop

    def take(self) -> list[Record]:
        """All records since the last call."""
        records, self.records = self.records, []
        return records

    def ask_to_stop(self) -> None:
        self.stop = True


def run_worker(settings: dict[str, Any]) -> Record:
    """The train function of TorchTrainer. Returns the outcome of `train`."""
    job: Job = settings["job"]
    board = settings["board"]
    torch.set_num_threads(settings["threads"])
    ranks = ray.train.get_context().get_world_size()

    def skipped(modality: str, shards: dict[str, int]) -> None:
        board.put.remote({"skipped": {modality: shards}})

    readers = {
        name: Reader(
            stream,
            ray.train.get_dataset_shard(name),
            rows=job.rows(name),
            world=ranks,
            max_skipped_share=job.config.data.max_skipped_share,
            on_skipped=skipped,
        )
        for name, stream in job.streams.items()
    }
    start = checkpoint.latest(job.run_url)
    if ray.train.get_context().get_world_rank() == 0:
        board.begin.remote(start.step if start else 0)
    try:
        return train(job, readers, ray.train.torch.get_device(), start, Reporter(board))
    except Exception as error:
        message = user_message(error)
        # Beside other ranks these may echo a peer that was lost, which a restart mends.
        if message is None and (ranks == 1 or not isinstance(error, RuntimeError | OSError)):
            message = traceback.format_exc()
        if message is not None:
            ray.get(board.put.remote({"error": message}))
        raise


def user_message(error: BaseException | None) -> str | None:
    """The message of the UserError in a chain of causes (Ray wraps what its tasks raise)."""
    while error is not None:
        if isinstance(error, UserError):
            return str(error)
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None


class Reporter:
    """Passes records to the board without waiting; its answer is the board's to an earlier one."""

    def __init__(self, board: Any) -> None:
        self.board, self.pending, self.stop = board, None, False

    def __call__(self, record: Record) -> bool:
        if self.pending is not None and ray.wait([self.pending], timeout=0)[0]:
            self.stop = ray.get(self.pending)
        self.pending = self.board.put.remote(record)
        return self.stop
