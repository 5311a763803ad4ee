import math

import numpy as np
import pytest
import torch
from torch import nn

from raytrain.encoders.networks import MLPConfig, NetworkConfig, SirenConfig
from raytrain.settings import SettingsError, build

NETWORKS = [
    SirenConfig(width=7, hidden_layers=3, w0_first=3.0),
    MLPConfig(width=7, hidden_layers=3),
    MLPConfig(width=7, hidden_layers=3, residual=True),
]


@pytest.mark.parametrize("config", NETWORKS, ids=str)
def test_gradients_are_right(config: NetworkConfig) -> None:
    torch.manual_seed(0)
    network = config.build(5, 4).double()
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*network.named_parameters(), strict=True)

    def embed(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, values, strict=True))
        embedding: torch.Tensor = torch.func.functional_call(network, named, (x,))
        return embedding

    assert torch.autograd.gradcheck(embed, (x, *parameters))


def test_siren_is_sines_and_a_linear_last_layer() -> None:
    network = SirenConfig(width=6, hidden_layers=2).build(5, 4)
    (w1, b1), (w2, b2), (w3, b3) = (
        (layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for layer in network.modules()
        if isinstance(layer, nn.Linear)
    )
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    expected = np.sin(np.sin(30 * (x @ w1.T + b1)) @ w2.T + b2) @ w3.T + b3
    np.testing.assert_allclose(network(torch.from_numpy(x)).detach(), expected, atol=1e-5)


def test_siren_starts_as_published() -> None:
    """Weights and biases uniform within 1/dim_in, then sqrt(6/width)/w0."""
    torch.manual_seed(0)
    layers = [m for m in SirenConfig().build(400, 256).modules() if isinstance(m, nn.Linear)]
    assert [tuple(m.weight.shape) for m in layers] == [(512, 400), (512, 512), (256, 512)]
    for layer, bound in zip(layers, (1 / 400, math.sqrt(6 / 512), math.sqrt(6 / 512)), strict=True):
        for values in (layer.weight, layer.bias):
            assert 0.9 * bound < values.abs().max().item() <= bound
            assert abs(values.std().item() / (bound / math.sqrt(3)) - 1) < 0.1


def test_dropout_acts_in_training_only() -> None:
    network = SirenConfig(width=64, dropout=0.5).build(3, 2)
    x = torch.randn(5, 3)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    ("config", "wrong"), [(MLPConfig, {"hidden_layers": 0}), (SirenConfig, {"dropout": 1.0})]
)
def test_sizes_that_cannot_be_are_refused(config: type, wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="choose"):
        build(config, wrong)
