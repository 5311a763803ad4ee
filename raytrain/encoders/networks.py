"""Networks from a positional encoding (or any vector) to an embedding."""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class SirenConfig:
    """Sines of linear layers, with SatCLIP's published sizes. SatCLIP trained with dropout 0.5."""

    kind: Literal["siren"] = "siren"
    width: int = 512
    hidden_layers: int = 2
    w0_first: float = 30.0
    w0_hidden: float = 1.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_layers(self.width, self.hidden_layers)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; choose from 0 up to, but not, 1")

    def build(self, dim_in: int, dim_out: int) -> "Siren":
        return Siren(dim_in, dim_out, self)


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """Linear layers with GELU; `residual` adds each hidden layer after the first to its input,
    which it then reads through a LayerNorm."""

    kind: Literal["mlp"] = "mlp"
    width: int = 512
    hidden_layers: int = 2
    residual: bool = False

    def __post_init__(self) -> None:
        _check_layers(self.width, self.hidden_layers)

    def build(self, dim_in: int, dim_out: int) -> "MLP":
        return MLP(dim_in, dim_out, self)


NetworkConfig = SirenConfig | MLPConfig


class Siren(nn.Module):
    """sin(w0 · (W x + b)) for each hidden layer, then one linear layer without a sine.

    Initialised as Sitzmann et al. 2020 and SatCLIP: weights and biases uniform within 1/dim_in in
    the first layer and sqrt(6/dim_in)/w0 in the others, the last included. Dropout acts on the
    hidden layers' values before the sine, as in SatCLIP.
    """

    def __init__(self, dim_in: int, dim_out: int, config: SirenConfig) -> None:
        super().__init__()
        widths = [dim_in, *[config.width] * config.hidden_layers]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.last = nn.Linear(widths[-1], dim_out)
        self.w0 = [config.w0_first, *[config.w0_hidden] * (config.hidden_layers - 1)]
        self.dropout = config.dropout
        for layer in (*self.hidden, self.last):
            bound = math.sqrt(6 / layer.in_features) / config.w0_hidden
            if layer is self.hidden[0]:
                bound = 1 / dim_in
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.uniform_(layer.bias, -bound, bound)

    def forward(self, x: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        for w0, layer in zip(self.w0, self.hidden, strict=True):
            x = torch.sin(w0 * F.dropout(layer(x), self.dropout, self.training))
        embedding: Tensor = self.last(x)
        return embedding


class MLP(nn.Module):
    """Hidden layers of GELU(W x + b), optionally residual, then one linear layer."""

    def __init__(self, dim_in: int, dim_out: int, config: MLPConfig) -> None:
        super().__init__()
        self.first = nn.Linear(dim_in, config.width)
        later = range(config.hidden_layers - 1)
        self.norms = nn.ModuleList(
            nn.LayerNorm(config.width) if config.residual else nn.Identity() for _ in later
        )
        self.hidden = nn.ModuleList(nn.Linear(config.width, config.width) for _ in later)
        self.last = nn.Linear(config.width, dim_out)
        self.residual = config.residual

    def forward(self, x: Float[Tensor, "n dim_in"]) -> Float[Tensor, "n dim_out"]:
        x = F.gelu(self.first(x))
        for norm, layer in zip(self.norms, self.hidden, strict=True):
            update = F.gelu(layer(norm(x)))
            x = x + update if self.residual else update
        embedding: Tensor = self.last(x)
        return embedding


def _check_layers(width: int, hidden_layers: int) -> None:
    if width < 1 or hidden_layers < 1:
        raise ValueError(f"{hidden_layers} hidden layers {width} wide; choose at least 1 of each")
