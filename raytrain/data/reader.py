"""The worker's end of a stream: batches of pairs, out of the Ray Dataset that it executes, or read
by a thread of its own."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from ray.data import DataIterator
from torch import Tensor

from raytrain.batch import Pairs
from raytrain.data.shards import ShardError
from raytrain.data.streams import LONLAT, OBSERVATION, STAND_IN, Columns, Stream

AHEAD = 2  # batches that are read while others are trained on

Batches = Iterator[Mapping[str, Tensor]]


class Reader(Iterator[Pairs]):
    """A worker's end of a stream: batches of pairs on its device. `open_batches` is called at once,
    in the background."""

    def __init__(
        self,
        stream: Stream,
        open_batches: Callable[[], Batches],
        world: int,
        max_skipped_share: float,
        on_skipped: Callable[[str, dict[str, int]], None],
    ) -> None:
        self.stream, self.on_skipped = stream, on_skipped
        self.taken = self.skipped = 0
        self.allowed_share, self.one_pass = max_skipped_share, stream.samples // world
        self.opening = ThreadPoolExecutor(1, f"open-{stream.modality}").submit(open_batches)

    def __next__(self) -> Pairs:
        batch = next(self.opening.result())
        self._count(batch[STAND_IN])
        return Pairs(batch[LONLAT], batch[OBSERVATION])

    def _count(self, stand_in: Tensor) -> None:
        self.taken += len(stand_in)
        shards = stand_in[stand_in >= 0].tolist()
        if not shards:
            return
        self.skipped += len(shards)
        names = [shard.name for shard in self.stream.manifest.shards_of("train")]
        self.on_skipped(self.stream.modality, dict(Counter(names[shard] for shard in shards)))
        if self.skipped > self.allowed_share * max(self.taken, self.one_pass):
            raise ShardError(
                f"{self.stream.modality}: {self.skipped} of {self.taken} samples could not be "
                f"used, the last in {self.stream.url}/{names[shards[-1]]}; more than "
                f"data.max_skipped_share = {self.allowed_share:.2%} of a pass. Prepare the "
                "modality again, or raise the share"
            )


def by_ray(iterator: DataIterator, rows: int) -> Batches:
    """Batches of the Ray Dataset that this worker executes, on its device."""
    batches = iterator.iter_torch_batches(batch_size=rows, prefetch_batches=AHEAD, drop_last=True)
    return iter(batches)


class ByThread(Batches):
    """Batches of a stream for a single worker, without Ray Data: a thread reads them ahead."""

    def __init__(self, stream: Stream, rows: int, device: torch.device) -> None:
        self.batches, self.device = stream.batches(rows), device
        self.thread = ThreadPoolExecutor(1, f"read-{stream.modality}")
        self.ahead: deque[Future[Columns]] = deque(self._begin() for _ in range(AHEAD))

    def __next__(self) -> Mapping[str, Tensor]:
        columns = self.ahead.popleft().result()
        self.ahead.append(self._begin())
        return {name: torch.from_numpy(c).to(self.device) for name, c in columns.items()}

    def _begin(self) -> "Future[Columns]":
        return self.thread.submit(next, self.batches)
