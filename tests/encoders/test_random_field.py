"""Smooth random functions of place."""

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre

from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.random_field import RandomFieldConfig
from raytrain.errors import UserError
from raytrain.geo import EARTH_RADIUS_KM, random_on_sphere, unit_xyz
from raytrain.settings import build


def test_the_covariance_of_the_columns_is_materns() -> None:
    """Over the columns, as a series of Legendre polynomials gives it (Schoenberg)."""
    config = RandomFieldConfig(degrees=12, range_km=2000.0, smoothness=1.5)
    places = random_on_sphere(200, np.random.default_rng(0))
    columns = config.build()(torch.from_numpy(places)).numpy().astype(np.float64)
    cosine = np.clip(unit_xyz(places) @ unit_xyz(places).T, -1, 1)
    kappa = EARTH_RADIUS_KM / 2000
    wanted = sum(
        (2 * l + 1) * (kappa**2 + l * (l + 1)) ** -2.5 * eval_legendre(l, cosine)
        for l in range(1, 12)  # noqa: E741 (the field's name)
    )
    wanted = wanted / wanted[0, 0]
    np.testing.assert_allclose(columns @ columns.T / columns.shape[1], wanted, atol=1e-5)


def test_the_columns_are_centred_equally_large_and_the_same_for_every_seed() -> None:
    places = torch.from_numpy(random_on_sphere(20_000, np.random.default_rng(0)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one = RandomFieldConfig(degrees=8).build()(places)
        torch.manual_seed(2)
        assert torch.equal(RandomFieldConfig(degrees=8).build()(places), one)
    assert one.shape == (20_000, 64)
    assert one.mean(0).abs().max() < 0.05
    assert 0.5 < one.square().mean(0).min() < one.square().mean(0).max() < 2


def test_they_follow_what_is_learned_and_leave_it_as_it_is() -> None:
    places = torch.from_numpy(random_on_sphere(5, np.random.default_rng(0)))
    field = RandomFieldConfig(degrees=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = LocationEncoderConfig(dim=8).build()
        torch.manual_seed(0)
        both = LocationEncoderConfig(dim=8, random_field=field).build()
    assert (both.dim, both.learned_dim) == (8 + 400 + 16, 8)
    assert torch.equal(both(places)[:, :408], plain(places))
    assert torch.equal(both(places)[:, 408:], field.build()(places))
    assert torch.equal(both.learned(places), both(places)[:, :8])


@pytest.mark.parametrize("wrong", [{"degrees": 41}, {"range_km": 0}, {"smoothness": -1}])
def test_what_is_no_field_is_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(UserError, match=name):
        build(LocationEncoderConfig, {"random_field": wrong}, "location")
