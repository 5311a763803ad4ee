"""Global rasters as sources: patches, or the pixel itself, at random places on land."""

import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter

from raytrain.data.manifest import Field
from raytrain.data.packing import Observed
from raytrain.data.sources.files import Context, SourceError, read_file
from raytrain.data.sources.land import draw_places, land_pixels
from raytrain.data.writer import Observations

MAX_STRETCH = 10.0  # of true-scale patches, reached at 84° of latitude


@dataclass(frozen=True, kw_only=True)
class RasterSource:
    """Patches around equal-area random places of an equirectangular, north-up, global raster.

    A patch is `patch_px` pixels wide, once for every stride: with stride 4 each of its pixels is
    the mean of 4 x 4 raster pixels. The strides' channels follow one another. One pixel and one
    stride give a vector. `true_scale` widens patches in longitude by 1 / cos(lat), so that a pixel
    is the same distance everywhere and the projection's stretch does not tell the latitude.
    """

    kind: Literal["raster"] = "raster"
    file: str
    variable: str | None = None  # of an HDF5 or netCDF 4 file
    bands: int = 1  # of an image that holds its bands one below the other
    scale: float = 1.0  # factor from raw values to stored ones
    dtype: str = "uint8"
    nodata: float | None = None  # places have a value; elsewhere in a patch it counts as 0
    units: str = ""
    places: int = 1_000_000
    patch_px: int = 16
    strides: tuple[int, ...] = (1, 4)
    true_scale: bool = True
    latitudes: tuple[float, float] = (-60.0, 84.0)  # nothing is to be seen on Antarctica's ice
    land: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.patch_px < 1 or not self.strides or min(self.strides) < 1 or self.places < 1:
            raise ValueError("patch_px, strides and places must be at least 1")

    def observe(self, context: Context) -> Observations:
        """Draw the places and prepare to cut their patches. Raises SourceError."""
        raw = read_raster(self.file, context.folder, self.variable, self.bands)
        allowed = land_pixels(context, self.latitudes, self.land)
        if self.nodata is not None:
            valid = raw[0] != self.nodata
            allowed &= _resampled(valid, allowed.shape)
            raw = np.where(valid, raw, 0)
        if not allowed.any():
            raise SourceError(f"{context.modality}: {self.file} has no value at any allowed place")
        rng = np.random.default_rng([self.seed, zlib.crc32(context.modality.encode())])
        lonlat_deg = draw_places(self.places, allowed, rng)
        stored = _stored(raw, self.scale, self.dtype)
        patches = Patches(stored, self.patch_px, self.strides, self.true_scale)
        field = Field(dtype=self.dtype, shape=patches.shape, units=self.units)

        def take(index: NDArray[np.int64]) -> Observed:
            return {context.field: patches.at(lonlat_deg[index])}

        return Observations(lonlat_deg=lonlat_deg, fields={context.field: field}, take=take)


class Patches:
    """Cuts patches out of a raster [channels, height, width] by nearest pixel of area means."""

    def __init__(
        self, raster: NDArray[Any], patch_px: int, strides: tuple[int, ...], true_scale: bool
    ) -> None:
        channels, self.height, self.width = raster.shape
        self.patch_px, self.strides, self.true_scale = patch_px, strides, true_scale
        self.margin = patch_px * max(strides) // 2 + 1
        if self.margin > self.height:
            raise SourceError(
                f"patches of {patch_px} pixels at stride {max(strides)} are wider than the "
                f"raster's {self.height} rows; choose a smaller patch_px or stride"
            )
        padded = _over_the_poles(raster, self.margin)
        self.planes = [[_area_mean(plane, stride) for plane in padded] for stride in strides]
        is_vector = patch_px == 1 and len(strides) == 1
        shape = (channels * len(strides), patch_px, patch_px)
        self.shape: tuple[int, ...] = shape[:1] if is_vector else shape

    def at(self, lonlat_deg: NDArray[np.float64]) -> NDArray[Any]:
        """The patches [n, *shape] around places [n, 2]; the first row is the northernmost."""
        column = (lonlat_deg[:, :1] + 180) / 360 * self.width
        row = (90 - lonlat_deg[:, 1:]) / 180 * self.height + self.margin
        row = np.minimum(row, self.height + self.margin - 1e-6)  # the south pole itself
        stretch = 1 / np.maximum(np.cos(np.radians(lonlat_deg[:, 1:])), 1 / MAX_STRETCH)
        reach = np.arange(self.patch_px) - (self.patch_px - 1) / 2
        patches = np.empty((len(lonlat_deg), *self.shape), self.planes[0][0].dtype)
        channels = iter(np.moveaxis(patches.reshape(len(patches), -1, *[self.patch_px] * 2), 1, 0))
        for stride, planes in zip(self.strides, self.planes, strict=True):
            rows = np.floor(row + reach * stride).astype(np.intp)
            wide = reach * stride * (stretch if self.true_scale else 1.0)
            columns = np.floor(column + wide).astype(np.intp) % self.width
            index = rows[:, :, None] * self.width + columns[:, None, :]
            for plane in planes:
                next(channels)[...] = plane.reshape(-1)[index]
        return patches


def read_raster(
    file: str, folder: Path, variable: str | None = None, bands: int = 1
) -> NDArray[Any]:
    """A raster [channels, height, width] from an image, .npy, HDF5 or netCDF 4 file."""
    content = io.BytesIO(read_file(file, folder))
    suffix = file.rpartition(".")[2].lower()
    if suffix in ("h5", "nc"):
        values = _read_hdf5(content, file, variable)
    elif suffix == "npy":
        values = np.load(content)
    else:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # global rasters are large
        try:
            values = np.asarray(Image.open(content))
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    if values.ndim == 2:
        return values.reshape(bands, -1, values.shape[1])
    channels = int(np.argmin(values.shape))  # first or last, but always the shortest axis
    return np.ascontiguousarray(np.moveaxis(values, channels, 0))


def _read_hdf5(content: io.BytesIO, file: str, variable: str | None) -> NDArray[Any]:
    try:
        import h5py
    except ImportError:
        raise SourceError(f"{file} needs h5py: pip install 'raytrain[earth]'") from None
    with h5py.File(content) as dataset:
        if variable not in dataset:
            raise SourceError(f"{file} has no variable `{variable}`; it holds {', '.join(dataset)}")
        return np.asarray(dataset[variable])


def _stored(raw: NDArray[Any], scale: float, dtype: str) -> NDArray[Any]:
    if scale == 1.0 and raw.dtype == dtype:
        return raw
    scaled = raw.astype(np.float32) * np.float32(scale)
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        scaled = np.clip(np.rint(scaled), limits.min, limits.max)
    return np.asarray(scaled.astype(dtype))


def _resampled(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask at another resolution, by nearest pixel."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(shape, mask.shape, strict=True)
    )
    return np.asarray(mask[np.ix_(rows, columns)])


def _over_the_poles(raster: NDArray[Any], margin: int) -> NDArray[Any]:
    """Add `margin` rows at both poles: what lies beyond is the other side of the world."""
    other_side = np.roll(raster, raster.shape[2] // 2, axis=2)
    margin_rows = other_side[:, :margin], other_side[:, -margin:]
    return np.concatenate([margin_rows[0][:, ::-1], raster, margin_rows[1][:, ::-1]], axis=1)


def _area_mean(plane: NDArray[Any], stride: int) -> NDArray[Any]:
    if stride == 1:
        return np.ascontiguousarray(plane)
    mean = uniform_filter(plane.astype(np.float32), stride, mode=("nearest", "wrap"))
    return np.asarray(np.rint(mean).astype(plane.dtype) if plane.dtype.kind in "ui" else mean)
