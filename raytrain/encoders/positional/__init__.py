"""Positional encodings: places to the numbers that a location encoder's network reads."""

from dataclasses import dataclass
from typing import Literal, Union

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from raytrain.encoders.positional.direct import DirectConfig, WrapConfig
from raytrain.encoders.positional.encoding import PositionalEncoding
from raytrain.encoders.positional.fourier import FourierConfig, NeRFConfig
from raytrain.encoders.positional.grids import HashGridConfig, HEALPixConfig
from raytrain.encoders.positional.harmonics import SphericalHarmonicsConfig
from raytrain.encoders.positional.sites import RBFConfig, VoronoiConfig
from raytrain.encoders.positional.sphere2vec import Sphere2VecConfig


@dataclass(frozen=True, kw_only=True)
class ConcatConfig:
    """The columns of several encodings side by side; a network of branches sums over them."""

    kind: Literal["concat"] = "concat"
    parts: "tuple[PositionalConfig, ...]"

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts is empty; name at least one encoding")

    def build(self) -> "Concat":
        return Concat([part.build() for part in self.parts])


PositionalConfig = Union[  # noqa: UP007 (it refers to itself)
    SphericalHarmonicsConfig,
    DirectConfig,
    WrapConfig,
    FourierConfig,
    NeRFConfig,
    Sphere2VecConfig,
    RBFConfig,
    VoronoiConfig,
    HEALPixConfig,
    HashGridConfig,
    ConcatConfig,
]


class Concat(PositionalEncoding):
    """Columns of encodings in their order."""

    def __init__(self, members: "list[PositionalEncoding]") -> None:
        super().__init__(*[width for member in members for width in member.parts])
        self.members = nn.ModuleList(members)

    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float[Tensor, "n dim"]:
        return torch.cat([member(lonlat_deg) for member in self.members], dim=1)


__all__ = [
    "Concat",
    "ConcatConfig",
    "DirectConfig",
    "FourierConfig",
    "HEALPixConfig",
    "HashGridConfig",
    "NeRFConfig",
    "PositionalConfig",
    "PositionalEncoding",
    "RBFConfig",
    "Sphere2VecConfig",
    "SphericalHarmonicsConfig",
    "VoronoiConfig",
    "WrapConfig",
]
