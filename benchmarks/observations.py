"""Is the location encoder the limit, or what its modalities know? The observations themselves, as
they are at a labelled place, in place of an encoder.

    python -m raytrain.prepare earth tasks
    python benchmarks/observations.py [--folder observations]

A location encoder has to guess what satellite, vegetation and atmosphere show at a place. `seen`
reads it off the rasters: statistics of the patches around the place. `kernel` is 800 random Fourier
features of these (Rahimi and Recht 2007): a ridge on them is a kernel regression on what is seen.
Beside random fields and beside the encoder in the box it is about what an encoder could reach that
knew these modalities perfectly. `cells_16` (3.7° wide), `cells_32` and `cells_64` (0.9°) are that
kernel of what is seen on average in HEALPix cells: how fine must be what is known?
"""

import argparse
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array
from without_ray import evaluate

import raytrain
from raytrain.data.cards import load_card
from raytrain.data.sources.rasters import Patches, RasterSource, read_raster
from raytrain.encoders.positional.healpix import neighbours
from raytrain.encoders.random_field import RandomFieldConfig
from raytrain.evaluation.baselines import from_module
from raytrain.geo import Array, random_on_sphere

STRIDES = (1, 2, 8)  # of images: pixels 6 to 60 km wide
COLUMNS = 800
SAMPLE = 200_000  # places, of which a cell of 0.9° has four
SKIP = "skip=label-kNN,inverse distance,unit xyz,random Fourier,untrained harmonics,untrained"
fields = from_module(RandomFieldConfig().build())
earth = raytrain.load("earth")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--folder", default="observations", help="where the page goes")
    options = parser.parse_args()
    with_fields = (seen_fields, kernel_fields, cells_16, cells_32, cells_64)
    rows = [f"observations:{row.__name__}" for row in (seen, *with_fields, kernel_earth)]
    settings = ("first_seed=5", "budgets=300", SKIP)
    evaluate(["earth", *rows], Path(options.folder).resolve(), *settings)


def seen(lon: Array, lat: Array) -> Array:
    """Of each modality at places: of an image the mean, deviation, 10 % and 90 % of a patch by
    channel and stride, and mean and deviation of its middle; of a vector the values."""
    lonlat_deg = np.column_stack([lon, lat]).astype(float)
    columns = []
    for name in earth.config["cards"]:
        patch = patches(name).at(lonlat_deg).astype(float)
        columns.append(patch if patch.ndim == 2 else statistics(patch))
    return np.hstack(columns)


def seen_fields(lon: Array, lat: Array) -> Array:
    return np.hstack([seen(lon, lat), fields(lon, lat)])


def kernel_fields(lon: Array, lat: Array) -> Array:
    return np.hstack([kernel(seen(lon, lat)), fields(lon, lat)])


def kernel_earth(lon: Array, lat: Array) -> Array:
    return np.hstack([kernel(seen(lon, lat)), earth.encode(lon, lat)])


def cells_16(lon: Array, lat: Array) -> Array:
    return cells(16, lon, lat)


def cells_32(lon: Array, lat: Array) -> Array:
    return cells(32, lon, lat)


def cells_64(lon: Array, lat: Array) -> Array:
    return cells(64, lon, lat)


def cells(nside: int, lon: Array, lat: Array) -> Array:
    """The kernel of means over cells, interpolated between these, and random fields."""
    seen_there = corners(nside, np.column_stack([lon, lat])) @ means(nside)
    return np.hstack([kernel(seen_there), fields(lon, lat)])


@cache
def means(nside: int) -> Array:
    """What is seen [cells, columns] on average around each cell's centre: the nearer, the more."""
    places, values = sample()
    nearness = corners(nside, places)
    total = np.asarray(nearness.sum(0)).ravel()
    return (nearness.T @ values) / np.maximum(total, 1e-9)[:, None]


def corners(nside: int, lonlat_deg: Array) -> csr_array:
    """Weights [n, cells] of the four cells that a place lies between."""
    pixels, weights = neighbours(torch.from_numpy(lonlat_deg).double(), torch.tensor([[nside]]))
    places = np.tile(np.arange(len(lonlat_deg)), 4)
    where = (places, pixels.flatten().numpy())
    return csr_array((weights.flatten().numpy(), where), shape=(len(lonlat_deg), 12 * nside**2))


def kernel(values: Array) -> Array:
    """cos(w · x + b) of what is seen, standardised: a Gaussian kernel, sqrt(columns) wide."""
    (_, around), rng = sample(), np.random.default_rng(0)
    weights = rng.normal(size=(values.shape[1], COLUMNS)) / np.sqrt(values.shape[1])
    standard = (values - around.mean(0)) / around.std(0)
    return np.cos(standard @ weights + rng.uniform(0, 2 * np.pi, COLUMNS))


def statistics(patch: Array) -> Array:
    """Columns [n, c] of patches [n, channels, px, px]."""
    middle = patch.shape[-1] // 2
    inner, core = (patch[:, :, middle - r : middle + r, middle - r : middle + r] for r in (3, 1))
    low, high = np.percentile(patch, [10, 90], axis=(2, 3))
    whole, near = (part.mean((2, 3)) for part in (patch, inner))
    spread, near_spread = (part.std((2, 3)) for part in (patch, inner))
    return np.hstack([whole, spread, core.mean((2, 3)), near, near_spread, low, high])


@cache
def patches(name: str) -> Patches:
    card = load_card(name)
    source = card.source
    assert isinstance(source, RasterSource)
    raster = read_raster(source.file, card.folder, source.variable, source.bands)
    if source.nodata is not None:
        raster = np.where(raster == source.nodata, 0, raster)
    strides = STRIDES if source.patch_px > 1 else source.strides
    return Patches(raster.astype(np.float32), source.patch_px, strides, source.true_scale)


@cache
def sample() -> tuple[Array, Array]:
    """Places all over the Earth [n, 2], and what is seen there."""
    places = random_on_sphere(SAMPLE, np.random.default_rng(0))
    return places, np.concatenate([seen(*part.T) for part in np.array_split(places, 20)])


if __name__ == "__main__":
    main()
