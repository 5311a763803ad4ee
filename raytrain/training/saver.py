"""Writing checkpoints beside the training, which waits for none of them but the last."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from raytrain.settings import Tree
from raytrain.storage import StorageError
from raytrain.training import checkpoint
from raytrain.training.checkpoint import CheckpointError, Snapshot

PATIENCE_S, PAUSE_S = 600.0, 5.0  # for the last one, where the storage refuses it


class Saver:
    """Writes snapshots in a thread of its own. Of those that wait for an earlier one to be written
    only the newest is kept. What the storage refuses is said, and training goes on. `may_save` is
    asked before that of a step is written, and may take its time."""

    def __init__(
        self,
        run_url: str,
        resolved: Tree,
        keep: int,
        say: Callable[[str], object],
        may_save: Callable[[int], bool] = lambda step: True,
    ) -> None:
        self.run_url, self.resolved, self.keep, self.say = run_url, resolved, keep, say
        self.may_save = may_save
        self.thread = ThreadPoolExecutor(1, "checkpoints")
        self.lock = Lock()
        self.waiting: Snapshot | None = None
        self.writing = list[Future[None]]()
        self.problem: StorageError | None = None  # of the newest snapshot that was tried

    def save(self, snapshot: Snapshot) -> None:
        """Have it written soon. Raises what an earlier one raised, but for StorageErrors."""
        with self.lock:
            self.waiting = snapshot
        while self.writing and self.writing[0].done():
            self.writing.pop(0).result()
        self.writing.append(self.thread.submit(self._write_waiting))

    def finish(self) -> None:
        """Wait until the newest snapshot is written; one that is refused is tried again.

        Raises CheckpointError where it is refused for PATIENCE_S.
        """
        deadline = time.monotonic() + PATIENCE_S
        for writing in self.writing:
            writing.result()
        self.thread.shutdown()
        while self.waiting is not None:
            if time.monotonic() > deadline:
                raise CheckpointError(
                    f"the last checkpoint, of step {self.waiting.step}, cannot be written: "
                    f"{self.problem}. The same command with the run's name goes on from the last "
                    "one that could"
                )
            time.sleep(PAUSE_S)
            self._write_waiting()

    def _write_waiting(self) -> None:
        with self.lock:
            snapshot, self.waiting = self.waiting, None
        if snapshot is None or not self.may_save(snapshot.step):
            return
        try:
            checkpoint.save(self.run_url, snapshot, self.resolved)
            checkpoint.prune(self.run_url, self.keep)
        except StorageError as problem:
            self._keep(snapshot, problem)
            return
        if self.problem is not None:
            self.say(f"the checkpoint of step {snapshot.step} was written")
        self.problem = None

    def _keep(self, snapshot: Snapshot, problem: StorageError) -> None:
        with self.lock:
            self.waiting = self.waiting or snapshot
        if self.problem is None:
            self.say(
                f"the checkpoint of step {snapshot.step} cannot be written ({problem}); "
                "training goes on, and the next is tried"
            )
        self.problem = problem
