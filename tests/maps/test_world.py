import io

import numpy as np
import pytest
from PIL import Image

from raytrain.evaluation.baselines import unit_xyz
from raytrain.geo import Array
from raytrain.maps import world
from raytrain.maps.world import fit_palette, world_map


def climate(lon: Array, lat: Array) -> Array:
    """Four columns in which zones differ."""
    t = np.radians(lat)
    return np.stack([np.cos(2 * t), np.cos(6 * t), np.sin(t), np.sin(np.radians(lon))], axis=1)


def test_map_shows_the_encoder_and_dims_the_ocean() -> None:
    land = np.zeros((18, 36), bool)
    land[:, :18] = True
    plain = np.asarray(world_map(climate, 4.0, width=400), float)
    masked = np.asarray(world_map(climate, 4.0, land=land, width=400), float)
    assert plain.shape == masked.shape
    west, east = masked[84:-120, 60:180], masked[84:-120, 220:340]
    assert west.std() > 2 * east.std()
    assert plain[84:-120, 60:340].std() > 20


def test_rotated_and_flipped_embeddings_look_alike() -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    first = np.asarray(world_map(climate, 4.0, width=400), float)
    second = np.asarray(
        world_map(lambda lon, lat: climate(lon, lat) @ rotation, 4.0, width=400), float
    )
    assert np.abs(first - second).max() <= 2


def test_few_columns_and_collapsed_embeddings_are_drawn() -> None:
    assert world_map(lambda lon, lat: lat[:, None], 10.0, width=300).width == 300
    assert world_map(lambda lon, lat: np.ones((len(lon), 5)), 10.0, width=300).width == 300
    assert fit_palette(unit_xyz).explained == pytest.approx(1.0)


def test_errors_are_drawn_where_they_are() -> None:
    places = np.array([[-100.0, 0.0], [100.0, 0.0], [0.0, 60.0]])
    errors = np.array([0.0, 2.0, np.nan])
    most = world.most_error([errors])
    assert 1.9 < most < 2.0
    drawn = np.asarray(world.error_map(places, errors, most, "m", width=480), float)
    empty = np.asarray(world.error_map(places, np.full(3, np.nan), 1.0, "m", width=480), float)
    changed = np.abs(drawn - empty).sum(2)[84:-120] > 0
    columns = np.flatnonzero(changed.any(0))
    assert len(columns) <= 10  # two dots
    west, east = drawn[84:-120][:, columns[0]], drawn[84:-120][:, columns[-1]]
    assert east.max() > 230 > west.max()
    assert columns[0] + columns[-1] == pytest.approx(480, abs=2)
    assert Image.open(io.BytesIO(world.png(Image.new("RGB", (9, 9))))).size == (9, 9)
