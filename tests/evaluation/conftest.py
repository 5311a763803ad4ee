"""Made tasks on the sphere, small enough for a probe in milliseconds."""

import numpy as np
import pytest

from raytrain.evaluation.tasks import Task
from raytrain.geo import random_on_sphere, unit_xyz


@pytest.fixture
def height() -> Task:
    """Regression: a linear function of unit xyz at 1500 places."""
    lonlat_deg = random_on_sphere(1500, np.random.default_rng(0))
    y = unit_xyz(lonlat_deg) @ [1.0, -2.0, 0.5] + 3.0
    return Task(name="height", lonlat_deg=lonlat_deg, y=y)


@pytest.fixture
def hemisphere() -> Task:
    """Three classes by longitude and latitude at 1500 places."""
    lonlat_deg = random_on_sphere(1500, np.random.default_rng(1))
    y = np.where(lonlat_deg[:, 1] > 30, 2.0, (lonlat_deg[:, 0] > 0).astype(float))
    return Task(name="hemisphere", lonlat_deg=lonlat_deg, y=y, classes=("west", "east", "north"))
