"""metrics.jsonl: a line for each record of a run, and each figure of a step once."""

import json
import time
from contextlib import suppress
from threading import Lock
from typing import Any

from raytrain import storage
from raytrain.storage import StorageError

METRICS_FILE = "metrics.jsonl"
FLUSH_S = 2.0  # at the latest; the steps of a checkpoint are there before it is


class Metrics:
    """The lines of a run, those of earlier starts included, and when each came (Unix time, ms)."""

    def __init__(self, run_url: str) -> None:
        self.url = f"{run_url}/{METRICS_FILE}"
        self.lines, self.times_ms = list[str](), list[int]()
        self.last_step: dict[str, int] = {}  # by name of the figure
        with suppress(FileNotFoundError):
            for line in storage.read(self.url).decode().splitlines():
                self._keep(json.loads(line), line)
        self._flushed_s, self._flushed_lines = time.monotonic(), len(self.lines)
        self._flushing = Lock()

    def add(self, record: dict[str, Any]) -> None:
        """Figures of one global step. What is there already, and is repeated after a restart, is
        passed over."""
        step = record["step"]
        figures = {k: float(v) for k, v in record.items() if k != "step"}
        new = {k: v for k, v in figures.items() if step > self.last_step.get(k, -1)}
        if new:
            self._keep({"step": step, **new}, json.dumps({"step": step, **new}))
        if time.monotonic() - self._flushed_s > FLUSH_S + len(self.lines) / 1000:
            self.keep()

    def keep(self) -> None:
        """Write the lines, where the storage takes them; the last flush says so if it does not."""
        with suppress(StorageError):
            self.flush()

    def flush(self) -> None:
        """Write the lines, where there are new ones. Raises StorageError."""
        with self._flushing:
            self._flushed_s, lines = time.monotonic(), [*self.lines]
            if len(lines) > self._flushed_lines:
                storage.write(self.url, "".join(f"{line}\n" for line in lines).encode())
                self._flushed_lines = len(lines)

    def _keep(self, record: dict[str, Any], line: str) -> None:
        self.last_step |= {k: record["step"] for k in record if k != "step"}
        self.times_ms.append(int(record.get("time_s", time.time()) * 1000))
        self.lines.append(line)
