"""GeoTIFF files by rasterio, which comes with `raytrain[rasters]`."""

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raytrain.data.sources.file_rows import LeftOut
from raytrain.data.sources.files import SourceError

DEGREES = "EPSG:4326"
DAMAGED = "no TIFF file, or a damaged one"
MOST_VALUES = 500_000_000  # of a tile, over its bands; a header that says more is not believed


def needed(module: str, what: str) -> Any:
    """A module of the extra `rasters`. Raises SourceError that names it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise SourceError(f"{what} needs {package}: pip install 'raytrain[rasters]'") from None


@contextmanager
def opened_tiff(content: bytes) -> Iterator[Any]:
    """A file's data set, for rasterio's `read`, `transform` and `crs`. Raises LeftOut where it is
    no TIFF, or what is read of it is damaged."""
    rasterio = needed("rasterio", "a GeoTIFF file")
    try:
        if not content:
            raise LeftOut(DAMAGED)
        with rasterio.MemoryFile(content) as file:
            with warnings.catch_warnings():  # of tiles without georeference: an index may have it
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                dataset = file.open(driver="GTiff")
            with dataset:
                if dataset.width * dataset.height * dataset.count > MOST_VALUES:
                    raise LeftOut("the tile is absurdly large")
                yield dataset
    except rasterio.errors.RasterioError:
        raise LeftOut(DAMAGED) from None


def centre(content: bytes) -> tuple[float, float]:
    """Longitude and latitude of a tile's middle, in degrees. Raises LeftOut where its file does not
    say where it lies."""
    warp = needed("rasterio.warp", "a GeoTIFF file")
    with opened_tiff(content) as dataset:
        if dataset.crs is None:
            raise LeftOut("the tile has no georeference")
        x, y = transformed(dataset.transform, dataset.width / 2, dataset.height / 2)
        (lon,), (lat,) = warp.transform(dataset.crs, DEGREES, [x], [y])
    return lon, lat


def transformed(affine: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The point (x, y), or arrays of these, by an affine transform."""
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f
