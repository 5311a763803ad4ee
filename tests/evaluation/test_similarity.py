"""Which places are alike, for encoders of which it is known."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import raytrain
from raytrain import geo
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import PlaceEncoder, save_location_encoder
from raytrain.evaluation.similarity import similarities
from raytrain.geo import Array, CoordinateError
from raytrain.settings import build, to_dict

CONFIG = build(
    LocationEncoderConfig,
    {"positional": {"degrees": 4}, "network": {"width": 16}, "dim": 8},
    "location",
)


def lat_alone(lon: Array, lat: Array) -> Array:
    """Two columns that turn with the latitude, and one that is the same everywhere."""
    return np.stack([np.cos(np.radians(lat)), np.sin(np.radians(lat)), 100 + 0 * lat], axis=1)


def test_what_is_common_to_all_land_makes_nothing_alike() -> None:
    place, others = np.array([[10.0, 40.0]]), np.array([[-120.0, 40.0], [10.0, -40.0]])
    found = similarities(lat_alone, place, others)
    assert found[0] == pytest.approx(1)
    assert found[1] < 0  # 100 beside numbers below 1 would give .9999


def test_a_similarity_does_not_depend_on_the_other_places() -> None:
    encode = PlaceEncoder(CONFIG.build(), {}).learned
    places = geo.random_on_sphere(40_000, np.random.default_rng(0))
    found = similarities(encode, places[:1], places)
    assert found[0] == pytest.approx(1)
    np.testing.assert_allclose(similarities(encode, places[:1], places[-2:]), found[-2:], atol=1e-5)
    assert similarities(encode, places[:1], places[:0]).shape == (0,)


def test_places_are_ranked_by_the_learned_columns(tmp_path: Path) -> None:
    save_location_encoder(tmp_path, {"location": to_dict(CONFIG)}, CONFIG.build())
    encoder = raytrain.load(tmp_path)
    np.testing.assert_array_equal(encoder.learned(10, 40), encoder.encode(10, 40)[:, :8])
    places = geo.random_on_sphere(100, np.random.default_rng(0))
    found = raytrain.similar(tmp_path, 10.0, 40.0, places)
    expected = similarities(encoder.learned, np.array([[10.0, 40.0]]), places)
    order = np.argsort(-expected)
    np.testing.assert_allclose(found.similarity, expected[order], atol=1e-6)
    np.testing.assert_array_equal(found[["lon", "lat"]], places[order])
    np.testing.assert_allclose(
        found.distance_km, geo.great_circle_km(places[order], np.array([[10.0, 40.0]]))
    )


def test_without_places_they_are_cells_on_land() -> None:
    found = raytrain.similar(PlaceEncoder(CONFIG.build(), {}), 20.5, 25.5, degrees=5)
    assert 700 < len(found) < 1000
    assert (found.lat.abs() % 5 == 2.5).all()
    assert found.similarity.is_monotonic_decreasing
    nearest = found.loc[found.distance_km.idxmin()]
    assert (nearest.lon, nearest.lat) == (22.5, 27.5)


def test_what_is_no_place_is_named() -> None:
    encoder = PlaceEncoder(CONFIG.build(), {})
    with pytest.raises(CoordinateError, match=r"similar: .* suggests swapped columns"):
        raytrain.similar(encoder, 47.0, 108.0)
    with pytest.raises(CoordinateError, match="places: 1 of 1 rows are bad"):
        raytrain.similar(encoder, 47.0, 8.0, np.array([[0.0, np.nan]]))


def test_it_needs_no_ray() -> None:
    code = "import sys, raytrain; raytrain.similar; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
