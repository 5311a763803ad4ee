import math

import numpy as np
import pytest
import torch

from raytrain.encoders.positional.sphere2vec import TERMS, Form, Sphere2VecConfig
from raytrain.geo import Array
from raytrain.settings import SettingsError, build

FORMS: list[Form] = list(TERMS)


def by_loop(form: Form, lon: float, lat: float, radii: list[float]) -> list[float]:
    """The columns of one place, written down term by term from the papers' definitions."""
    s, c = math.sin, math.cos
    a, p = math.radians(lon), math.radians(lat)
    grid = [[s(p / r) for r in radii], [c(p / r) for r in radii]]
    grid += [[s(a / r) for r in radii], [c(a / r) for r in radii]]
    sphere_c = [[c(p / r) * c(a / r) for r in radii], [c(p / r) * s(a / r) for r in radii]]
    sphere_m = [
        [c(p / r) * c(a) for r in radii],
        [c(p) * c(a / r) for r in radii],
        [c(p / r) * s(a) for r in radii],
        [c(p) * s(a / r) for r in radii],
    ]
    if form == "theory":
        axes = [(math.cos(k * 2 * math.pi / 3), math.sin(k * 2 * math.pi / 3)) for k in range(3)]
        along = [x * a + y * p for x, y in axes]
        terms = [[wave(t / r) for r in radii] for t in along for wave in (s, c)]
    elif form == "dfs":
        pairs = [(f, g) for f in (c, s) for g in (c, s)]
        terms = [*grid, *([f(p / r) * g(a / q) for r in radii for q in radii] for f, g in pairs)]
    else:
        terms = {
            "grid": grid,
            "sphereC": [grid[0], *sphere_c],
            "sphereC+": [*grid, *sphere_c],
            "sphereM": [grid[0], *sphere_m],
            "sphereM+": [*grid, *sphere_m],
        }[form]
    return [value for term in terms for value in term]


@pytest.mark.parametrize("form", FORMS)
def test_columns_are_as_published(form: Form, hard_places: Array) -> None:
    encoding = Sphere2VecConfig(form=form, scales=5, min_radius=0.02, whole=False).build()
    radii = [0.02 ** (k / 4) for k in range(5)]
    expected = [by_loop(form, lon, lat, radii) for lon, lat in hard_places]
    ours = encoding(torch.from_numpy(hard_places))
    assert ours.shape == (len(hard_places), encoding.dim)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_whole_frequencies_mend_the_dateline_that_published_ones_tear(form: Form) -> None:
    lat_deg = np.linspace(-80, 80, 33)
    west, east = (
        torch.from_numpy(np.stack([np.full(33, lon), lat_deg], axis=1)) for lon in (-180.0, 180.0)
    )
    whole, published = (Sphere2VecConfig(form=form, whole=w).build() for w in (True, False))
    assert (whole(west) - whole(east)).abs().max() < 1e-6
    assert (published(west) - published(east)).abs().max() > 0.5


def test_frequencies_span_the_radii_and_come_once() -> None:
    whole = Sphere2VecConfig(scales=16, min_radius=0.01).build().frequencies.tolist()
    assert (whole[0], whole[-1]) == (1, 100)
    assert whole == sorted({round(f) for f in whole})


@pytest.mark.parametrize("wrong", [{"scales": 1}, {"min_radius": 1.0}, {"min_radius": 0.0}])
def test_radii_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="a radius between 0 and 1"):
        build(Sphere2VecConfig, wrong)
