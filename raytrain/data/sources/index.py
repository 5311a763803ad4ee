"""The index of files: a table that says which of them was observed where."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from raytrain import storage
from raytrain.data.rows import LAT, LON, REASON, Part
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.tables import open_table
from raytrain.data.sources.tabular import column_named, read_part

NAME = "name"
NAMES = ("path", "img_id", "image_id", "filename", "file_name", "fn", "file", "image", "id")
NO_NAME = "the index names no file"
SCHEMA = pa.schema({LON: pa.float64(), LAT: pa.float64(), NAME: pa.string(), REASON: pa.string()})
KEPT_ROWS = 5_000_000  # so many at most, some 300 MB, stay in a process's memory

Parts = tuple[Part, ...]


def index_parts(
    file: str, context: Context, lon: str | None, lat: str | None, name: str | None
) -> Parts:
    """An index in parts. Raises SourceError where there is none, or it has no such columns."""
    table = open_table(file, context, lon, lat)
    named = column_named(table.schema.names, (name,) if name else NAMES)
    if named is None:
        raise SourceError(
            f"{table.url} has no column of files' names; set `source.name` to one of: "
            f"{', '.join(table.schema.names)}"
        )
    return tuple(table.parts((named,)))


def index_rows(part: Part, suffix: str) -> Iterator[pa.Table]:
    """The rows of a part as in SCHEMA: places; names with `suffix`, forward slashes and no ./ in
    front, null where there is none; and why a row is of no use."""
    for rows in read_part(part):
        names = pc.replace_substring(rows.columns[0].cast(pa.string()), "\\", "/")
        names = pc.replace_substring_regex(pc.utf8_trim_whitespace(names), r"^(\./)+", "")
        names = pc.if_else(pc.equal(names, ""), pa.scalar(None, pa.string()), names)
        lacking = pc.if_else(names.is_null(), NO_NAME, pa.scalar(None, pa.string()))
        stored = pc.binary_join_element_wise(names, suffix, "")
        reasons = pc.coalesce(rows.reasons, lacking)
        yield pa.table([*rows.lonlat_deg.T, stored, reasons], schema=SCHEMA)


def whole_index(parts: Parts, suffix: str) -> Iterable[pa.Table]:
    """The rows of all parts; of indices that are not too large, in memory from the first time."""
    if sum(part.rows for part in parts) > KEPT_ROWS:
        return (rows for part in parts for rows in index_rows(part, suffix))
    stamps = tuple(storage.stamp(file) for file in dict.fromkeys(part.file for part in parts))
    return _kept(parts, suffix, stamps)


@lru_cache(maxsize=2)
def _kept(parts: Parts, suffix: str, stamps: tuple[str, ...]) -> tuple[pa.Table, ...]:
    return tuple(rows for part in parts for rows in index_rows(part, suffix))
