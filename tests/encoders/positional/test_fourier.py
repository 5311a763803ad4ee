import numpy as np
import pytest
import torch

from raytrain.encoders.positional.fourier import FourierConfig, NeRFConfig, equal_earth
from raytrain.geo import Array, unit_xyz
from raytrain.settings import SettingsError, build


def test_features_are_cosines_and_sines_of_random_projections(hard_places: Array) -> None:
    torch.manual_seed(0)
    encoding = FourierConfig(sigmas=(0.5, 8.0), frequencies=30).build()
    turns = [unit_xyz(hard_places) @ b.double().numpy().T for b in encoding.b]
    expected = [wave(2 * np.pi * t) for t in turns for wave in (np.cos, np.sin)]
    ours = encoding(torch.from_numpy(hard_places))
    assert encoding.parts == (60, 60)
    np.testing.assert_allclose(ours.numpy(), np.concatenate(expected, axis=1), atol=1e-7)


def test_frequencies_are_normal_with_their_sigma_and_kept() -> None:
    torch.manual_seed(0)
    encoding = FourierConfig(sigmas=(0.5, 8.0), frequencies=5000).build()
    assert encoding.b.std(dim=(1, 2)).tolist() == pytest.approx([0.5, 8.0], rel=0.03)
    assert list(encoding.state_dict()) == ["b"]  # never drawn again


def test_equal_earth_is_the_projection_in_float32(hard_places: Array) -> None:
    """Against the equations of Šavrič et al. 2018 in float64."""
    lon, lat = np.radians(hard_places).T
    theta = np.arcsin(np.sqrt(3) / 2 * np.sin(lat))
    a = (1.340264, -0.081106, 0.000893, 0.003796)
    slope = a[0] + 3 * a[1] * theta**2 + 7 * a[2] * theta**6 + 9 * a[3] * theta**8
    x = 2 * np.sqrt(3) * lon * np.cos(theta) / (3 * slope)
    y = theta * (a[0] + a[1] * theta**2 + a[2] * theta**6 + a[3] * theta**8)
    expected = np.stack([x, y], axis=1) * 66.50336 / 180
    ours = equal_earth(torch.from_numpy(hard_places).float()).numpy()
    np.testing.assert_allclose(ours, expected, atol=2e-4)  # cos(theta) near 60° in float32
    np.testing.assert_allclose(ours[-100:], expected[-100:], atol=1e-6)


def test_on_the_map_float32_keeps_a_thousandth_of_a_turn(hard_places: Array) -> None:
    torch.manual_seed(0)
    encoding = FourierConfig(projection="equal_earth", sigmas=(1.0, 256.0)).build()
    places = torch.from_numpy(hard_places[-100:])
    turns = equal_earth(places.float()).double() @ encoding.b.double().transpose(1, 2)
    phases = 2 * torch.pi * turns
    exact = torch.cat([phases.cos(), phases.sin()], dim=2).transpose(0, 1).flatten(1)
    assert (encoding(places) - exact).abs().max() < 2 * np.pi * 1e-3


def test_nerf_doubles_its_frequencies(hard_places: Array) -> None:
    encoding = NeRFConfig(scales=10).build()
    ours = encoding(torch.from_numpy(hard_places)).numpy()
    for s in range(10):
        phase = 2.0**s * np.pi * unit_xyz(hard_places)
        expected = np.concatenate([np.sin(phase), np.cos(phase)], axis=1)
        np.testing.assert_allclose(ours[:, 6 * s : 6 * s + 6], expected, atol=1e-7)


@pytest.mark.parametrize(
    "wrong", [{"sigmas": []}, {"sigmas": [1.0, 0.0]}, {"frequencies": 0}], ids=str
)
def test_frequencies_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="give at least one"):
        build(FourierConfig, wrong)
