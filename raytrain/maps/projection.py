"""Pixels of maps to places and back: Equal Earth (Šavrič, Patterson and Jenny 2018: sin(theta) =
sqrt(3) / 2 sin(lat)), and caps around the poles."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from raytrain.geo import EQUAL_EARTH, Array, wrap_lon

Mask = NDArray[np.bool_]


def equal_earth_places(width: int, middle_deg: float = 0.0) -> tuple[Array, Mask]:
    """Places [n, 2] of the pixels of an Equal Earth map of the world around a meridian, and which
    pixels [h, w] they are."""
    a1, a2, a3, a4 = EQUAL_EARTH
    theta = np.linspace(-np.pi / 3, np.pi / 3, 4001)
    y = theta * (a1 + a2 * theta**2 + theta**6 * (a3 + a4 * theta**2))
    slope = a1 + 3 * a2 * theta**2 + theta**6 * (7 * a3 + 9 * a4 * theta**2)
    half = 2 * np.pi / np.sqrt(3) * np.cos(theta) / slope  # x of longitude 180
    height = round(width * y[-1] / half.max())
    rows = y[-1] * (1 - (2 * np.arange(height) + 1) / height)
    columns = half.max() * ((2 * np.arange(width) + 1) / width - 1)
    lat_deg = np.degrees(
        np.arcsin(np.clip(2 / np.sqrt(3) * np.sin(np.interp(rows, y, theta)), -1, 1))
    )
    lon_deg = 180 * columns / np.interp(rows, y, half)[:, None]  # h w
    inside = np.abs(lon_deg) <= 180
    lat_grid = np.broadcast_to(lat_deg[:, None], lon_deg.shape)
    return np.stack([wrap_lon(lon_deg[inside] + middle_deg), lat_grid[inside]], axis=1), inside


def equal_earth_xy(lonlat_deg: Array, width: int, height: int) -> tuple[Array, Array]:
    """Columns and rows [n] of places [n, 2] on an Equal Earth map of the world of this size."""
    a1, a2, a3, a4 = EQUAL_EARTH
    edges = [[180.0, 0.0], [0.0, 90.0]]
    lon, lat = np.radians(np.concatenate([lonlat_deg, edges])).T
    theta = np.arcsin(np.sqrt(3) / 2 * np.sin(lat))
    slope = a1 + 3 * a2 * theta**2 + theta**6 * (7 * a3 + 9 * a4 * theta**2)
    x = 2 / np.sqrt(3) * lon * np.cos(theta) / slope
    y = theta * (a1 + a2 * theta**2 + theta**6 * (a3 + a4 * theta**2))
    return (x[:-2] / x[-2] + 1) / 2 * width, (1 - y[:-2] / y[-1]) / 2 * height


def polar_places(width: int, pole: int, reach_deg: float) -> tuple[Array, Mask]:
    """Places [n, 2] of the pixels of a round map of what lies within `reach_deg` of the north (1)
    or south (-1) pole, equidistant, Greenwich below; and which pixels [width, width] they are."""
    x = (2 * np.arange(width) + 1) / width - 1
    radius = np.hypot(x, x[:, None])  # w w
    inside = radius <= 1
    lon_deg = np.degrees(np.arctan2(np.broadcast_to(x, radius.shape), pole * x[:, None]))
    lon_deg = lon_deg if pole > 0 else 180 - lon_deg
    lat_deg = pole * (90 - reach_deg * radius)
    return np.stack([wrap_lon(lon_deg[inside]), lat_deg[inside]], axis=1), inside


def sample(grid: NDArray[np.floating], lonlat_deg: Array, *, smooth: bool = True) -> Array:
    """Values [n, c] of a global north-up grid [h, w, c] at places [n, 2]: bilinear between centres
    of cells, across the dateline too, or those of the nearest cell."""
    height, columns, channels = grid.shape
    row = (90 - lonlat_deg[:, 1]) / 180 * height + 0.5  # of the padded grid
    column = (lonlat_deg[:, 0] + 180) / 360 * columns + 0.5
    sampled = np.empty((len(lonlat_deg), channels))
    for channel in range(channels):
        padded = np.pad(grid[:, :, channel], ((0, 0), (1, 1)), mode="wrap")
        padded = np.pad(padded, ((1, 1), (0, 0)), mode="edge")
        sampled[:, channel] = map_coordinates(padded, [row, column], order=int(smooth))
    return sampled
