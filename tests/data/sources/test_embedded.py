"""The small real data that comes with raytrain: there, small, credited, and right."""

import numpy as np
import pandas as pd

from raytrain import geo
from raytrain.data.sources.labels import at_grid_point
from raytrain.storage import datasets_dir

FOLDER = datasets_dir() / "earth-mini"
TASKS = np.load(FOLDER / "tasks.npz")


def test_all_is_small_and_credited() -> None:
    files = [path for path in FOLDER.iterdir() if path.suffix != ".md"]
    assert sum(path.stat().st_size for path in files) < 8e6
    credits = (FOLDER / "CREDITS.md").read_text()
    assert all(path.name in credits for path in files)


def test_tasks_are_whole() -> None:
    names = {key.split("/")[0] for key in TASKS.files}
    assert names == {
        "air_temperature", "log_precipitation", "airport_elevation", "log_population_50km",
        "koppen", "igbp", "country",
    }  # fmt: skip
    for name in names:
        places = np.stack([TASKS[f"{name}/lon_deg"], TASKS[f"{name}/lat_deg"]], axis=1)
        y = TASKS[f"{name}/y"]
        geo.check_lonlat(places.astype(np.float64), name)
        assert 5900 <= len(y) == len(places) <= 6000
        assert np.isfinite(y).all()
        if TASKS[f"{name}/kind"] == "classification":
            assert y.max() < len(TASKS[f"{name}/classes"])


def nearest(task: str, lon: float, lat: float) -> tuple[float, float]:
    """The label nearest to a place, and its distance in km."""
    places = np.stack([TASKS[f"{task}/lon_deg"], TASKS[f"{task}/lat_deg"]], axis=1)
    km = geo.great_circle_km(places.astype(np.float64), np.array([[lon, lat]]))
    return float(TASKS[f"{task}/y"][km.argmin()]), float(km.min())


def test_labels_near_known_places() -> None:
    for lon, lat, celsius, koppen in ((10.0, 23.0, 25.0, "BWh"), (-62.0, -3.5, 26.4, "Af")):
        value, km = nearest("air_temperature", lon, lat)
        assert km < 250
        assert abs(value - celsius) < 3
        label, km = nearest("koppen", lon, lat)
        assert km < 250
        assert TASKS["koppen/classes"][int(label)] == koppen


def test_texts_name_places_over_the_land() -> None:
    texts = pd.read_csv(FOLDER / "places.csv.gz")
    assert len(texts) > 20_000
    assert texts["text"].notna().all()
    geo.check_lonlat(texts[["lon", "lat"]].to_numpy(), "texts")
    cells = np.floor(texts[texts["text"].str.len() < 100][["lon", "lat"]] / 0.5)
    assert cells.duplicated().mean() < 0.01
    assert "Bristol, City of Bristol, England, United Kingdom" in set(texts["text"])


def test_grid_points_are_interpolated_around_the_globe() -> None:
    grid = np.add.outer(np.linspace(90, -90, 721), np.zeros(1440))  # holds its latitude
    places = geo.random_on_sphere(200, np.random.default_rng(0))
    places = np.concatenate([places, [[179.99, 10], [-0.01, 90], [0, -90], [-180, 0]]])
    np.testing.assert_allclose(at_grid_point(grid, places), places[:, 1], atol=1e-9)
    around = np.tile(np.minimum(np.arange(1440), 1440 - np.arange(1440)), (721, 1)).astype(float)
    east = np.array([[-0.125, 5.0], [0.125, 5.0], [-0.25, 5.0]])
    np.testing.assert_allclose(at_grid_point(around, east), [0.5, 0.5, 1.0])
