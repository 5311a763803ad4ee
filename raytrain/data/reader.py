"""The worker's end of a stream: batches of pairs out of the Ray Dataset that it executes."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from ray.data import DataIterator

from raytrain.batch import Pairs
from raytrain.data.shards import ShardError
from raytrain.data.streams import LONLAT, OBSERVATION, STAND_IN, Stream


class Reader(Iterator[Pairs]):
    """A worker's end of a stream: batches of `rows` pairs on its device. Reading begins at once, in
    the background."""

    def __init__(
        self,
        stream: Stream,
        iterator: DataIterator,
        rows: int,
        world: int,
        max_skipped_share: float,
        on_skipped: Callable[[str, dict[str, int]], None],
    ) -> None:
        self.stream, self.on_skipped = stream, on_skipped
        self.taken = self.skipped = 0
        self.allowed_share, self.one_pass = max_skipped_share, stream.samples // world
        batches = iterator.iter_torch_batches(batch_size=rows, prefetch_batches=2, drop_last=True)
        self.opening = ThreadPoolExecutor(1, f"open-{stream.modality}").submit(iter, batches)

    def __next__(self) -> Pairs:
        batch = next(self.opening.result())
        self._count(batch[STAND_IN])
        return Pairs(batch[LONLAT], batch[OBSERVATION])

    def _count(self, stand_in: torch.Tensor) -> None:
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
