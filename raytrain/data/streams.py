"""Streams: one modality's shards as an endless, shuffled, resumable sequence of pairs.

The shards of a modality are visited epoch after epoch, in an order drawn from (seed, epoch), and
the rows of a visit in an order drawn from (seed, epoch, shard); where the modality is balanced,
the rows themselves are drawn then, as many. Ranks share the visits.

This module runs in Ray Data's read tasks, which would spend seconds on importing torch.
"""

import itertools
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray.data
import ray.train
from numpy.typing import NDArray
from ray.data import DataIterator, Datasource, ReadTask
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data.block import BlockAccessor, BlockMetadata
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raytrain import storage
from raytrain.data.augment import AugmentConfig, augmented, centred
from raytrain.data.balance import BalanceConfig
from raytrain.data.kept import Kept, content_of
from raytrain.data.shards import Columns as Content
from raytrain.data.shards import (
    Field,
    Manifest,
    Shard,
    ShardError,
    places_of,
    read_shard,
    rows_of,
)
from raytrain.data.visits import Position, Visit, dealt

LONLAT, OBSERVATION, STAND_IN = "lonlat", "observation", "stand_in_for_shard"
Columns = dict[str, NDArray[Any]]

BLOCK_BYTES = 8_000_000
ROUND_S = 0.1
READS_PER_CPU = 2  # a short one ends long before the next is begun, in ROUND_S


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The plan of one modality's stream; reading happens in Ray Data's tasks, or in `batches`.

    Shards that `kept` names are taken from there, and no file is read.
    """

    modality: str
    url: str
    manifest: Manifest
    observation: str  # the field of the manifest
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    seed: int = 0
    verify: bool = True
    position: Position = ()  # where it begins
    rows_wanted: int = 0  # by all ranks, from here to the end of the run
    kept: Kept = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Training places, those of one epoch."""
        return self.manifest.samples("train")

    @property
    def fields(self) -> dict[str, Field]:
        """The columns that are read, beside the places."""
        return {self.observation: self.field}

    @property
    def field(self) -> Field:
        """What is observed."""
        return self.manifest.field(self.observation)

    def shard_url(self, shard: Shard) -> str:
        return storage.join(self.url, shard.name)

    def visits(self, rank: int, world: int) -> Iterator[Visit]:
        """The visits of one rank from `position` on, endless."""
        return dealt(self._visits(), self.position, rank, world)

    def _visits(self) -> Iterator[Visit]:
        """Every shard, epoch after epoch, endless."""
        shards = self.manifest.shards_of("train")
        for epoch in itertools.count():
            for number in self._rng(epoch).permutation(len(shards)):
                yield Visit(shards[number], epoch)

    def read(self, visit: Visit) -> Columns:
        """The rows of a visit, augmented, or one view of each. The place of a row that cannot be
        used is taken by another of the same visit, and STAND_IN holds the number of the shard (else
        -1)."""
        shards = self.manifest.shards_of("train")
        number = shards.index(visit.shard)
        rng = self._rng(visit.epoch, number)
        verify = self.verify and visit.epoch == 0
        rows = rng.permutation(visit.shard.samples)
        draws = rng.random((visit.shard.samples, 4))[visit.skip :]
        content = self._kept(visit.shard)
        if self.balance.exponent > 0:
            content = content or self._read(visit.shard, verify)
            rows = self.balance.draw(places_of(content, visit.shard), rng)
        columns, stand_in = self._rows(visit.shard, rows[visit.skip :], verify, content)
        observation = columns[self.observation]
        if (views := self.field.views) > 1:
            chosen = (draws[:, 0] * views).astype(np.int64)
            observation = observation[np.arange(len(chosen)), chosen]
        if observation.ndim == 4:
            observation = augmented(observation, draws, self.augment)
        return {
            LONLAT: columns[LONLAT],
            OBSERVATION: observation,
            STAND_IN: np.where(stand_in, number, -1).astype(np.int32),
        }

    def batches(self, rows: int) -> Iterator[Columns]:
        """All rows of a single worker, so many at a time, read here and now; endless."""
        left: Columns = {}
        for visit in self.visits(rank=0, world=1):
            fresh, first = self.read(visit), 0
            count = len(fresh[LONLAT])
            if left:  # only what completes a batch is copied once more
                first = rows - len(left[LONLAT])
                left = {k: np.concatenate([left[k], v[:first]]) for k, v in fresh.items()}
                if len(left[LONLAT]) < rows:
                    continue
                yield left
            for start in range(first, count - rows + 1, rows):
                yield {name: column[start : start + rows] for name, column in fresh.items()}
            rest = count - (count - first) % rows
            left = {k: v[rest:] for k, v in fresh.items()} if rest < count else {}

    def validation(self, places: int) -> Columns:
        """The first `places` rows held out from training, without augmentation: the first view."""
        parts: list[Columns] = []
        for shard in self.manifest.shards_of("val"):
            wanted = places - sum(len(part[LONLAT]) for part in parts)
            if wanted > 0:
                rows = np.arange(min(wanted, shard.samples))
                parts.append(self._rows(shard, rows, self.verify, self._kept(shard))[0])
        if not parts:
            raise ShardError(f"{self.url}: no validation places; prepare the modality with more")
        observation = np.concatenate([part[self.observation] for part in parts])
        if self.field.views > 1:
            observation = observation[:, 0]
        if observation.ndim == 4:
            observation = centred(observation, self.augment)
        return {
            LONLAT: np.concatenate([part[LONLAT] for part in parts]),
            OBSERVATION: observation,
        }

    def dataset(self, rank: int, world: int, node: str, reads: int = 1) -> ray.data.Dataset:
        """The rank's stream as a Ray Dataset, long enough for `rows_wanted`, which reads so many
        shards at a time, on the node of that id while it takes tasks: nothing travels then."""
        chosen, rows = [], 0
        for visit in self.visits(rank, world):
            chosen.append(visit)
            rows += visit.rows
            if rows * world >= self.rows_wanted:
                break
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True  # else batches come as tasks end
        context.execution_options.verbose_progress = False
        context.enable_progress_bars = False
        context.custom_execution_callback_classes = [_Unhurried]
        context.execution_no_progress_timeout_s = -1  # SALT leaves a stream alone for an epoch
        return ray.data.read_datasource(
            _Visits(self, chosen),
            override_num_blocks=len(chosen),
            # Of its CPUs Ray Data shares among all streams of all workers what the workers leave,
            # in whole ones: on many workers it is none, and reads that ask for one would starve.
            num_cpus=0,
            concurrency=reads,
            ray_remote_args={
                "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True)
            },
        )

    def _kept(self, shard: Shard) -> Content | None:
        """All rows of a shard, where they are kept."""
        reference = self.kept.get(self.shard_url(shard))
        return None if reference is None else content_of(reference)

    def _read(self, shard: Shard, verify: bool, rows: NDArray[np.int64] | None = None) -> Content:
        """Rows of a shard from its file."""
        layout = self.manifest.layout
        return read_shard(self.url, shard, self.fields, layout, verify=verify, rows=rows)

    def _rows(
        self, shard: Shard, rows: NDArray[np.int64], verify: bool, content: Content | None
    ) -> tuple[Columns, NDArray[np.bool_]]:
        """Rows of a shard, with others in place of those of no use, and which these are."""
        if content is not None:
            columns, skipped = rows_of(content, shard, rows)
        else:
            columns, skipped = self._read(shard, verify, rows)
        stand_in = np.isin(rows, [bad.row for bad in skipped])
        if skipped:
            if stand_in.all():
                reason = skipped[0].reason
                raise ShardError(f"{self.url}/{shard.name}: no row can be used ({reason})")
            index = np.flatnonzero(~stand_in)
            fill = np.resize(np.arange(len(index)), int(stand_in.sum()))
            source = np.empty(len(rows), np.int64)
            source[index], source[stand_in] = np.arange(len(index)), fill
            columns = {name: column[source] for name, column in columns.items()}
        return columns, stand_in

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(self.modality.encode()), *numbers])


class _Unhurried(ExecutionCallback):  # type: ignore[misc]
    """Lets Ray Data's scheduling loop rest between its rounds. While batches wait to be consumed it
    would spin, and take the interpreter from the training that runs in the same process."""

    def on_execution_step(self, executor: Any) -> None:
        time.sleep(ROUND_S)


class _Visits(Datasource):  # type: ignore[misc]
    """One read task a visit."""

    def __init__(self, stream: Stream, visits: list[Visit]) -> None:
        self.stream, self.visits = stream, visits

    def get_name(self) -> str:
        return self.stream.modality.capitalize()

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        return [self._task(visit) for visit in self.visits]

    def _task(self, visit: Visit) -> ReadTask:
        stream = self.stream

        def read() -> Iterator[Any]:
            columns = stream.read(visit)
            row_bytes = sum(column[:1].nbytes for column in columns.values())
            rows = max(1, BLOCK_BYTES // row_bytes)
            for start in range(0, visit.rows, rows):
                block = {k: v[start : start + rows] for k, v in columns.items()}
                yield BlockAccessor.batch_to_arrow_block(block)

        size = BlockMetadata(
            num_rows=visit.rows, size_bytes=None, input_files=None, exec_stats=None
        )
        return ReadTask(read, size)


class StreamPerRank(ray.train.DataConfig):  # type: ignore[misc]
    """Splits streams over workers: each gets a Ray Dataset of its own visits, and executes it.

    Ray's streaming_split would hand out blocks by one coordinator a data set, in an order that a
    restart in mid-epoch does not repeat.
    """

    def __init__(self, cpus_per_worker: float) -> None:
        super().__init__(datasets_to_split=[])
        self.cpus_per_worker = cpus_per_worker

    def configure(
        self,
        datasets: Mapping[str, Stream],
        world_size: int,
        worker_handles: Any,
        worker_node_ids: Sequence[str],
        **_: Any,
    ) -> list[dict[str, DataIterator]]:
        cpus = {node["NodeID"]: node["Resources"].get("CPU", 0.0) for node in ray.nodes()}

        def reads(node: str) -> int:
            """Of the node's CPUs that its workers leave, shared by all of their streams."""
            free = cpus[node] / worker_node_ids.count(node) - self.cpus_per_worker
            return int(max(1, READS_PER_CPU * free // len(datasets)))

        return [
            {
                name: s.dataset(rank, world_size, node, reads(node)).iterator()
                for name, s in datasets.items()
            }
            for rank, node in enumerate(worker_node_ids)
        ]
