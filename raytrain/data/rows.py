"""Raw rows: what a source offers whose data may be more than any memory holds."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raytrain.data.manifest import Field
from raytrain.data.packing import Observed
from raytrain.data.sources.files import Context

LON, LAT, KEY, REASON = "lon", "lat", "key", "why_left_out"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of the raw data, the same on every machine and in every run, that is read by itself:
    a file, or what lies between two positions of it, in units that the source understands. `rows`
    is how many it holds, or about; `row` is the number of its first in the file, from 1. `about` is
    what else the source found out when it listed the parts: names and numbers, and few of them.
    """

    file: str
    rows: int
    first: int = 0
    stop: int | None = None
    row: int = 1
    about: Any = ()


@dataclass(frozen=True, kw_only=True)
class RowSource(ABC):
    """Raw rows in parts, and what was observed at them. All depends on settings and files alone.

    More bad rows than `max_bad_share` of all are an error. With `land` rows at sea are left out;
    they are counted either way. A shard has up to `shard_rows` rows.
    """

    max_bad_share: float = 0.5
    land: bool = False
    shard_rows: int = 8192

    @property
    @abstractmethod
    def raw(self) -> str:
        """What messages call the raw data: a file, folder, pattern or URL, as the card has it."""

    @property
    @abstractmethod
    def layout(self) -> str:
        """Of the shards: shards.COLUMNS or shards.SAMPLES."""

    @abstractmethod
    def parts(self, context: Context) -> list[Part]:
        """The parts of all raw data, without reading more of it than it takes to find them."""

    @abstractmethod
    def rows(self, part: Part, context: Context) -> Iterator[pa.Table]:
        """The rows of a part, in tables that together may be more than memory holds (some ten
        thousand rows each are good): LON and LAT (float64, degrees, as they are; null or nan where
        there is none), KEY (what a report calls the row: a file's name, a title, "row 17"), and
        what `observe` needs, all of it small: paths and positions in files rather than pictures.
        Rows that are equal in all but KEY are duplicates. A column REASON (null where a row is
        good) marks rows that are known to be of no use."""

    @abstractmethod
    def fields(self, context: Context) -> dict[str, Field]:
        """What is observed at a place; at most the first rows are looked at."""

    @abstractmethod
    def observe(self, rows: pa.Table, context: Context) -> tuple[Observed, dict[int, str]]:
        """The observations of some rows, in their order, and by number the rows that turned out to
        have none, with a reason that is the same for all rows of its kind (their columns hold
        anything of the right shape)."""
