"""Coordinates as they are."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from raytrain.encoders.positional.encoding import PositionalEncoding


@dataclass(frozen=True, kw_only=True)
class DirectConfig:
    """The point of the unit sphere, x to (0, 0), y to (90 E, 0), z north: 3 columns."""

    kind: Literal["direct"] = "direct"

    def build(self) -> "Direct":
        return Direct()


@dataclass(frozen=True, kw_only=True)
class WrapConfig:
    """sin and cos of lon and of 2 lat (Mac Aodha et al. 2019): 4 columns."""

    kind: Literal["wrap"] = "wrap"

    def build(self) -> "Wrap":
        return Wrap()


class Direct(PositionalEncoding):
    """Unit vectors of places, without a seam; distances between them are chords."""

    def __init__(self) -> None:
        super().__init__(3)

    @torch.no_grad()
    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float32[Tensor, "n 3"]:
        return unit_xyz(lonlat_deg).float()


class Wrap(PositionalEncoding):
    """[sin(πλ/180), cos(πλ/180), sin(πφ/90), cos(πφ/90)] of lon λ and lat φ in degrees.

    No seam at the dateline. Both poles are alike, and each is a line of all longitudes.
    """

    def __init__(self) -> None:
        super().__init__(4)

    @torch.no_grad()
    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float32[Tensor, "n 4"]:
        lon, lat = torch.deg2rad(lonlat_deg).unbind(1)
        return torch.stack([lon.sin(), lon.cos(), (2 * lat).sin(), (2 * lat).cos()], dim=1).float()


def unit_xyz(lonlat_deg: Float64[Tensor, "n 2"]) -> Float64[Tensor, "n 3"]:
    """Places as points of the unit sphere: x to (0, 0), y to (90 E, 0), z north."""
    lon, lat = torch.deg2rad(lonlat_deg).unbind(1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)
