"""What the loop counts between two log lines: pairs, time, and the time spent waiting for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Meter:
    """Throughput since the last `read`."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.began, self.waited, self.pairs = time.perf_counter(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent inside counts as waiting for data."""
        began = time.perf_counter()
        yield
        self.waited += time.perf_counter() - began

    def read(self) -> dict[str, float]:
        """pairs_per_s over all ranks; data_wait, the share of time spent waiting in [0, 1]; and
        time_s, the clock (Unix time)."""
        elapsed = time.perf_counter() - self.began
        values = {"pairs_per_s": self.pairs / elapsed, "data_wait": self.waited / elapsed}
        values["time_s"] = time.time()
        self._reset()
        return values
