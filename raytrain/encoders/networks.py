"""Networks from a positional encoding (or any vector) to an embedding."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class SirenConfig:
    """Sines of linear layers, with SatCLIP's published sizes. SatCLIP trained with dropout 0.5.

    `residual` averages each hidden layer's value before the sine with the one of the layer before
    (Climplicit, which is 16 layers deep).
    """

    kind: Literal["siren"] = "siren"
    width: int = 512
    hidden_layers: int = 2
    w0_first: float = 30.0
    w0_hidden: float = 1.0
    dropout: float = 0.0
    residual: bool = False

    def __post_init__(self) -> None:
        _check_layers(self.width, self.hidden_layers, self.dropout)

    def build(self, dims_in: Sequence[int], dim_out: int) -> "Siren":
        return Siren(sum(dims_in), dim_out, self)


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """Linear layers with an activation. `residual` adds each hidden layer after the first to its
    input, and ends all of them in a LayerNorm (the head of Space2Vec and Sphere2Vec)."""

    kind: Literal["mlp"] = "mlp"
    width: int = 512
    hidden_layers: int = 2
    activation: Literal["gelu", "relu"] = "gelu"
    dropout: float = 0.0
    residual: bool = False

    def __post_init__(self) -> None:
        _check_layers(self.width, self.hidden_layers, self.dropout)

    def build(self, dims_in: Sequence[int], dim_out: int) -> "MLP":
        return MLP(sum(dims_in), dim_out, self)


@dataclass(frozen=True, kw_only=True)
class FCNetConfig:
    """A linear layer and residual blocks of two, all with ReLU, with SINR's published sizes. SINR
    trained with dropout 0.5."""

    kind: Literal["fcnet"] = "fcnet"
    width: int = 256
    blocks: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_layers(self.width, self.blocks, self.dropout)

    def build(self, dims_in: Sequence[int], dim_out: int) -> "FCNet":
        return FCNet(sum(dims_in), dim_out, self)


@dataclass(frozen=True, kw_only=True)
class BranchesConfig:
    """A network of its own for each part of the positional encoding (a scale, a level, a member of
    a concatenation), and their sum, as in GeoCLIP."""

    kind: Literal["branches"] = "branches"
    network: SirenConfig | MLPConfig | FCNetConfig = field(default_factory=MLPConfig)

    def build(self, dims_in: Sequence[int], dim_out: int) -> "Branches":
        return Branches(dims_in, dim_out, self)


NetworkConfig = SirenConfig | MLPConfig | FCNetConfig | BranchesConfig
"""Settings of a network; `build` takes the widths of the parts of what it reads, and of what it
gives."""


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


class Siren(nn.Module):
    """sin(w0 · (W x + b)) for each hidden layer, then one linear layer without a sine.

    Initialised as Sitzmann et al. 2020 and SatCLIP: weights and biases uniform within 1/dim_in in
    the first layer and sqrt(6/dim_in)/w0 in the others, the last included. Dropout acts on the
    hidden layers' values before the sine, as in SatCLIP; what is averaged with `residual` are these
    (Dollinger et al. 2025).
    """

    def __init__(self, dim_in: int, dim_out: int, config: SirenConfig) -> None:
        super().__init__()
        widths = [dim_in, *[config.width] * config.hidden_layers]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.last = nn.Linear(widths[-1], dim_out)
        self.w0 = [config.w0_first, *[config.w0_hidden] * (config.hidden_layers - 1)]
        self.dropout, self.residual = config.dropout, config.residual
        for layer in (*self.hidden, self.last):
            bound = math.sqrt(6 / layer.in_features) / config.w0_hidden
            if layer is self.hidden[0]:
                bound = 1 / dim_in
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.uniform_(layer.bias, -bound, bound)

    def forward(self, x: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        before: Tensor | None = None
        for w0, layer in zip(self.w0, self.hidden, strict=True):
            value = F.dropout(layer(x), self.dropout, self.training)
            if self.residual and before is not None:
                value = (value + before) / 2
            before, x = value, torch.sin(w0 * value)
        embedding: Tensor = self.last(x)
        return embedding


class MLP(nn.Module):
    """Hidden layers of act(W x + b), then one linear layer. Residual: LayerNorm(x + act(W x + b)),
    without x in the first layer (Mai et al. 2020)."""

    def __init__(self, dim_in: int, dim_out: int, config: MLPConfig) -> None:
        super().__init__()
        widths = [dim_in, *[config.width] * config.hidden_layers]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(
            nn.LayerNorm(config.width) if config.residual else nn.Identity() for _ in self.hidden
        )
        self.last = nn.Linear(config.width, dim_out)
        self.residual, self.dropout = config.residual, config.dropout
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        for i, (layer, norm) in enumerate(zip(self.hidden, self.norms, strict=True)):
            value = F.dropout(self.activation(layer(x)), self.dropout, self.training)
            x = norm(x + value if self.residual and i else value)
        embedding: Tensor = self.last(x)
        return embedding


class FCNet(nn.Module):
    """ReLU(W x + b), blocks x + ReLU(W' dropout(ReLU(W x + b)) + b'), then one linear layer (Cole
    et al. 2023, SINR)."""

    def __init__(self, dim_in: int, dim_out: int, config: FCNetConfig) -> None:
        super().__init__()
        self.first = nn.Linear(dim_in, config.width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(config.width, config.width),
                nn.ReLU(),
                nn.Dropout(config.dropout),
                nn.Linear(config.width, config.width),
                nn.ReLU(),
            )
            for _ in range(config.blocks)
        )
        self.last = nn.Linear(config.width, dim_out)

    def forward(self, x: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        x = F.relu(self.first(x))
        for block in self.blocks:
            x = x + block(x)
        embedding: Tensor = self.last(x)
        return embedding


class Branches(nn.Module):
    """The sum of networks, one a part of the input's columns (Vivanco Cepeda et al. 2023)."""

    def __init__(self, dims_in: Sequence[int], dim_out: int, config: BranchesConfig) -> None:
        super().__init__()
        self.dims_in = list(dims_in)
        self.branches = nn.ModuleList(config.network.build([dim], dim_out) for dim in dims_in)

    def forward(self, x: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        parts = zip(self.branches, torch.split(x, self.dims_in, dim=1), strict=True)
        return torch.stack([branch(part) for branch, part in parts]).sum(0)


def _check_layers(width: int, layers: int, dropout: float) -> None:
    if width < 1 or layers < 1:
        raise ValueError(f"{layers} layers {width} wide; choose at least 1 of each")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}; choose from 0 up to, but not, 1")
