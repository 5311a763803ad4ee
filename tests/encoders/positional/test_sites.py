import numpy as np
import pytest
import torch

from raytrain.encoders.positional.sites import RBFConfig, VoronoiConfig
from raytrain.geo import EARTH_RADIUS_KM, Array, great_circle_km, unit_xyz
from raytrain.settings import SettingsError, build


def test_rbf_falls_off_with_the_chord_to_an_anchor(hard_places: Array) -> None:
    encoding = RBFConfig(anchors=50, width_deg=12.0).build()
    x, y, z = encoding.anchors.numpy().T
    anchors = np.degrees(np.stack([np.arctan2(y, x), np.arcsin(z)], axis=1))
    for column, anchor in enumerate(anchors):
        radians = great_circle_km(hard_places, anchor[None]) / EARTH_RADIUS_KM
        expected = np.exp(-((2 * np.sin(radians / 2)) ** 2) / (2 * np.radians(12) ** 2))
        ours = encoding(torch.from_numpy(hard_places))[:, column].numpy()
        np.testing.assert_allclose(ours, expected, atol=5e-7)


def test_rbf_covers_the_sphere_by_itself(hard_places: Array) -> None:
    nearest = RBFConfig(anchors=300).build()(torch.from_numpy(hard_places)).amax(1)
    assert nearest.min() > 0.6  # one width at most to the nearest anchor


def test_voronoi_mixes_features_by_nearness(hard_places: Array) -> None:
    torch.manual_seed(0)
    encoding = VoronoiConfig(sites=40, features=6, sharpness=30.0).build()
    with torch.no_grad():
        encoding.sites.mul_(torch.rand(40, 1) + 0.5)  # only directions count
        encoding.log_sharpness.add_(torch.randn(40) / 3)
    sites = encoding.sites.detach().double().numpy()
    sites /= np.linalg.norm(sites, axis=1, keepdims=True)
    sharp = encoding.log_sharpness.detach().double().exp().numpy()
    weights = np.exp(unit_xyz(hard_places) @ (sites * sharp[:, None]).T)
    weights /= weights.sum(1, keepdims=True)
    expected = weights @ encoding.features.detach().double().numpy()
    ours = encoding(torch.from_numpy(hard_places)).detach().numpy()
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_a_sharp_voronoi_is_the_nearest_site(hard_places: Array) -> None:
    encoding = VoronoiConfig(sites=12, features=3, sharpness=500.0).build()
    cosine = unit_xyz(hard_places) @ encoding.sites.detach().double().numpy().T
    clear = np.diff(np.sort(cosine, axis=1)[:, -2:], axis=1)[:, 0] > 0.03
    assert clear.sum() > 50
    ours = encoding(torch.from_numpy(hard_places[clear])).detach()
    nearest = encoding.features.detach()[torch.from_numpy(cosine[clear].argmax(1))]
    torch.testing.assert_close(ours, nearest, atol=1e-4, rtol=0)


def test_voronoi_gradients_are_right() -> None:
    torch.manual_seed(0)
    encoding = VoronoiConfig(sites=5, features=2, sharpness=3.0).build().double()
    place = torch.tensor([[12.0, 50.0], [-170.0, -20.0]], dtype=torch.float64)
    names, values = zip(*encoding.named_parameters(), strict=True)

    def encode(*given: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, given, strict=True))
        columns: torch.Tensor = torch.func.functional_call(encoding, named, (place,))
        return columns

    assert torch.autograd.gradcheck(encode, values)


@pytest.mark.parametrize(
    ("config", "wrong"),
    [(RBFConfig, {"anchors": 0}), (RBFConfig, {"width_deg": 0}), (VoronoiConfig, {"sites": 0})],
)
def test_sites_that_cannot_be_are_refused(config: type, wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="give at least one"):
        build(config, wrong)
