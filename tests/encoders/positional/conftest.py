import numpy as np
import pytest
from numpy.typing import NDArray

from raytrain.geo import random_on_sphere

Array = NDArray[np.float64]


@pytest.fixture
def hard_places() -> Array:
    """Places over the sphere, poles and dateline, and closer and closer to both."""
    steps = np.geomspace(1e-9, 5, 20)
    near_pole = np.stack([np.linspace(-180, 180, 20), 90 - steps], axis=1)
    near_dateline = np.stack([180 - steps, np.linspace(-90, 90, 20)], axis=1)
    corners = [[0, 90], [180, 90], [-180, 90], [33, -90], [180, 0], [-180, 0], [0, 0], [90, -45]]
    over_all = random_on_sphere(100, np.random.default_rng(0))
    mirrored = np.concatenate([near_pole * [1, -1], near_dateline * [-1, 1]])
    return np.concatenate([corners, near_pole, near_dateline, mirrored, over_all])
