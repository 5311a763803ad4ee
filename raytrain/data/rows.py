"""Raw rows: what a source offers whose data may be more than any memory holds."""

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from raytrain.data.manifest import Field
from raytrain.data.sources.files import Context
from raytrain.data.writer import Observed

LON, LAT, KEY, REASON = "lon", "lat", "key", "why_left_out"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of the raw data, the same on every machine and in every run, that is read by itself:
    a file, or what lies between two positions of it, in units that the source understands. `rows`
    is how many it holds, or about."""

    file: str
    rows: int
    first: int = 0
    stop: int | None = None


class RowSource(Protocol):
    """Raw rows in parts, and what was observed at them. All depends on settings and files alone."""

    @property
    def layout(self) -> str:
        """Of the shards: shards.COLUMNS or shards.SAMPLES."""

    def parts(self, context: Context) -> list[Part]:
        """The parts of all raw data, without reading more of it than it takes to find them."""

    def rows(self, part: Part, context: Context) -> pa.Table:
        """The rows of a part: LON and LAT (float64, degrees, as they are; null where there is
        none), KEY (what a report calls the row: a file's name, a title, "row 17"), and what
        `observe` needs, all of it small: paths and positions in files rather than pictures.
        A column REASON (null where a row is good) marks rows that are known to be of no use."""

    def fields(self, context: Context) -> dict[str, Field]:
        """What is observed at a place; at most the first rows are looked at."""

    def observe(self, rows: pa.Table, context: Context) -> tuple[Observed, dict[int, str]]:
        """The observations of some rows, in their order, and by number the rows that turned out to
        have none, with a reason that is the same for all rows of its kind (their columns hold
        anything of the right shape)."""
