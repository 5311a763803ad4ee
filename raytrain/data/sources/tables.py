"""Tables of points as sources: CSV or Parquet with a place and numbers in every row."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raytrain import geo
from raytrain.data.sources.files import Context, SourceError, read_file
from raytrain.data.writer import Observations

LON_NAMES = ("lon", "lon_deg", "longitude", "lng", "long", "x")
LAT_NAMES = ("lat", "lat_deg", "latitude", "y")
SWAPPED = "coordinates seem swapped"


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """A vector of numbers at each place: the `columns`, or all numeric ones but lon and lat.

    Rows without a place or with a missing number are dropped and counted; above `max_bad_share` of
    all rows that is an error.
    """

    kind: Literal["table"] = "table"
    file: str
    lon: str | None = None
    lat: str | None = None
    columns: tuple[str, ...] = ()
    units: str = ""
    max_bad_share: float = 0.01

    def observe(self, context: Context) -> Observations:
        """Read and check the table. Raises SourceError."""
        raw = read_table(self.file, context.folder)
        table, dropped = clean_places(raw, self.file, self.lon, self.lat)
        numbers = self._numbers(table)
        finite = np.isfinite(numbers).all(axis=1)
        if not finite.all():
            dropped["a number is missing or not finite"] = int((~finite).sum())
        bad = sum(dropped.values())
        if bad > self.max_bad_share * len(raw) or not finite.any():
            raise SourceError(
                f"{self.file}: {bad:,} of {len(raw):,} rows cannot be used ({_listed(dropped)}). "
                f"Mend it, or allow it with `source.max_bad_share` (now {self.max_bad_share})"
            )
        lonlat_deg = table[["lon", "lat"]].to_numpy(np.float64)[finite]
        arrays = {context.field: numbers[finite]}
        made = Observations.of_arrays(lonlat_deg, arrays, units=self.units)
        return Observations(
            lonlat_deg=made.lonlat_deg, fields=made.fields, take=made.take, dropped=dropped
        )

    def _numbers(self, table: pd.DataFrame) -> NDArray[np.float32]:
        names = list(self.columns)
        if missing := [name for name in names if name not in table]:
            raise SourceError(
                f"{self.file} has no column `{missing[0]}`; it has: {', '.join(table.columns)}"
            )
        if not names:
            numeric = table.select_dtypes("number").columns
            names = [name for name in numeric if name not in ("lon", "lat")]
        if not names:
            raise SourceError(f"{self.file} has no numeric column besides the coordinates")
        numbers = table[names].apply(pd.to_numeric, errors="coerce")
        return np.asarray(numbers, np.float32)


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
    if swapped.mean() > 0.1:
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
    by_lower = {str(column).lower(): str(column) for column in table.columns}
    for name in (given,) if given else tried:
        if name.lower() in by_lower:
            return by_lower[name.lower()]
    raise SourceError(
        f"{what} has no column `{given or role}`; set `source.{role}` to one of: "
        f"{', '.join(map(str, table.columns))}"
    )


def _listed(dropped: dict[str, int]) -> str:
    return "; ".join(f"{reason}: {count:,}" for reason, count in dropped.items()) or "it is empty"
