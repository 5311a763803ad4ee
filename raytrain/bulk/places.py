"""The places to embed, a table's or a grid's, as a stream of parts that are always the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raytrain import geo, storage
from raytrain.data.rows import REASON
from raytrain.data.sources.tabular import TableFiles, cut, explained, opened, places_of
from raytrain.errors import UserError
from raytrain.geo import Array

EMBEDDING = "embedding"  # the column that is added, and REASON to rows that are left out


@dataclass(frozen=True)
class Grid:
    """The centres of a global grid of cells of `degrees`, or the nearest size that divides 180.

    Row by row from the north-west, and whole rows in every part.
    """

    degrees: float
    url, sources = "--grid", ("grid",)

    def __post_init__(self) -> None:
        if not 0 < self.degrees <= 180:
            raise UserError(f"--grid {self.degrees:g}: give the size of a cell in (0, 180] degrees")

    @property
    def shape(self) -> tuple[int, int]:
        return geo.grid_shape(self.degrees)

    @property
    def rows(self) -> int | None:
        return self.shape[0] * self.shape[1]

    def identity(self) -> dict[str, Any]:
        """What tells these places from others."""
        return {"grid": [*self.shape]}

    def part_rows(self, most: int) -> int:
        """Rows of a part, `most` or whole rows of the grid."""
        return max(1, most // self.shape[1]) * self.shape[1]

    def parts_of(self, source: int, rows: int) -> Iterator[pa.Table]:
        """Columns lon, lat."""
        height, width = self.shape
        for first in range(0, height * width, rows):
            cells = np.arange(first, min(first + rows, height * width))
            lon, lat = geo.cell_centres(cells, height, width).T
            yield pa.table({"lon": lon, "lat": lat})

    def split(self, part: pa.Table) -> tuple[Array, pa.Table]:
        """The places [n, 2] of a part, and its other columns: none."""
        return np.stack([part["lon"], part["lat"]], axis=1), part.select([])


class Table(TableFiles):
    """Files with places, as in TableFiles, and nothing in the columns that are added."""

    rows: int | None = None  # known at the end

    def __init__(self, url: str) -> None:
        super().__init__(url)
        for taken in {EMBEDDING, REASON} & {*self.schema.names}:
            raise UserError(f"{url} has a column `{taken}` already; rename it or leave it out")
        if self.kind == "csv":
            self.schema = pa.schema([self._type(field) for field in self.schema])

    def _type(self, field: pa.Field) -> pa.Field:
        """A CSV file's column is text where it is empty at first, and where it holds coordinates,
        so that a bad cell is a bad row and no more."""
        text = field.name in self.places or pa.types.is_null(field.type)
        return field.with_type(pa.string()) if text else field

    def identity(self) -> dict[str, Any]:
        """What tells these places from others: the files, their sizes and times of change."""
        return {"files": {file: storage.stamp(file) for file in self.sources}}

    def part_rows(self, most: int) -> int:
        return most

    def parts_of(self, source: int, rows: int) -> Iterator[pa.Table]:
        """The columns of a file as they are, `rows` at a time; coordinates of CSV are text."""
        file = self.sources[source]
        with explained(file, self.kind):
            schema, batches = opened(file, self.kind, self.schema)
            self.check(schema, file)
            for part in cut(batches, rows):
                yield part.select(self.schema.names).cast(self.schema)

    def split(self, part: pa.Table) -> tuple[Array, pa.Table]:
        """The places [n, 2] of a part, nan where a coordinate is none, and its other columns."""
        others = part if self.has_points else part.drop_columns([*self.places])
        return places_of(part, self.places), others
