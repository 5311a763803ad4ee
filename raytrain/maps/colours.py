"""Colours in which equal steps look equal, made in OKLab (Ottosson 2020)."""

import numpy as np

from raytrain.geo import Array

PAPER, INK, FAINT = (16, 19, 26), (236, 238, 242), (146, 154, 168)
HEAT = np.array(  # OKLab; lighter from end to end, so that it reads without seeing hues
    [
        [0.34, 0.0, -0.09],
        [0.49, 0.11, -0.06],
        [0.69, 0.12, 0.1],
        [0.82, 0.04, 0.13],
        [0.95, -0.02, 0.08],
    ]
)


def spread(unit: Array) -> Array:
    """Three numbers [n, 3] in 0..1 as lightness, green-red and blue-yellow. Returns sRGB 0..255."""
    return oklab_to_rgb(unit * [0.48, 0.26, 0.26] + [0.40, -0.13, -0.13])


def heat(share: Array) -> Array:
    """Numbers [n] as colours [n, 3] from dark (0 and less) to bright (1 and more), sRGB 0..255."""
    steps = np.linalg.norm(np.diff(HEAT, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    return oklab_to_rgb(np.stack([np.interp(share, at, HEAT[:, c]) for c in range(3)], axis=1))


def oklab_to_rgb(lab: Array) -> Array:
    """Lightness, green-red and blue-yellow [n, 3]. Returns sRGB 0..255, cut where it ends."""
    lightness, a, b = lab.T
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_linear = [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
    linear = np.clip(np.asarray(to_linear) @ cone**3, 0, 1).T
    bright = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.asarray(255 * np.where(linear <= 0.0031308, 12.92 * linear, bright))
