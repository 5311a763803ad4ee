"""Statistics of the values of a field, shard by shard, in memory that does not grow with them."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytrain.data.manifest import Field

Array = NDArray[np.float64]

KEPT = 20_000  # values of each channel that quantiles and histograms are made of
PIECE = 2_000_000  # values that are looked at together


def digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=8).digest()


@dataclass
class Copies:
    """How many of the observations are the same as another."""

    times: Counter[bytes] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """Observations that are there more than once, all of their copies among them."""
        return sum(n for n in self.times.values() if n > 1)

    @property
    def most(self) -> int:
        """How often the most frequent one is there."""
        return max(self.times.values(), default=0)


class Numbers:
    """Of a field of numbers, by channel (images) or column (vectors): `rows` looked at, and arrays
    [channels] of `count` (finite values), `not_finite`, `mean`, `std`, `low` and `high`."""

    def __init__(self, spec: Field, shards: int, rng: np.random.Generator) -> None:
        self.channels = spec.shape[0] if spec.shape else 1
        self.each, self.rng = max(1, KEPT // max(1, shards)), rng
        self.rows = self.flat = 0
        self.count, self.not_finite = np.zeros((2, self.channels), np.int64)
        self.mean, self.squares = np.zeros((2, self.channels))  # of deviations from the mean
        self.low, self.high = np.full(self.channels, np.inf), np.full(self.channels, -np.inf)
        self.copies = Copies()
        self._kept: list[Array] = []

    def add(self, column: NDArray[Any]) -> None:
        """Rows [n, *shape] of one shard."""
        if not len(column):
            return
        rows = max(1, PIECE // max(1, column[0].size))
        for start in range(0, len(column), rows):
            self._add(column[start : start + rows])
        self.rows += len(column)
        values = column.reshape(len(column), self.channels, -1)
        row, pixel = (self.rng.integers(n, size=self.each) for n in values.shape[::2])
        self._kept.append(values[row, :, pixel].astype(np.float64))

    def _add(self, piece: NDArray[Any]) -> None:
        for row in piece:
            self.copies.times[digest(row.tobytes())] += 1
        values = piece.reshape(len(piece), self.channels, -1).astype(np.float64)
        if values[0].size > 1:
            self.flat += int((values == values[:, :1, :1]).all(axis=(1, 2)).sum())
        finite = np.isfinite(values)
        count = finite.sum(axis=(0, 2))
        self.not_finite += values[:, 0].size - count
        known = np.where(finite, values, 0)
        mean = known.sum(axis=(0, 2)) / np.maximum(count, 1)
        squares = (np.where(finite, values - mean[:, None], 0) ** 2).sum(axis=(0, 2))
        total, step = self.count + count, mean - self.mean  # Chan, Golub and LeVeque 1979
        share = count / np.maximum(total, 1)
        self.squares += squares + step**2 * self.count * share
        self.mean += step * share
        self.count = total
        self.low = np.minimum(self.low, np.where(finite, values, np.inf).min(axis=(0, 2)))
        self.high = np.maximum(self.high, np.where(finite, values, -np.inf).max(axis=(0, 2)))

    @property
    def std(self) -> Array:
        return np.asarray(np.sqrt(self.squares / np.maximum(self.count, 1)))

    def sample(self, channel: int) -> Array:
        """Some of a channel's finite values, [k] with k at most about KEPT."""
        values = np.concatenate([np.empty(0), *(kept[:, channel] for kept in self._kept)])
        return np.asarray(values[np.isfinite(values)])


class Texts:
    """Of a field of texts: `lengths` in characters, how many are empty, and copies."""

    def __init__(self) -> None:
        self.rows = self.empty = 0
        self.copies = Copies()
        self._lengths: list[int] = []

    def add(self, column: Iterable[str]) -> None:
        for text in column:
            self.rows += 1
            self.empty += not text.strip()
            self.copies.times[digest(text.encode(errors="replace"))] += 1
            self._lengths.append(len(text))

    @property
    def lengths(self) -> Array:
        return np.asarray(self._lengths, np.float64)
