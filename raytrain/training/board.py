"""The actor between workers and driver. It imports nothing heavy: a run waits for it to start."""

from typing import Any

Record = dict[str, Any]


class Board:
    """Where rank 0 leaves records and the driver finds them; the driver may ask for a stop. An
    actor, made one by `launch`."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.stop = False
        self.workers: int | None = None

    def begin(self, step: int, workers: int) -> None:
        """Training begins behind `step`: more than once where workers were lost, or came."""
        if self.workers is not None:
            happened = "workers came" if workers > self.workers else "a worker was lost"
            now = "" if workers == self.workers else f" with {workers} in place of {self.workers}"
            notice = f"{happened}; training goes on from step {step}{now}"
            self.records.append({"notice": notice})
        self.workers = workers

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
