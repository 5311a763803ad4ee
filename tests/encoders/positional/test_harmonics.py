import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import sph_harm_y

from raytrain.encoders.positional import SphericalHarmonicsConfig
from raytrain.encoders.positional.harmonics import SphericalHarmonics
from raytrain.geo import random_on_sphere
from raytrain.settings import SettingsError, build

Array = NDArray[np.float64]


def by_scipy(lonlat_deg: Array, degrees: int) -> Array:
    """Real orthonormal harmonics from scipy's complex ones, less their Condon-Shortley sign."""
    colatitude, azimuth = np.radians(90 - lonlat_deg[:, 1]), np.radians(lonlat_deg[:, 0])
    columns = np.empty((len(lonlat_deg), degrees**2))
    for l in range(degrees):  # noqa: E741
        middle = l * l + l
        columns[:, middle] = sph_harm_y(l, 0, colatitude, azimuth).real
        for m in range(1, l + 1):
            value = np.sqrt(2) * (-1) ** m * sph_harm_y(l, m, colatitude, azimuth)
            columns[:, middle + m], columns[:, middle - m] = value.real, value.imag
    return columns


@pytest.mark.parametrize("degrees", [1, 2, 10, 20, 40, 100])
def test_harmonics_agree_with_scipy_poles_and_dateline_included(
    degrees: int, hard_places: Array
) -> None:
    places = hard_places
    ours = SphericalHarmonics(degrees)(torch.from_numpy(places))
    assert ours.dtype == torch.float32
    assert ours.shape == (len(places), degrees**2)
    # Half a unit in the last place of float32 at the largest values (4.0) is 2.4e-7.
    assert np.abs(ours.numpy() - by_scipy(places, degrees)).max() < 5e-7


@pytest.mark.parametrize("degrees", [1, 2, 3, 10, 20, 40, 100])
def test_the_series_of_a_gpu_agrees_with_scipy_on_a_cpu(degrees: int, hard_places: Array) -> None:
    harmonics = SphericalHarmonics(degrees)
    columns = torch.empty(harmonics.dim, len(hard_places))
    harmonics._fill_by_series(columns, torch.from_numpy(hard_places))
    assert np.abs(columns.T.numpy() - by_scipy(hard_places, degrees)).max() < 5e-7


@pytest.mark.gpu
def test_a_gpu_computes_in_blocks_without_a_seam() -> None:
    """More places than one block, and a last block that is not full."""
    harmonics, places = SphericalHarmonics(100), random_on_sphere(8000, np.random.default_rng(1))
    assert 2**26 // harmonics.dim < len(places)
    places[:2] = [[180, 30], [-180, 30]]
    expected = harmonics(torch.from_numpy(places))
    found = harmonics.cuda()(torch.from_numpy(places).cuda()).cpu()
    assert (found - expected).abs().max() < 1e-6
    assert torch.equal(found[0], found[1])
    assert harmonics(torch.empty(0, 2).double().cuda()).shape == (0, 10000)


@pytest.mark.gpu
@pytest.mark.parametrize("degrees", [1, 2, 10, 20, 40, 100])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_gpu_agrees_with_scipy_in_training_too(
    degrees: int, precision: torch.dtype, hard_places: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = torch.from_numpy(hard_places).cuda()
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == torch.bfloat16):
        ours = SphericalHarmonics(degrees).cuda()(places)
    assert ours.dtype == torch.float32
    assert np.abs(ours.cpu().numpy() - by_scipy(hard_places, degrees)).max() < 5e-7


def test_harmonics_are_orthonormal() -> None:
    """By Gauss-Legendre in sin(lat) and equal steps in lon, exact for these degrees."""
    degrees = 12
    sines, weights = np.polynomial.legendre.leggauss(degrees)
    lon_deg = np.arange(2 * degrees) * 360 / (2 * degrees) - 180
    lon, lat = np.meshgrid(lon_deg, np.degrees(np.arcsin(sines)))
    places = torch.from_numpy(np.stack([lon.ravel(), lat.ravel()], axis=1))
    values = SphericalHarmonics(degrees)(places).double().numpy()
    area = np.repeat(weights, len(lon_deg)) * 2 * np.pi / len(lon_deg)
    np.testing.assert_allclose(values.T @ (values * area[:, None]), np.eye(degrees**2), atol=2e-6)


def test_columns_are_in_the_published_order_without_condon_shortley_sign() -> None:
    east, north, prime = (SphericalHarmonics(2)(torch.tensor([p]).double())[0] for p in AXES)
    size = (3 / (4 * np.pi)) ** 0.5
    assert torch.allclose(east[1:], torch.tensor([size, 0, 0]), atol=1e-7)  # m = -1 is y
    assert torch.allclose(north[1:], torch.tensor([0, size, 0]), atol=1e-7)  # m = 0 is z
    assert torch.allclose(prime[1:], torch.tensor([0, 0, size]), atol=1e-7)  # m = 1 is x


AXES = [(90.0, 0.0), (0.0, 90.0), (0.0, 0.0)]


def test_the_dateline_is_no_seam() -> None:
    lat_deg = np.linspace(-90, 90, 181)
    harmonics = SphericalHarmonics(40)
    west, east, close = (
        harmonics(torch.from_numpy(np.stack([np.full(181, lon), lat_deg], axis=1)))
        for lon in (-180.0, 180.0, 179.999999)
    )
    assert torch.equal(west, east)
    assert (west - close).abs().max() < 40 * 4 * np.radians(1e-6) + 5e-7


@pytest.mark.parametrize("lat", [90.0, -90.0])
def test_all_longitudes_are_alike_at_a_pole(lat: float) -> None:
    places = torch.tensor([[lon, lat] for lon in (-180, -77.7, 0, 12, 179)], dtype=torch.float64)
    values = SphericalHarmonics(100)(places)
    assert (values - values[:1]).abs().max() < 1e-6


def test_harmonics_do_not_depend_on_the_rest_of_the_batch() -> None:
    """More places than one block, a last block that is not full, and one place alone."""
    places = torch.from_numpy(random_on_sphere(4100, np.random.default_rng(1)))
    harmonics = SphericalHarmonics(15)
    together = harmonics(places)
    assert torch.equal(together, harmonics(places))
    for row in (0, 2047, 2048, 4099):
        torch.testing.assert_close(
            together[row], harmonics(places[row : row + 1])[0], rtol=0, atol=5e-7
        )
    assert harmonics(places[:0]).shape == (0, 225)


def test_harmonics_keep_no_gradient_and_save_nothing() -> None:
    harmonics = SphericalHarmonics(4)
    places = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    assert not harmonics(places).requires_grad
    assert harmonics.state_dict() == {}


@pytest.mark.parametrize("degrees", [0, 101])
def test_degrees_out_of_range_say_what_to_choose(degrees: int) -> None:
    with pytest.raises(SettingsError, match=rf"location: degrees is {degrees}; choose 1 to 100"):
        build(SphericalHarmonicsConfig, {"degrees": degrees}, "location")


def test_a_rotation_keeps_the_length_of_each_degree(hard_places: Array) -> None:
    """The addition theorem: over m, Y_lm² sums to (2 l + 1) / 4π at every place."""
    columns = SphericalHarmonics(30)(torch.from_numpy(hard_places)).double()
    for l in range(30):  # noqa: E741
        length = columns[:, l**2 : (l + 1) ** 2].square().sum(1)
        np.testing.assert_allclose(length, (2 * l + 1) / (4 * np.pi), rtol=2e-6)
