"""The actor between workers and driver. It imports nothing heavy: a run waits for it to start."""

from typing import Any

Record = dict[str, Any]


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
