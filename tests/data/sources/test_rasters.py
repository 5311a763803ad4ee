from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raytrain import geo
from raytrain.data.cards import load_card
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.rasters import Patches, RasterSource, read_raster
from raytrain.storage import datasets_dir

PLACES = np.array([[10.0, 23.0], [-62.0, -3.5], [-0.1278, 51.5074]])  # Sahara, Amazon, London


def value_at(name: str, places: np.ndarray) -> np.ndarray:
    source = load_card(name).source_for("earth-mini")
    assert isinstance(source, RasterSource)
    raster = read_raster(source.file, datasets_dir(), bands=source.bands)
    return Patches(raster, 1, (1,), True).at(places)


def test_embedded_rasters_at_known_places() -> None:
    blue_marble = [[202, 168, 123], [22, 35, 7], [84, 86, 47]]
    assert np.abs(value_at("satellite", PLACES) - np.array(blue_marble)).max() < 25
    assert np.abs(value_at("vegetation", PLACES)[:, 0] / 200 - [0.188, 0.636, 0.334]).max() < 0.07
    turbidity = value_at("atmosphere", PLACES) / 20
    assert turbidity.shape == (3, 12)
    assert ((turbidity > 1.5) & (turbidity < 8)).all()


def numbered(height: int = 90, width: int = 180) -> np.ndarray:
    """A raster [2, h, w] that holds its own rows and columns."""
    return np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij")).astype(
        np.uint8
    )


def test_a_pixel_is_the_one_that_holds_the_place() -> None:
    places = geo.random_on_sphere(500, np.random.default_rng(0))
    places = np.concatenate([places, [[180, 0], [-180, 0], [0, 90], [0, -90]]])
    expected = np.stack(geo.raster_pixels(places, 90, 180), axis=1)
    np.testing.assert_array_equal(Patches(numbered(), 1, (1,), True).at(places), expected)


def test_a_patch_surrounds_its_place_north_up() -> None:
    patch = Patches(numbered(), 4, (1,), False).at(np.array([[0.0, 0.0]]))[0]
    np.testing.assert_array_equal(patch[0, :, 0], [43, 44, 45, 46])
    np.testing.assert_array_equal(patch[1, 0], [88, 89, 90, 91])


def test_patches_go_on_across_the_dateline() -> None:
    patch = Patches(numbered(), 4, (1,), False).at(np.array([[180.0, 0.0]]))[0]
    np.testing.assert_array_equal(patch[1, 0], [178, 179, 0, 1])


def test_patches_go_on_over_the_poles() -> None:
    north, south = Patches(numbered(), 4, (1,), False).at(np.array([[0.0, 90.0], [0.0, -90.0]]))
    np.testing.assert_array_equal(north[0, :, 0], [1, 0, 0, 1])
    np.testing.assert_array_equal(north[1, :, 0], [178, 178, 88, 88])
    np.testing.assert_array_equal(south[0, :, 0], [88, 89, 89, 88])
    np.testing.assert_array_equal(south[1, :, 0], [88, 88, 178, 178])


def test_true_scale_widens_patches_as_the_projection_does() -> None:
    at_60 = np.array([[0.0, 60.0]])
    narrow = Patches(numbered(), 8, (1,), False).at(at_60)[0, 1, 0].astype(int)
    wide = Patches(numbered(), 8, (1,), True).at(at_60)[0, 1, 0].astype(int)
    assert wide[-1] - wide[0] == 2 * (narrow[-1] - narrow[0])
    assert np.isfinite(Patches(numbered(), 8, (1,), True).at(np.array([[0.0, 90.0]]))).all()


def test_strides_follow_one_another_and_average_areas() -> None:
    raster = np.random.default_rng(0).integers(0, 255, (1, 90, 180)).astype(np.uint8)
    patches = Patches(raster, 2, (1, 8), False)
    assert patches.shape == (2, 2, 2)
    assert patches.at(PLACES).shape == (3, 2, 2, 2)
    constant = Patches(np.full_like(raster, 200), 2, (1, 8), False).at(PLACES)
    assert (constant == 200).all()
    many = patches.at(geo.random_on_sphere(2000, np.random.default_rng(1))).astype(float)
    assert many[:, 1].std() < many[:, 0].std() / 4


def test_a_patch_wider_than_the_world_is_an_error() -> None:
    with pytest.raises(SourceError, match="16 pixels at stride 16 are wider than the raster's 90"):
        Patches(numbered(), 16, (1, 16), False)


def context(modality: str = "satellite", *others: str, folder: Path | None = None) -> Context:
    return Context(
        modality=modality,
        field="patch",
        folder=folder or datasets_dir(),
        dealt_among=(modality, *others),
    )


def cells(lonlat_deg: np.ndarray) -> set[tuple[int, int]]:
    return set(map(tuple, np.floor(lonlat_deg * 10).astype(int).tolist()))


def test_modalities_share_no_cell() -> None:
    source = RasterSource(file="earth-mini/vegetation.png", nodata=255.0, places=20_000)
    drawn = {
        name: source.observe(context(name, "a", "b", "c")).lonlat_deg for name in ("a", "b", "c")
    }
    assert not cells(drawn["a"]) & cells(drawn["b"])
    assert not cells(drawn["a"]) & cells(drawn["c"])
    assert not cells(drawn["b"]) & cells(drawn["c"])


def test_another_modality_moves_no_cell_between_the_others() -> None:
    source = RasterSource(file="earth-mini/vegetation.png", places=20_000)
    before = source.observe(context("a", "b")).lonlat_deg
    after = source.observe(context("b", "a", "c")).lonlat_deg
    assert not cells(before) & cells(after)


def test_places_lie_on_land_and_where_the_raster_has_a_value() -> None:
    source = RasterSource(file="earth-mini/vegetation.png", nodata=255.0, places=5000, patch_px=1)
    offered = source.observe(context())
    values = value_at("vegetation", offered.lonlat_deg)
    land = np.asarray(Image.open(datasets_dir() / "earth-mini" / "land.png"))
    assert land[geo.raster_pixels(offered.lonlat_deg, *land.shape)].all()
    assert (values != 255).mean() > 0.97  # the mask's pixels are half as wide as the raster's
    assert offered.lonlat_deg[:, 1].min() > -60


def test_places_are_uniform_by_area() -> None:
    source = RasterSource(
        file="earth-mini/vegetation.png", places=40_000, land=False, latitudes=(-90.0, 90.0)
    )
    offered = source.observe(Context(modality="a", field="patch", folder=datasets_dir()))
    shares = np.histogram(np.sin(np.radians(offered.lonlat_deg[:, 1])), 10, (-1, 1))[0] / 40_000
    assert np.abs(shares - 0.1).max() < 0.01


def test_observations_depend_on_the_settings_alone() -> None:
    source = RasterSource(file="earth-mini/satellite.jpg", places=300)
    first, second = source.observe(context()), source.observe(context())
    np.testing.assert_array_equal(first.lonlat_deg, second.lonlat_deg)
    rows = np.array([5, 299, 0])
    whole = first.take(np.arange(300))["patch"]
    assert isinstance(whole, np.ndarray)
    assert whole.shape == (300, 6, 16, 16)
    np.testing.assert_array_equal(whole[rows], second.take(rows)["patch"])


def test_raw_values_are_scaled_and_missing_ones_are_zero(tmp_path: Path) -> None:
    raw = np.full((180, 360), -999, np.int16)
    raw[60:120] = 5000
    np.save(tmp_path / "raw.npy", raw)
    source = RasterSource(
        file="raw.npy", nodata=-999.0, scale=0.02, places=500, patch_px=41, strides=(1,)
    )
    offered = source.observe(context(folder=tmp_path))
    patches = np.asarray(offered.take(np.arange(500))["patch"])
    assert set(np.unique(patches)) == {0, 100}
    assert (patches[:, :, 20, 20] == 100).all()
    assert np.abs(offered.lonlat_deg[:, 1]).max() <= 30


def test_a_raster_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source file .*none\.png does not exist"):
        RasterSource(file="none.png").observe(context(folder=tmp_path))


def test_a_raster_without_values_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "raw.npy", np.zeros((18, 36), np.uint8))
    with pytest.raises(SourceError, match=r"satellite: raw\.npy has no value at any allowed place"):
        RasterSource(file="raw.npy", nodata=0.0).observe(context(folder=tmp_path))
