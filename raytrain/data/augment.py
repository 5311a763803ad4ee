"""Augmentation of image observations in the stream: random crops and flips, on whole columns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """`flip`: mirror left-right and up-down, each with probability ½. `crop_px`: a random square
    of this side. Validation places get the central crop and no flip. For images [c, h, w]."""

    flip: bool = False
    crop_px: int | None = None

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one observation of `shape` after the crop."""
        return shape if self.crop_px is None else (shape[0], self.crop_px, self.crop_px)


def augmented(
    images: NDArray[Any], draws: NDArray[np.float64], config: AugmentConfig
) -> NDArray[Any]:
    """Images [n, c, h, w], cropped and flipped as `draws` [n, 4] in [0, 1) say."""
    images = _cropped(images, draws[:, :2], config.crop_px)
    if not config.flip:
        return images
    images = np.where(_mask(draws[:, 2]), images[..., ::-1], images)
    return np.where(_mask(draws[:, 3]), images[..., ::-1, :], images)


def centred(images: NDArray[Any], config: AugmentConfig) -> NDArray[Any]:
    """Images [n, c, h, w] with the central crop, for validation."""
    return _cropped(images, np.full((len(images), 2), 0.5), config.crop_px)


def _mask(draw: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (draw < 0.5)[:, None, None, None]


def _cropped(images: NDArray[Any], draws: NDArray[np.float64], side: int | None) -> NDArray[Any]:
    if side is None:
        return images
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(2, 3))
    rows = (draws[:, 0] * windows.shape[2]).astype(np.int64)
    columns = (draws[:, 1] * windows.shape[3]).astype(np.int64)
    return np.ascontiguousarray(windows[np.arange(len(images)), :, rows, columns])
