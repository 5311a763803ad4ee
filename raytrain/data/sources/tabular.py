"""Tables with places, CSV or Parquet, of any size: what they hold, and their rows in parts."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray
from pyarrow.fs import FSSpecHandler, PyFileSystem

from raytrain import storage
from raytrain.data.rows import Part
from raytrain.data.sources import geoparquet
from raytrain.data.sources.csv_parts import packed_rows, split_rows
from raytrain.data.sources.files import SourceError
from raytrain.errors import UserError
from raytrain.geo import Array

LON_NAMES = ("lon", "lon_deg", "longitude", "lng", "long", "x")
LAT_NAMES = ("lat", "lat_deg", "latitude", "y")
KINDS = {"csv": (".csv", ".csv.gz"), "parquet": (".parquet", ".geoparquet", ".pq")}
READ_BYTES, READ_ROWS = 4 << 20, 16_384  # of a file at a time, whatever its size
TABLE_ROWS = 65_536  # of what a part gives at a time
PART_ROWS = 131_072  # of Parquet, if a row group has no more
CELLS = "it has more or fewer cells than the header"


class Reading(NamedTuple):
    """How a part of a table is read: places are in two columns, or the points of GeoParquet in one;
    `wanted` are other columns; `names` are those of all."""

    kind: str
    names: tuple[str, ...]
    places: tuple[str, ...]
    wanted: tuple[str, ...]


class Rows(NamedTuple):
    """Rows of a table: places [n, 2], nan where there is none; what to call each; why it is of no
    use, null where it is; and the columns that were wanted, as they are, of CSV as text."""

    lonlat_deg: Array
    keys: pa.Array
    reasons: pa.Array
    columns: pa.Table


class TableFiles:
    """Files of one kind, CSV or Parquet, with places in degrees and any other columns.

    `url` is a file, a pattern of files, or a folder with all files below it but those whose path
    has a name that begins with _ or a dot. Places are the columns `lon` and `lat`, or what is
    called like them, or the points of GeoParquet. All files have the columns of the first. Raises
    SourceError where there are none or they have no places; `advice` is what it says of a role that
    no column has.
    """

    def __init__(
        self, url: str, lon: str | None = None, lat: str | None = None, advice: str = "it has:"
    ) -> None:
        kinds = {file: _kind(file) for file in _visible(storage.absolute(url))}
        self.url, self.sources = url, [file for file, kind in kinds.items() if kind]
        found = {kind for kind in kinds.values() if kind}
        if len(found) != 1:
            what = "CSV and Parquet side by side" if found else "no CSV or Parquet file"
            raise SourceError(f"{url}: {what}; name a file, or a folder or pattern of one kind")
        self.kind, first = found.pop(), self.sources[0]
        with explained(first, self.kind):
            self.schema = _schema(first, self.kind)
        names = self.schema.names
        columns = {
            "lon": column_named(names, (lon,) if lon else LON_NAMES),
            "lat": column_named(names, (lat,) if lat else LAT_NAMES),
        }
        self.places = tuple(name for name in columns.values() if name)
        self.has_points = False  # of GeoParquet
        if len(self.places) < 2 and not (lon or lat):
            points = geoparquet.point_column(self.schema.metadata, first)
            self.places, self.has_points = ((points,), True) if points else ((), False)
        if len(self.places) < 2 and not self.has_points:
            role = next(role for role, name in columns.items() if not name)
            wanted = {"lon": lon, "lat": lat}[role] or role
            said = advice.format(role=role)
            raise SourceError(f"{url} has no column `{wanted}`; {said} {', '.join(names)}")

    def check(self, schema: pa.Schema, file: str) -> None:
        """Raise SourceError unless a file has the points and columns of the first."""
        first = self.sources[0]
        if self.has_points and geoparquet.point_column(schema.metadata, file) != self.places[0]:
            raise SourceError(f"{file} has no points in `{self.places[0]}` as {first}")
        if missing := {*self.schema.names} - {*schema.names}:
            raise SourceError(f"{file} has no column `{min(missing)}` as {first}")

    def parts(self, wanted: tuple[str, ...]) -> list[Part]:
        """All rows in parts, for `read_part`: bytes of CSV, which is read once to find where rows
        end; row groups of Parquet; or a whole file where that is compressed."""
        parts: list[Part] = []
        for file in self.sources:
            with explained(file, self.kind):
                schema = _schema(file, self.kind)
                self.check(schema, file)
                about = Reading(self.kind, tuple(schema.names), self.places, wanted)
                parts += _parts(file, about)
        return parts


def places_of(rows: pa.Table, places: tuple[str, ...]) -> Array:
    """The places [n, 2] in the two columns of rows, or their one of points; nan where there is
    none."""
    if len(places) == 1:
        return geoparquet.lonlat(rows[places[0]])
    return np.stack([numbers(rows[name]) for name in places], axis=1)


def numbers(column: pa.ChunkedArray) -> Array:
    """A column [n] of numbers, or of text that holds them; nan where it does not."""
    try:
        return np.asarray(column.cast(pa.float64(), safe=False), np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return np.asarray(pd.to_numeric(column.to_pandas(), errors="coerce"), np.float64)


def _parts(file: str, about: Reading) -> Iterator[Part]:
    if about.kind == "parquet":
        yield from _row_groups(file, about)
    elif file.endswith(".gz"):
        yield Part(file=file, rows=packed_rows(file), about=about)
    else:
        row = 1
        _header, *found = split_rows(file)
        for first, stop, count in found:
            yield Part(file=file, rows=count, first=first, stop=stop, row=row, about=about)
            row += count


def _row_groups(file: str, about: Reading) -> Iterator[Part]:
    with _input(file) as content:
        stored = pyarrow.parquet.ParquetFile(content).metadata
        groups = [stored.row_group(number).num_rows for number in range(stored.num_row_groups)]
    first, row, count = 0, 1, 0
    for number, rows in enumerate([*groups, PART_ROWS]):
        if count and count + rows > PART_ROWS:
            yield Part(file=file, rows=count, first=first, stop=number, row=row, about=about)
            first, row, count = number, row + count, 0
        count += rows


def read_part(part: Part) -> Iterator[Rows]:
    """The rows of a part, some at a time. Raises SourceError."""
    about: Reading = part.about
    with explained(part.file, about.kind):
        yield from (_parquet_rows if about.kind == "parquet" else _csv_rows)(part, about)


def _parquet_rows(part: Part, about: Reading) -> Iterator[Rows]:
    row, columns = part.row, [*dict.fromkeys((*about.places, *about.wanted))]
    with _input(part.file) as content:
        stored = pyarrow.parquet.ParquetFile(content, buffer_size=READ_BYTES, pre_buffer=False)
        batches = stored.iter_batches(
            READ_ROWS, [*range(part.first, part.stop or 0)], columns, use_threads=False
        )
        for rows in cut(batches, TABLE_ROWS):
            yield _rows(rows, np.arange(row, row + len(rows)), None, part)
            row += len(rows)


def _csv_rows(part: Part, about: Reading) -> Iterator[Rows]:
    wrong: list[int] = []  # numbers of rows, from 1

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        wrong.append(row.number)
        return "skip"

    wanted = [*dict.fromkeys((*about.places, *about.wanted))]
    text = pyarrow.csv.ConvertOptions(
        include_columns=wanted,
        column_types=dict.fromkeys(wanted, pa.string()),
        strings_can_be_null=True,
        null_values=[""],
    )
    header = part.stop is None  # a whole file has its own
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip)
    with _input(part.file, part.first, part.stop) as content:
        read = pyarrow.csv.ReadOptions(
            block_size=READ_BYTES if header else content.size() + 1,
            column_names=None if header else [*about.names],
            use_threads=False,
        )
        row, first = 1 + header, part.row - 1 - header
        for rows in cut(pyarrow.csv.open_csv(content, read, parse, text), TABLE_ROWS):
            taken = np.arange(row, row + len(rows) + len(wrong))
            if wrong:
                taken = np.setdiff1d(taken, wrong)[: len(rows)]
            yield _rows(rows, first + taken, None, part)
            row = int(taken[-1]) + 1
    if wrong:
        none = pa.table({name: pa.nulls(len(wrong), pa.string()) for name in wanted})
        yield _rows(none, first + np.array(wrong), CELLS, part)


def _rows(rows: pa.Table, rows_from_1: NDArray[np.int64], reason: str | None, part: Part) -> Rows:
    about: Reading = part.about
    name = part.file.rpartition("/")[2]
    keys = pc.binary_join_element_wise(f"{name} row", pa.array(rows_from_1).cast(pa.string()), " ")
    reasons = pa.array([reason] * len(rows), pa.string())
    return Rows(places_of(rows, about.places), keys, reasons, rows.select(about.wanted))


def _schema(file: str, kind: str) -> pa.Schema:
    return opened(file, kind, on_wrong_row=lambda row: "skip")[0]


def opened(
    file: str,
    kind: str,
    known: pa.Schema | None = None,
    on_wrong_row: Callable[[pyarrow.csv.InvalidRow], str] | None = None,
) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """The schema of a file, of CSV as far as it is not known, and rows, read as they are taken."""
    filesystem, path = storage.filesystem(file)
    arrow = PyFileSystem(FSSpecHandler(filesystem))
    if kind == "parquet":
        stored = pyarrow.parquet.ParquetFile(
            arrow.open_input_file(path), buffer_size=READ_BYTES, pre_buffer=False
        )
        return stored.schema_arrow, stored.iter_batches(READ_ROWS)
    read = pyarrow.csv.ReadOptions(block_size=READ_BYTES, use_threads=False)
    quoted = pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=on_wrong_row)
    types = pyarrow.csv.ConvertOptions(column_types=known)
    # The end of the name tells whether it is compressed.
    reader = pyarrow.csv.open_csv(arrow.open_input_stream(path), read, quoted, types)
    return reader.schema, reader


def _input(file: str, first: int = 0, stop: int | None = None) -> pa.NativeFile:
    """A file to read from, unpacked where it is compressed, or its bytes from `first` to `stop`."""
    filesystem, path = storage.filesystem(file)
    arrow = PyFileSystem(FSSpecHandler(filesystem))
    if stop is not None and not file.endswith(KINDS["parquet"]):
        return pa.BufferReader(storage.read_range(file, first, stop))
    return arrow.open_input_stream(path) if file.endswith(".gz") else arrow.open_input_file(path)


@contextmanager
def explained(file: str, kind: str) -> Iterator[None]:
    """Errors of pyarrow as SourceErrors that name the file."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise SourceError(
            f"{file} is not there; for workers on other nodes, it must be at a URL or in a folder "
            "that all nodes share"
        ) from None
    except (pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split())  # in one line
        raise SourceError(
            f"{file} is not readable as {kind}: {said}. A damaged file, or columns whose type "
            "changes: the first rows of CSV and the first file of Parquet decide it"
        ) from None


def cut(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
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


def _visible(url: str) -> list[str]:
    """Files of a folder that are its content by the convention of pyarrow and Spark."""
    files = storage.files(url)
    inside = [file.removeprefix(url).split("/") if file.startswith(url) else [] for file in files]
    hidden = [any(name.startswith(("_", ".")) for name in names) for names in inside]
    return [file for file, skip in zip(files, hidden, strict=True) if not skip]


def _kind(file: str) -> str | None:
    return next((kind for kind, ends in KINDS.items() if file.lower().endswith(ends)), None)


def column_named(names: list[str], tried: tuple[str, ...]) -> str | None:
    """The first of some names, in capitals or not, that a column has."""
    by_lower = {name.lower(): name for name in sorted(names)}  # of LON and lon the latter
    return next((by_lower[name] for name in map(str.lower, tried) if name in by_lower), None)
