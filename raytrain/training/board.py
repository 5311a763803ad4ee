"""The actor between workers and driver. It imports nothing heavy: a run waits for it to start.

A group of workers is replaced where one of them is lost. What is left of it, behind a network that
failed, is heard no more and may not write checkpoints beside those of the group that trains.
"""

from typing import Any

Record = dict[str, Any]


class Board:
    """Where rank 0 leaves records and the driver finds them; the driver may ask for a stop. An
    actor, made one by `launch`."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.stop = False
        self.workers: int | None = None
        self.group = 0  # that trains
        self.asked = self.taken = self.kept = -1  # last step that the driver is to keep, and has

    def begin(self, step: int, workers: int) -> int:
        """Training begins behind `step`: more than once where workers were lost, or came. The
        answer is the number of the group of workers."""
        if self.workers is not None:
            happened = "workers came" if workers > self.workers else "a worker was lost"
            now = "" if workers == self.workers else f" with {workers} in place of {self.workers}"
            notice = f"{happened}; training goes on from step {step}{now}"
            self.records.append({"notice": notice})
        self.workers = workers
        self.group += 1
        self.asked = self.taken = self.kept = -1
        return self.group

    def put(self, record: Record, group: int | None = None) -> bool:
        """Leave a record, of a group or of anyone; the answer is whether to stop."""
        if group in (None, self.group):
            self.records.append(record)
        return self.stop

    def may_save(self, group: int, step: int) -> bool | None:
        """Whether the group may write the checkpoint of a step. It may when the driver has kept all
        that was reported until then; None before. It may not when it was replaced."""
        if group != self.group:
            return False
        if step > self.asked:
            self.asked = step
            self.records.append({"checkpoint": step})
        return True if self.kept >= step else None

    def take(self) -> list[Record]:
        """All records since the last call, whose records the driver has kept."""
        self.kept, self.taken = self.taken, self.asked
        records, self.records = self.records, []
        return records

    def ask_to_stop(self) -> None:
        self.stop = True
