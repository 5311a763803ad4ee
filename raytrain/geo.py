"""The coordinate convention, and the only place where it is applied.

A place is (lon, lat) in degrees, float64, lon in [-180, 180], lat in [-90, 90], WGS84 taken as a
sphere. Arrays of places have shape [n, 2]. Rasters are equirectangular and north up.
"""

import numpy as np
from numpy.typing import NDArray

from raytrain.errors import UserError

Array = NDArray[np.float64]

EARTH_RADIUS_KM = 6371.0088
EQUAL_EARTH = (1.340264, -0.081106, 0.000893, 0.003796)  # Šavrič, Patterson and Jenny 2018


class CoordinateError(UserError):
    """A coordinate that cannot be a place on Earth."""


def as_lonlat(lon: object, lat: object, what: str = "coordinates") -> Array:
    """Stack longitudes and latitudes (scalars or [n]) to checked places [n, 2] float64."""
    lon_deg, lat_deg = np.atleast_1d(np.asarray(lon, float)), np.atleast_1d(np.asarray(lat, float))
    if lon_deg.shape != lat_deg.shape or lon_deg.ndim != 1:
        raise CoordinateError(
            f"{what}: lon has shape {lon_deg.shape} and lat {lat_deg.shape}; give two scalars or "
            "two one-dimensional arrays of equal length"
        )
    lonlat_deg = np.stack([lon_deg, lat_deg], axis=1)
    check_lonlat(lonlat_deg, what)
    return lonlat_deg


def check_lonlat(lonlat_deg: Array, what: str = "coordinates") -> None:
    """Raise CoordinateError, naming the first bad row, unless every row is a place in degrees."""
    problem = find_bad_lonlat(lonlat_deg)
    if problem is not None:
        raise CoordinateError(f"{what}: {problem}")


def find_bad_lonlat(lonlat_deg: Array) -> str | None:
    """What is wrong with places [n, 2], in words, or None. Names the first bad row."""
    bad = ~valid_lonlat(lonlat_deg)
    if not bad.any():
        return None
    row = int(bad.argmax())
    lon, lat = lonlat_deg[row]
    count = f"{int(bad.sum())} of {len(bad)} rows are bad, the first is row {row}: "
    if np.isnan(lon) or np.isnan(lat):
        return f"{count}lon {lon}, lat {lat} is not a number; drop or mend such rows"
    if abs(lat) > 90 and abs(lat) <= 180 and abs(lon) <= 90:
        return (
            f"{count}lon {lon}, lat {lat}: a latitude beyond 90° with a longitude within 90° "
            "suggests swapped columns; raytrain takes (lon, lat)"
        )
    if abs(lat) <= 90 and 180 < lon <= 360:
        return f"{count}lon {lon} is beyond 180°; wrap 0..360 longitudes with geo.wrap_lon"
    return f"{count}lon {lon}, lat {lat} is outside [-180, 180] x [-90, 90] degrees"


def valid_lonlat(lonlat_deg: Array) -> NDArray[np.bool_]:
    """Which rows of [n, 2] are places: finite, |lon| <= 180 and |lat| <= 90."""
    valid = (np.abs(lonlat_deg[:, 0]) <= 180) & (np.abs(lonlat_deg[:, 1]) <= 90)
    return np.asarray(valid)  # comparisons with NaN are False


def wrap_lon(lon_deg: Array) -> Array:
    """Longitudes of any range in degrees, brought into [-180, 180)."""
    return np.asarray((np.asarray(lon_deg, float) + 180.0) % 360.0 - 180.0)


def unit_xyz(lonlat_deg: Array) -> Array:
    """Places [n, 2] as points of the unit sphere [n, 3]: x to (0, 0), y to (90 E, 0), z north."""
    lon, lat = np.radians(lonlat_deg[:, 0]), np.radians(lonlat_deg[:, 1])
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def great_circle_km(a_lonlat_deg: Array, b_lonlat_deg: Array) -> Array:
    """Distance in km between places [n, 2] and [n, 2] (or [1, 2]), row by row (haversine)."""
    (lon_a, lat_a), (lon_b, lat_b) = np.radians(a_lonlat_deg).T, np.radians(b_lonlat_deg).T
    h = np.sin((lat_b - lat_a) / 2) ** 2
    h = h + np.cos(lat_a) * np.cos(lat_b) * np.sin((lon_b - lon_a) / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(h, 0, 1))))


def blocks(lonlat_deg: Array, degrees: float) -> NDArray[np.int64]:
    """Block id of each place [n, 2]: bands of latitude `degrees` high, each cut into a whole number
    of cells about as wide in arc at the band's middle, so that blocks have nearly equal areas. A
    size that does not divide 180 is taken to the nearest that does (40 to 45).
    """
    if not 0 < degrees <= 180:
        raise ValueError(f"blocks of {degrees}°: give a size in (0, 180] degrees")
    bands = round(180 / degrees)
    height = 180 / bands  # degrees, but for sizes that do not divide 180
    middle = np.radians(-90 + height * (np.arange(bands) + 0.5))
    cells = np.maximum(1, np.round(360 / height * np.cos(middle))).astype(np.int64)
    first = np.cumsum(cells) - cells
    band = np.clip(np.floor((lonlat_deg[:, 1] + 90) / height), 0, bands - 1).astype(np.int64)
    turn = (lonlat_deg[:, 0] + 180) % 360 / 360
    column = np.minimum((turn * cells[band]).astype(np.int64), cells[band] - 1)
    return np.asarray(first[band] + column)


def held_out(
    lonlat_deg: Array, degrees: float = 10.0, share: float = 0.05, seed: int = 0
) -> NDArray[np.bool_]:
    """Which places [n, 2] lie in the blocks that pretraining never sees.

    About `share` of all blocks, chosen by a hash of the block id: the same blocks for every
    modality and data set, so that nothing observed there reaches the encoder by another modality.
    """
    return mix(blocks(lonlat_deg, degrees), seed) < np.uint64(share * 2**64)


def mix(ids: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Well-mixed 64 bits of each id (splitmix64's finaliser; Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = ids.astype(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))


def random_on_sphere(n: int, rng: np.random.Generator) -> Array:
    """n places [n, 2], uniform by area."""
    lat_deg = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    return np.stack([rng.uniform(-180, 180, n), lat_deg], axis=1)


def fibonacci_sphere(n: int) -> Array:
    """n points of the unit sphere [n, 3], nearly evenly spread (a Fibonacci lattice)."""
    step = np.arange(n) + 0.5
    z = 1 - 2 * step / n
    turn, radius = np.pi * (1 + 5**0.5) * step, np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)


def cell_grid(degrees: float) -> tuple[Array, tuple[int, int]]:
    """Centres of a global grid of cells, north-west first, [height * width, 2], and its shape."""
    height, width = grid_shape(degrees)
    return cell_centres(np.arange(height * width), height, width), (height, width)


def grid_shape(degrees: float) -> tuple[int, int]:
    """Rows and columns of a global grid of cells of about `degrees`, at least one each."""
    return max(1, round(180 / degrees)), max(1, round(360 / degrees))


def cell_centres(cells: NDArray[np.int64], height: int, width: int) -> Array:
    """Centres [n, 2] of cells [n] of a global grid, counted from the north-west row by row."""
    row, column = np.divmod(cells, width)
    lon_deg = -180 + (column + 0.5) * (360 / width)
    lat_deg = 90 - (row + 0.5) * (180 / height)
    return np.stack([lon_deg, lat_deg], axis=1)


def raster_pixels(
    lonlat_deg: Array, height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column [n] of the pixel that holds each place in a global north-up raster."""
    row = np.floor((90 - lonlat_deg[:, 1]) / 180 * height).astype(np.int64)
    column = np.floor((lonlat_deg[:, 0] + 180) / 360 * width).astype(np.int64)
    return np.clip(row, 0, height - 1), column % width
