"""Tables of points as sources: CSV or Parquet with a place and numbers in every row."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raytrain import geo, storage
from raytrain.data.manifest import Field
from raytrain.data.packing import Observed
from raytrain.data.rows import KEY, LAT, LON, REASON, Part, RowSource
from raytrain.data.shards import COLUMNS
from raytrain.data.sources.files import Context, SourceError, missing, read_file
from raytrain.data.sources.tabular import (
    LAT_NAMES,
    LON_NAMES,
    TableFiles,
    column_named,
    numbers,
    read_part,
)

SWAPPED = "coordinates seem swapped"
SWAPPED_SHARE = 0.1  # of all rows; more is no accident
NO_NUMBER = "a number is missing or not finite"
VECTOR = "vector"  # the column of the numbers


@dataclass(frozen=True, kw_only=True)
class TableSource(RowSource):
    """A vector of numbers at each place: the `columns`, or all numeric ones but lon and lat.

    `file` is CSV, Parquet or GeoParquet of points: a file, a folder, a pattern or a URL. Rows
    without a place or with a missing number are left out and counted.
    """

    kind: Literal["table"] = "table"
    file: str
    lon: str | None = None
    lat: str | None = None
    columns: tuple[str, ...] = ()
    units: str = ""
    max_bad_share: float = 0.01

    @property
    def raw(self) -> str:
        """The file."""
        return self.file

    @property
    def layout(self) -> str:
        """Vectors are columns."""
        return COLUMNS

    def parts(self, context: Context) -> list[Part]:
        """Raises SourceError where there is no such table."""
        table = open_table(self.file, context, self.lon, self.lat)
        return table.parts(self._columns(table))

    def rows(self, part: Part, context: Context) -> Iterator[pa.Table]:
        """With the numbers in one column."""
        width = len(part.about.wanted)
        for rows in read_part(part):
            vectors = np.empty((len(rows.keys), width), np.float32)
            with np.errstate(over="ignore"):  # infinite then, and left out
                for number, column in enumerate(rows.columns.columns):
                    vectors[:, number] = numbers(column)
            placed = np.isfinite(rows.lonlat_deg).all(axis=1)
            bad = pa.array(placed & ~np.isfinite(vectors).all(axis=1))
            lacking = pc.if_else(bad, NO_NUMBER, pa.scalar(None, pa.string()))
            lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width)
            yield pa.table(
                {
                    LON: rows.lonlat_deg[:, 0],
                    LAT: rows.lonlat_deg[:, 1],
                    KEY: rows.keys,
                    REASON: pc.coalesce(rows.reasons, lacking),
                    VECTOR: lists,
                }
            )

    def fields(self, context: Context) -> dict[str, Field]:
        """A vector."""
        table = open_table(self.file, context, self.lon, self.lat)
        shape = (len(self._columns(table)),)
        return {context.field: Field(dtype="float32", shape=shape, units=self.units)}

    def observe(self, rows: pa.Table, context: Context) -> tuple[Observed, dict[int, str]]:
        """The vectors, all of them good."""
        column = rows[VECTOR].combine_chunks()
        vectors = np.asarray(column.flatten()).reshape(len(rows), -1)
        return {context.field: vectors}, {}

    def _columns(self, table: TableFiles) -> tuple[str, ...]:
        known = table.schema.names
        if unknown := [name for name in self.columns if name not in known]:
            raise SourceError(
                f"{self.file} has no column `{unknown[0]}`; it has: {', '.join(known)}"
            )
        numeric = [field.name for field in table.schema if _is_numeric(field.type)]
        names = self.columns or tuple(name for name in numeric if name not in table.places)
        if not names:
            raise SourceError(f"{self.file} has no numeric column besides the coordinates")
        return names


def open_table(file: str, context: Context, lon: str | None, lat: str | None) -> TableFiles:
    """The table that a card means. Raises SourceError."""
    url = storage.join(str(context.folder), file)
    if not storage.files(url):
        raise missing(url)
    return TableFiles(url, lon, lat, "set `source.{role}` to one of:")


def _is_numeric(kind: pa.DataType) -> bool:
    types = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(is_type(kind) for is_type in types)


def read_table(file: str, folder: Path) -> pd.DataFrame:
    """A CSV (also .gz) or Parquet file. Raises SourceError."""
    content = io.BytesIO(read_file(file, folder))
    try:
        if file.endswith((".parquet", ".geoparquet", ".pq")):
            return pd.read_parquet(content)
        return pd.read_csv(content, compression="gzip" if file.endswith(".gz") else None)
    except (ValueError, OSError) as error:
        raise SourceError(f"{file} is not readable as a table: {error}") from None


def clean_places(
    table: pd.DataFrame, what: str, lon: str | None = None, lat: str | None = None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows that have a place, with columns lon and lat; and how many were dropped, and why.

    Raises SourceError when there are no such columns, or they look swapped.
    """
    lon = _named(table, what, "lon", lon, LON_NAMES)
    lat = _named(table, what, "lat", lat, LAT_NAMES)
    places = table[[lon, lat]].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    bad = why_no_places(places)
    swapped = bad[SWAPPED]
    if swapped.mean() > SWAPPED_SHARE:
        raise SourceError(
            f"{what}: {int(swapped.sum()):,} of {len(table):,} rows have a latitude beyond 90°; "
            f"the columns `{lon}` and `{lat}` seem swapped: set `source.lon` and `source.lat`"
        )
    kept = ~np.any([*bad.values()], axis=0)
    good = table[kept].drop(columns=[lon, lat]).assign(lon=places[kept, 0], lat=places[kept, 1])
    return good, {reason: int(rows.sum()) for reason, rows in bad.items() if rows.any()}


def why_no_places(lonlat_deg: geo.Array) -> dict[str, NDArray[np.bool_]]:
    """Which rows of [n, 2] are no places, by the reason; none has two."""
    missing = np.isnan(lonlat_deg).any(axis=1)
    lon, lat = np.abs(lonlat_deg).T
    swapped = ~missing & (lat > 90) & (lat <= 180) & (lon <= 90)
    outside = ~missing & ~swapped & ~geo.valid_lonlat(lonlat_deg)
    return {
        "no coordinates": missing,
        SWAPPED: swapped,
        "coordinates outside [-180, 180] x [-90, 90]": outside,
    }


def _named(
    table: pd.DataFrame, what: str, role: str, given: str | None, tried: tuple[str, ...]
) -> str:
    names = [*map(str, table.columns)]
    if found := column_named(names, (given,) if given else tried):
        return found
    raise SourceError(
        f"{what} has no column `{given or role}`; set `source.{role}` to one of: {', '.join(names)}"
    )
