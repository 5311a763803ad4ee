import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from raytrain.encoders.networks import (
    BranchesConfig,
    FCNetConfig,
    MLPConfig,
    NetworkConfig,
    SirenConfig,
)
from raytrain.settings import SettingsError, build

Array = NDArray[np.floating]
NETWORKS = [
    SirenConfig(width=7, hidden_layers=3, w0_first=3.0),
    MLPConfig(width=7, hidden_layers=3),
    MLPConfig(width=7, hidden_layers=3, residual=True),
    SirenConfig(width=7, hidden_layers=4, w0_first=3.0, residual=True),
    FCNetConfig(width=7, blocks=2),
    BranchesConfig(network=SirenConfig(width=7)),
]


@pytest.mark.parametrize("config", NETWORKS, ids=str)
def test_gradients_are_right(config: NetworkConfig) -> None:
    torch.manual_seed(0)
    network = config.build([2, 3], 4).double()
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*network.named_parameters(), strict=True)

    def embed(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, values, strict=True))
        embedding: torch.Tensor = torch.func.functional_call(network, named, (x,))
        return embedding

    assert torch.autograd.gradcheck(embed, (x, *parameters))


@pytest.mark.gpu
@pytest.mark.parametrize("config", NETWORKS, ids=str)
def test_a_gpu_gives_the_values_and_gradients_of_a_cpu(config: NetworkConfig) -> None:
    """Of float32, and of bfloat16 to its 8 bits: within so much of the longest row."""

    def passes(device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        network = config.build([2, 3], 4).to(device)
        x = torch.linspace(-1, 1, 160).reshape(32, 5).to(device)
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            value = network(x).float()
        value.square().sum().backward()
        gradients = {n: p.grad.cpu() for n, p in network.named_parameters() if p.grad is not None}
        return {"value": value.detach().cpu(), **gradients}

    expected = passes("cpu", torch.float32)
    for dtype, share in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        found = passes("cuda", dtype)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            error = (found[name] - value).norm()
            assert error < share * value.norm(), f"{name} in {dtype}: {error / value.norm()}"


def test_siren_is_sines_and_a_linear_last_layer() -> None:
    network = SirenConfig(width=6, hidden_layers=2).build([5], 4)
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
    layers = [m for m in SirenConfig().build([400], 256).modules() if isinstance(m, nn.Linear)]
    assert [tuple(m.weight.shape) for m in layers] == [(512, 400), (512, 512), (256, 512)]
    for layer, bound in zip(layers, (1 / 400, math.sqrt(6 / 512), math.sqrt(6 / 512)), strict=True):
        for values in (layer.weight, layer.bias):
            assert 0.9 * bound < values.abs().max().item() <= bound
            assert abs(values.std().item() / (bound / math.sqrt(3)) - 1) < 0.1


def test_dropout_acts_in_training_only() -> None:
    network = SirenConfig(width=64, dropout=0.5).build([3], 2)
    x = torch.randn(5, 3)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def linears(network: nn.Module) -> list[tuple[Array, Array]]:
    return [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in network.modules()
        if isinstance(layer, nn.Linear)
    ]


def some(rows: int, columns: int) -> Array:
    return np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)


def test_residual_siren_averages_what_goes_into_the_sines() -> None:
    network = SirenConfig(width=6, hidden_layers=3, residual=True).build([5], 4)
    (w1, b1), (w2, b2), (w3, b3), (w4, b4) = linears(network)
    x = some(3, 5)
    first = x @ w1.T + b1
    second = (np.sin(30 * first) @ w2.T + b2 + first) / 2
    third = (np.sin(second) @ w3.T + b3 + second) / 2
    ours = network(torch.from_numpy(x)).detach()
    np.testing.assert_allclose(ours, np.sin(third) @ w4.T + b4, atol=1e-5)


def test_residual_mlp_adds_then_normalises() -> None:
    network = MLPConfig(width=6, hidden_layers=2, activation="relu", residual=True).build([5], 4)
    (w1, b1), (w2, b2), (w3, b3) = linears(network)

    def norm(x: Array) -> Array:
        return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)

    x = some(3, 5)
    first = norm(np.maximum(x @ w1.T + b1, 0))
    second = norm(first + np.maximum(first @ w2.T + b2, 0))
    ours = network(torch.from_numpy(x)).detach()
    np.testing.assert_allclose(ours, second @ w3.T + b3, atol=1e-5)


def test_fcnet_is_as_published() -> None:
    network = FCNetConfig(width=6, blocks=2).build([5], 4)
    (w1, b1), *blocks, (w, b) = linears(network)
    x = some(3, 5)
    h = np.maximum(x @ w1.T + b1, 0)
    for (wa, ba), (wb, bb) in zip(blocks[::2], blocks[1::2], strict=True):
        h = h + np.maximum(np.maximum(h @ wa.T + ba, 0) @ wb.T + bb, 0)
    np.testing.assert_allclose(network(torch.from_numpy(x)).detach(), h @ w.T + b, atol=1e-5)


def test_branches_sum_networks_of_their_own() -> None:
    network = BranchesConfig(network=MLPConfig(width=6)).build([2, 3], 4)
    x = torch.from_numpy(some(3, 5))
    first, second = network.branches
    torch.testing.assert_close(network(x), first(x[:, :2]) + second(x[:, 2:]))


@pytest.mark.parametrize(
    ("config", "wrong"), [(MLPConfig, {"hidden_layers": 0}), (SirenConfig, {"dropout": 1.0})]
)
def test_sizes_that_cannot_be_are_refused(config: type, wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="choose"):
        build(config, wrong)
