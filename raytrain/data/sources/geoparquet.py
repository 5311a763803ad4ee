"""Points of GeoParquet: which column holds them, and their coordinates.

Source: geoparquet.org/releases/v1.1.0 and OGC 06-103r4 (well-known binary).
"""

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from raytrain.errors import UserError
from raytrain.geo import Array

METADATA = b"geo"
DEGREES = {("OGC", "CRS84"), ("EPSG", "4326")}  # GeoParquet stores both as (lon, lat)
HEADER, POINT = 5, 21  # bytes of well-known binary: byte order and type; with x and y


def point_column(metadata: Mapping[bytes, bytes] | None, file: str) -> str | None:
    """The column with the points of a Parquet file of this metadata; None where it has no geometry.

    Raises UserError where the geometry is not points in degrees, in well-known binary.
    """
    if not metadata or METADATA not in metadata:
        return None
    geo = json.loads(metadata[METADATA])
    name = str(geo["primary_column"])
    column = geo["columns"][name]
    crs = column.get("crs", {"id": {"authority": "OGC", "code": "CRS84"}})
    identity = (crs or {}).get("id", {})
    if (identity.get("authority"), str(identity.get("code"))) not in DEGREES:
        known = (crs or {}).get("name", "unknown")
        raise UserError(
            f"{file}: the coordinate system of `{name}` is {known}; convert it to EPSG:4326 "
            "(geopandas: to_crs(4326)), or add columns lon and lat in degrees"
        )
    kinds = {kind.removesuffix(" Z") for kind in column.get("geometry_types", [])}
    if column.get("encoding") != "WKB" or not kinds <= {"Point"}:
        what = ", ".join(sorted(kinds)) or "geometry"
        raise UserError(
            f"{file}: `{name}` holds {what} as {column.get('encoding')}, not points as WKB; add "
            "columns lon and lat in degrees"
        )
    return name


def lonlat(column: pa.ChunkedArray) -> Array:
    """x and y [n, 2] of points in well-known binary; nan where there is no point."""
    points = np.full((len(column), 2), np.nan)
    array = column.cast(pa.large_binary()).combine_chunks()
    _, offsets, data = array.buffers()
    if data is None:
        return points
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    content = np.frombuffer(data, np.uint8)
    rows = np.flatnonzero((np.diff(ends) >= POINT) & array.is_valid().to_numpy(False))
    header = content[ends[rows, None] + np.arange(HEADER)]
    for first, order in ((0, ">"), (1, "<")):
        kind = header[:, 1:].copy().view(f"{order}u4")[:, 0]
        # A point with heights is 1001 by ISO, and has the highest bit set in the older form.
        mine = rows[(header[:, 0] == first) & np.isin(kind & 0x1FFFFFFF, (1, 1001, 2001, 3001))]
        coordinates = content[ends[mine, None] + np.arange(HEADER, POINT)]
        points[mine] = coordinates.copy().view(f"{order}f8")
    return points
