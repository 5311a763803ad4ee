"""The places to embed, a table's or a grid's, as a stream of parts that are always the same."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from pyarrow.fs import FSSpecHandler, PyFileSystem

from raytrain import geo, storage
from raytrain.bulk import geoparquet
from raytrain.data.sources.tables import LAT_NAMES, LON_NAMES
from raytrain.errors import UserError
from raytrain.geo import Array

EMBEDDING, REASON = "embedding", "why_left_out"  # the columns that are added
KINDS = {"csv": (".csv", ".csv.gz"), "parquet": (".parquet", ".geoparquet", ".pq")}
READ_BYTES, READ_ROWS = 4 << 20, 16_384  # of a file at a time, whatever its size


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

    def parts(self, source: int, rows: int) -> Iterator[pa.Table]:
        """Columns lon, lat."""
        height, width = self.shape
        for first in range(0, height * width, rows):
            cells = np.arange(first, min(first + rows, height * width))
            lon, lat = geo.cell_centres(cells, height, width).T
            yield pa.table({"lon": lon, "lat": lat})

    def split(self, part: pa.Table) -> tuple[Array, pa.Table]:
        """The places [n, 2] of a part, and its other columns: none."""
        return np.stack([part["lon"], part["lat"]], axis=1), part.select([])


class Table:
    """Files of one kind, CSV or Parquet, with places in degrees and any other columns.

    `url` is a file, a pattern of files, or a folder with all files below it but those whose path
    has a name that begins with _ or a dot. Places are two columns, or the points of GeoParquet. All
    files have the columns of the first. Raises UserError where there are none or they have no
    places.
    """

    rows: int | None = None  # known at the end

    def __init__(self, url: str) -> None:
        kinds = {file: _kind(file) for file in _visible(storage.absolute(url))}
        self.url, self.sources = url, [file for file, kind in kinds.items() if kind]
        found = {kind for kind in kinds.values() if kind}
        if len(found) != 1:
            what = "CSV and Parquet side by side" if found else "no CSV or Parquet file"
            raise UserError(f"{url}: {what}; name a file, or a folder or pattern of one kind")
        self.kind, first = found.pop(), self.sources[0]
        with _explained(first, self.kind):
            self.schema, _ = self._opened(first)
        names = self.schema.names
        lon, lat = (_column(names, tried) for tried in (LON_NAMES, LAT_NAMES))
        self.columns = [name for name in (lon, lat) if name]
        self.geometry: str | None = None
        if len(self.columns) < 2:
            self.columns, self.geometry = [], geoparquet.point_column(self.schema.metadata, first)
            if not self.geometry:
                missing = "lat" if lon else "lon"
                raise UserError(f"{url} has no column `{missing}`; it has: {', '.join(names)}")
        for taken in {EMBEDDING, REASON} & {*names}:
            raise UserError(f"{url} has a column `{taken}` already; rename it or leave it out")
        if self.kind == "csv":
            self.schema = pa.schema([self._type(field) for field in self.schema])

    def _type(self, field: pa.Field) -> pa.Field:
        """A CSV file's column is text where it is empty at first, and where it holds coordinates,
        so that a bad cell is a bad row and no more."""
        text = field.name in self.columns or pa.types.is_null(field.type)
        return field.with_type(pa.string()) if text else field

    def identity(self) -> dict[str, Any]:
        """What tells these places from others: the files, their sizes and times of change."""
        return {"files": {file: storage.stamp(file) for file in self.sources}}

    def part_rows(self, most: int) -> int:
        return most

    def parts(self, source: int, rows: int) -> Iterator[pa.Table]:
        """The columns of a file as they are, `rows` at a time; coordinates of CSV are text."""
        file = self.sources[source]
        with _explained(file, self.kind):
            schema, batches = self._opened(file, self.schema)
            if self.geometry and geoparquet.point_column(schema.metadata, file) != self.geometry:
                raise UserError(f"{file} has no points in `{self.geometry}` as {self.sources[0]}")
            if missing := {*self.schema.names} - {*schema.names}:
                raise UserError(f"{file} has no column `{min(missing)}` as {self.sources[0]}")
            for part in _cut(batches, rows):
                yield part.select(self.schema.names).cast(self.schema)

    def split(self, part: pa.Table) -> tuple[Array, pa.Table]:
        """The places [n, 2] of a part, nan where a coordinate is none, and its other columns."""
        if self.geometry:
            return geoparquet.lonlat(part[self.geometry]), part
        numbers = [_numbers(part[name]) for name in self.columns]
        return np.stack(numbers, axis=1), part.drop_columns(self.columns)

    def _opened(
        self, file: str, known: pa.Schema | None = None
    ) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
        """The schema of a file, of CSV as far as it is not known, and rows, read as they are
        taken."""
        filesystem, path = storage.filesystem(file)
        arrow = PyFileSystem(FSSpecHandler(filesystem))
        if self.kind == "parquet":
            stored = pyarrow.parquet.ParquetFile(
                arrow.open_input_file(path), buffer_size=READ_BYTES, pre_buffer=False
            )
            return stored.schema_arrow, stored.iter_batches(READ_ROWS)
        read = pyarrow.csv.ReadOptions(block_size=READ_BYTES, use_threads=False)
        quoted = pyarrow.csv.ParseOptions(newlines_in_values=True)
        types = pyarrow.csv.ConvertOptions(column_types=known)
        # The end of the name tells whether it is compressed.
        reader = pyarrow.csv.open_csv(arrow.open_input_stream(path), read, quoted, types)
        return reader.schema, reader


def _visible(url: str) -> list[str]:
    """Files of a folder that are its content by the convention of pyarrow and Spark."""
    files = storage.files(url)
    inside = [file.removeprefix(url).split("/") if file.startswith(url) else [] for file in files]
    hidden = [any(name.startswith(("_", ".")) for name in names) for names in inside]
    return [file for file, skip in zip(files, hidden, strict=True) if not skip]


@contextmanager
def _explained(file: str, kind: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{file} is not readable as {kind}: {error}. A damaged file, or columns whose type "
            "changes: the first rows of CSV and the first file of Parquet decide it"
        ) from None


def _kind(file: str) -> str | None:
    return next((kind for kind, ends in KINDS.items() if file.lower().endswith(ends)), None)


def _column(names: list[str], tried: tuple[str, ...]) -> str | None:
    by_lower = {name.lower(): name for name in sorted(names)}  # of LON and lon the latter
    return next((by_lower[name] for name in tried if name in by_lower), None)


def _cut(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` rows; the last has what remains."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        while count + len(batch) >= rows:
            yield pa.Table.from_batches([*held, batch.slice(0, rows - count)])
            batch, held, count = batch.slice(rows - count), [], 0
        held.append(batch)
        count += len(batch)
    if count:
        yield pa.Table.from_batches(held)


def _numbers(column: pa.ChunkedArray) -> Array:
    """A column [n] of numbers, or of text that holds them; nan where it does not."""
    return np.asarray(pd.to_numeric(column.to_pandas(), errors="coerce"), np.float64)
