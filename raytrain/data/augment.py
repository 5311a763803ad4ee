"""Augmentation of image observations in the stream: random crops and flips."""

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
    shape = config.shape(images.shape[1:])
    result = np.empty((len(images), *shape), images.dtype)
    top, left = (draws[:, :2] * (np.array(images.shape[2:]) - shape[1:] + 1)).astype(np.int64).T
    flips = np.where((draws[:, 2:] < 0.5) & config.flip, -1, 1)
    for i, (right_left, down_up) in enumerate(flips):  # faster than whole columns, which copy more
        rows, columns = slice(top[i], top[i] + shape[1]), slice(left[i], left[i] + shape[2])
        result[i] = images[i, :, rows, columns][:, ::down_up, ::right_left]
    return result


def centred(images: NDArray[Any], config: AugmentConfig) -> NDArray[Any]:
    """Images [n, c, h, w] with the central crop, for validation."""
    return augmented(images, np.full((len(images), 4), 0.5), config)
