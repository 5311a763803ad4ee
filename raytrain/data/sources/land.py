"""Where a raster's places may lie: land, dealt among the modalities cell by cell."""

import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raytrain import geo
from raytrain.data.sources.files import Context
from raytrain.storage import datasets_dir

MASK = "earth-mini/land.png"  # IGBP class is not water, 0.05° pixels, north up
CELLS_A_DEGREE = 10


def land_pixels(
    context: Context, latitudes: tuple[float, float], land: bool = True
) -> NDArray[np.bool_]:
    """The 0.05° pixels [3600, 7200] on land, in the latitudes, and in the modality's cells."""
    mask = land_mask() if land else np.ones_like(land_mask())
    lat_deg = 90 - (np.arange(len(mask)) + 0.5) / len(mask) * 180
    wanted = (lat_deg >= latitudes[0]) & (lat_deg <= latitudes[1])
    names = tuple(sorted({context.modality, *context.dealt_among}))
    own = _owners(names, land) == names.index(context.modality)
    return np.asarray(mask & wanted[:, None] & own.repeat(2, axis=0).repeat(2, axis=1))


@lru_cache(maxsize=1)
def land_mask() -> NDArray[np.bool_]:
    """The embedded mask [3600, 7200], read-only."""
    mask = np.asarray(Image.open(datasets_dir() / MASK)) > 0
    mask.setflags(write=False)
    return mask


@lru_cache(maxsize=2)
def _owners(names: tuple[str, ...], land: bool) -> NDArray[np.int8]:
    """Which of the modalities each 0.1° cell [1800, 3600] belongs to.

    Each modality draws a number for each cell and the highest has it. So another modality takes
    its part from all, and none of the rest changes hands.
    """
    shape = (180 * CELLS_A_DEGREE, 360 * CELLS_A_DEGREE)
    owners = np.zeros(shape[0] * shape[1], np.int8)
    pixels = land_mask().reshape(shape[0], 2, shape[1], 2)
    cells = np.flatnonzero(pixels.any(axis=(1, 3))) if land else np.arange(len(owners))
    highest = np.zeros(len(cells), np.uint64)
    for number, name in enumerate(names):
        drawn = geo.mix(cells, zlib.crc32(name.encode()))
        owners[cells[drawn > highest]] = number
        highest = np.maximum(highest, drawn)
    return owners.reshape(shape)


def draw_places(
    n: int, allowed: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float64]:
    """n places [n, 2], uniform by area over the allowed pixels of a global raster [h, w]."""
    height, width = allowed.shape
    pixels = np.flatnonzero(allowed)
    in_row = allowed.sum(axis=1)
    edges = np.sin(np.radians(90 - np.arange(height + 1) / height * 180))
    area = np.cumsum(in_row * -np.diff(edges))
    row = np.searchsorted(area, rng.random(n) * area[-1], side="right")
    row = np.minimum(row, height - 1)
    first = np.cumsum(in_row) - in_row
    column = pixels[first[row] + (rng.random(n) * in_row[row]).astype(np.int64)] % width
    sin_lat = edges[row] + rng.random(n) * (edges[row + 1] - edges[row])
    lon_deg = (column + rng.random(n)) / width * 360 - 180
    return np.stack([lon_deg, np.degrees(np.arcsin(sin_lat))], axis=1)
