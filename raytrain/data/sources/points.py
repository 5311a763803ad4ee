"""Numbers out of grids at places: of a table, or drawn at random within them."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raytrain import geo, storage
from raytrain.data.manifest import Field
from raytrain.data.packing import Observed
from raytrain.data.rows import KEY, LAT, LON, REASON, Part, RowSource
from raytrain.data.shards import COLUMNS
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.grids import OUTSIDE, Grid, opened_grid, sample
from raytrain.data.sources.tables import open_table
from raytrain.data.sources.tabular import read_part

VALUES = "values"
PART_ROWS, PART_VALUES = 65_536, 1 << 24
ROUNDS = 1000  # of drawing a part's places


@dataclass(frozen=True, kw_only=True)
class GridFile:
    """Columns out of one file: `bands` of a raster, counted from 1, or `variables` of NetCDF or
    Zarr (all unless given, in the order of their numbers or names). Other dimensions than the place
    give a column for each step, but for those of which `at` names one, counted from 0:
    `at: {month: 6}`."""

    file: str
    variables: tuple[str, ...] = ()
    bands: tuple[int, ...] = ()
    at: dict[str, int] = field(default_factory=dict)

    def opened(self, context: Context) -> Grid:
        """Its grid. Raises SourceError."""
        at = tuple(sorted(self.at.items()))
        return opened_grid(self.file, context.folder, self.variables, self.bands, at)


@dataclass(frozen=True, kw_only=True)
class PointsSource(RowSource):
    """A vector of numbers at each place: the pixels of all `grids` that hold it, one behind the
    other. Rows that lie outside one of them, or where one has no number, are left out.

    The places are those of a `table`, CSV or Parquet; else `places` are drawn, uniform by area,
    in the box of the first grid. They are drawn in bands of latitude, so that each part reads a
    band of a grid.
    """

    kind: Literal["points"] = "points"
    grids: tuple[GridFile, ...]
    table: str | None = None
    lon: str | None = None
    lat: str | None = None
    places: int = 100_000
    units: str = ""
    seed: int = 0
    max_bad_share: float = 0.9  # most places that are drawn may lie where there is no number

    def __post_init__(self) -> None:
        if not self.grids or self.places < 1:
            raise ValueError("`grids` must name a file, and `places` be at least 1")

    @property
    def raw(self) -> str:
        """The table, or the first grid."""
        return self.table or self.grids[0].file

    @property
    def layout(self) -> str:
        """Vectors lie many in a member."""
        return COLUMNS

    def parts(self, context: Context) -> list[Part]:
        """Pieces of the table, or of the places that are drawn."""
        if self.table is not None:
            return open_table(self.table, context, self.lon, self.lat).parts(())
        size = self._rows_at_once(context)
        firsts = range(0, self.places, size)
        stops = [min(first + size, self.places) for first in firsts]
        url = storage.join(str(context.folder), self.grids[0].file)
        return [
            Part(file=url, rows=stop - first, first=first, stop=stop, row=1 + first)
            for first, stop in zip(firsts, stops, strict=True)
        ]

    def rows(self, part: Part, context: Context) -> Iterator[pa.Table]:
        """Places and their numbers."""
        size = self._rows_at_once(context)
        if self.table is None:
            lonlat_deg = self._drawn(part, context)
            keys = [f"place {part.row + row}" for row in range(part.rows)]
            yield self._valued(lonlat_deg, keys, pa.nulls(part.rows, pa.string()), context)
            return
        for rows in read_part(part):
            for first in range(0, len(rows.keys), size):
                some = slice(first, first + size)
                keys, reasons = rows.keys[some], rows.reasons[some]
                yield self._valued(rows.lonlat_deg[some], keys, reasons, context)

    def fields(self, context: Context) -> dict[str, Field]:
        """A vector of all columns."""
        shape = (self._columns(context),)
        return {context.field: Field(dtype="float32", shape=shape, units=self.units)}

    def observe(self, rows: pa.Table, context: Context) -> tuple[Observed, dict[int, str]]:
        """The numbers [n, columns], which the rows hold."""
        flat = rows[VALUES].combine_chunks().flatten().to_numpy()
        return {context.field: flat.reshape(len(rows), self._columns(context))}, {}

    def _columns(self, context: Context) -> int:
        return sum(grid.opened(context).columns for grid in self.grids)

    def _rows_at_once(self, context: Context) -> int:
        return max(1, min(PART_ROWS, PART_VALUES // self._columns(context)))

    def _valued(
        self, lonlat_deg: geo.Array, keys: Any, known: pa.Array, context: Context
    ) -> pa.Table:
        """Rows of places [n, 2], with their numbers, or why there are none."""
        places, columns = geo.valid_lonlat(lonlat_deg), []
        reasons: list[str | None] = [None] * len(lonlat_deg)
        for source in self.grids:
            numbers, inside = sample(source.opened(context), lonlat_deg)
            good = np.asarray(np.isfinite(numbers).all(axis=1))
            for row in np.flatnonzero(places & ~good).tolist():
                why = "has no number here" if inside[row] else "does not reach here"
                reasons[row] = reasons[row] or f"{source.file} {why}"
            columns.append(np.where(good[:, None], numbers, 0))
        values = np.concatenate(columns, axis=1)
        lists = pa.FixedSizeListArray.from_arrays(values.reshape(-1), values.shape[1])
        lon, lat = lonlat_deg.T
        said = pc.coalesce(known, pa.array(reasons, pa.string()))
        return pa.table({LON: lon, LAT: lat, KEY: keys, REASON: said, VALUES: lists})

    def _drawn(self, part: Part, context: Context) -> geo.Array:
        """The places [n, 2] of a part, uniform by area within the first grid, or where the grid is
        no box, in as much of its box as lies inside."""
        grid = self.grids[0].opened(context)
        west, south, east, north = grid.box_deg
        bottom, top = np.sin(np.radians([south, north])).tolist()
        if grid.is_box:  # the part's own band of it
            height = (top - bottom) / self.places
            stop = part.first + part.rows
            bottom, top = bottom + height * part.first, bottom + height * stop
        seed = [self.seed, zlib.crc32(context.modality.encode()), part.first]
        rng = np.random.default_rng(seed)
        found, missing = [], part.rows
        for _ in range(ROUNDS):
            lon = geo.wrap_lon(rng.uniform(west, east, missing))
            lat = np.degrees(np.arcsin(rng.uniform(bottom, top, missing)))
            drawn = np.stack([lon, lat], axis=1)
            row, column = grid.pixels(drawn)
            found.append(drawn[(row != OUTSIDE) & (column != OUTSIDE)])
            missing -= len(found[-1])
            if not missing:
                return np.concatenate(found)
        raise SourceError(f"{self.grids[0].file} covers next to nothing of its box")
