import numpy as np
import pytest
import torch

from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.networks import BranchesConfig, FCNetConfig, MLPConfig, SirenConfig
from raytrain.encoders.positional import (
    ConcatConfig,
    DirectConfig,
    FourierConfig,
    HashGridConfig,
    HEALPixConfig,
    NeRFConfig,
    RBFConfig,
    Sphere2VecConfig,
    SphericalHarmonicsConfig,
    VoronoiConfig,
    WrapConfig,
)
from raytrain.geo import random_on_sphere
from raytrain.settings import build, to_dict

CONFIGS = [
    LocationEncoderConfig(),
    LocationEncoderConfig(positional=SphericalHarmonicsConfig(degrees=40), dim=64, skip=False),
    LocationEncoderConfig(positional=DirectConfig(), network=MLPConfig(width=32), dim=8),
    LocationEncoderConfig(positional=WrapConfig(), network=FCNetConfig()),
    LocationEncoderConfig(positional=NeRFConfig(), network=SirenConfig(residual=True)),
    LocationEncoderConfig(
        positional=FourierConfig(projection="equal_earth", sigmas=(1.0, 16.0, 256.0)),
        network=BranchesConfig(network=MLPConfig(activation="relu")),
    ),
    LocationEncoderConfig(positional=Sphere2VecConfig(), network=MLPConfig(residual=True)),
    LocationEncoderConfig(positional=RBFConfig(), network=MLPConfig()),
    LocationEncoderConfig(positional=VoronoiConfig(sites=40, sharpness=9.0), network=FCNetConfig()),
    LocationEncoderConfig(positional=HEALPixConfig(max_order=3), network=BranchesConfig()),
    LocationEncoderConfig(positional=HashGridConfig(finest=16), network=MLPConfig()),
    LocationEncoderConfig(
        positional=ConcatConfig(parts=(SphericalHarmonicsConfig(), HEALPixConfig(max_order=2))),
        network=BranchesConfig(network=SirenConfig()),
    ),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.positional.kind)
def test_every_place_has_an_embedding_and_every_weight_a_gradient(
    config: LocationEncoderConfig,
) -> None:
    encoder = config.build()
    places = torch.from_numpy(random_on_sphere(50, np.random.default_rng(0)))
    embedding = encoder(places)
    assert embedding.shape == (50, encoder.dim)
    assert embedding.dtype == torch.float32
    embedding.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_embeddings_have_no_seam_at_the_dateline_or_the_poles() -> None:
    torch.manual_seed(0)
    encoder = LocationEncoderConfig(positional=SphericalHarmonicsConfig(degrees=40)).build()
    lat_deg = torch.linspace(-90, 90, 37, dtype=torch.float64)
    west, east, close = (
        encoder(torch.stack([torch.full_like(lat_deg, lon), lat_deg], dim=1))
        for lon in (-180.0, 180.0, 179.9999999)
    )
    assert torch.equal(west, east)
    torch.testing.assert_close(west, close, rtol=0, atol=1e-4)
    for pole in (90.0, -90.0):
        around = torch.tensor([[lon, pole] for lon in range(-180, 181, 30)], dtype=torch.float64)
        embeddings = encoder(around)
        torch.testing.assert_close(
            embeddings, embeddings[:1].expand_as(embeddings), rtol=0, atol=1e-5
        )


def test_the_embedding_ends_with_the_positional_encoding_unless_it_is_skipped() -> None:
    positional = SphericalHarmonicsConfig(degrees=4)
    places = torch.from_numpy(random_on_sphere(5, np.random.default_rng(0)))
    both = LocationEncoderConfig(positional=positional, dim=8).build()
    embedding = both(places)
    assert (both.dim, both.learned_dim) == (8 + 16, 8)
    assert torch.equal(embedding[:, 8:], both.positional(places))
    alone = LocationEncoderConfig(positional=positional, dim=8, skip=False).build()
    alone.load_state_dict(both.state_dict())
    assert torch.equal(alone(places), embedding[:, :8])


def test_the_default_is_satclips_published_shape() -> None:
    config = LocationEncoderConfig()
    assert isinstance(config.network, SirenConfig)
    encoder = config.build()
    shapes = [tuple(p.shape) for p in encoder.parameters() if p.dim() == 2]
    assert shapes == [(512, 400), (512, 512), (256, 512)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.positional.kind)
def test_settings_survive_being_written(config: LocationEncoderConfig) -> None:
    assert build(LocationEncoderConfig, to_dict(config)) == config
