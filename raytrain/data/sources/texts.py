"""Tables of texts as sources: CSV or Parquet with a place and a text in every row."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from raytrain.data.manifest import Field
from raytrain.data.packing import Observed
from raytrain.data.rows import KEY, LAT, LON, REASON, Part, RowSource
from raytrain.data.shards import SAMPLES
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.tables import open_table
from raytrain.data.sources.tabular import TableFiles, read_part

NO_TEXT = "no text"
TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class TextSource(RowSource):
    """The text in a `column` at each place, such as articles of Wikipedia with coordinates.

    `file` is CSV, Parquet or GeoParquet of points: a file, a folder, a pattern or a URL. `title` is
    the column that names a row in reports. Rows without a place or a text are left out and counted.
    """

    kind: Literal["text"] = "text"
    file: str
    column: str = "text"
    title: str | None = None
    lon: str | None = None
    lat: str | None = None
    shard_rows: int = 2048

    @property
    def raw(self) -> str:
        """The file."""
        return self.file

    @property
    def layout(self) -> str:
        """A text is a sample."""
        return SAMPLES

    def parts(self, context: Context) -> list[Part]:
        """Raises SourceError where there is no such table."""
        table = open_table(self.file, context, self.lon, self.lat)
        return table.parts(self._columns(table))

    def rows(self, part: Part, context: Context) -> Iterator[pa.Table]:
        """With the texts as they are."""
        for rows in read_part(part):
            texts, *titles = (column.cast(pa.string()) for column in rows.columns.columns)
            empty = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(texts, "")), "")
            lacking = pc.if_else(empty, NO_TEXT, pa.scalar(None, pa.string()))
            yield pa.table(
                {
                    LON: rows.lonlat_deg[:, 0],
                    LAT: rows.lonlat_deg[:, 1],
                    KEY: pc.coalesce(*titles, rows.keys),
                    REASON: pc.coalesce(rows.reasons, lacking),
                    TEXT: texts,
                }
            )

    def fields(self, context: Context) -> dict[str, Field]:
        """A text."""
        return {context.field: Field(dtype="str", shape=(), encoding="txt")}

    def observe(self, rows: pa.Table, context: Context) -> tuple[Observed, dict[int, str]]:
        """The texts, all of them good."""
        return {context.field: rows[TEXT].to_pylist()}, {}

    def _columns(self, table: TableFiles) -> tuple[str, ...]:
        known = table.schema.names
        for role, name in (("column", self.column), ("title", self.title)):
            if name is not None and name not in known:
                raise SourceError(
                    f"{self.file} has no column `{name}`; set `source.{role}` to one of: "
                    f"{', '.join(known)}"
                )
        return (self.column,) if self.title is None else (self.column, self.title)
