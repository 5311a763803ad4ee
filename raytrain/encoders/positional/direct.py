"""Coordinates as they are."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float32, Float64
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class DirectConfig:
    """The point of the unit sphere, x to (0, 0), y to (90 E, 0), z north: 3 columns."""

    kind: Literal["direct"] = "direct"

    def build(self) -> "Direct":
        return Direct()


class Direct(nn.Module):
    """Unit vectors of places; no gradient to coordinates."""

    dim = 3

    @torch.no_grad()
    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float32[Tensor, "n 3"]:
        return unit_xyz(lonlat_deg).float()


def unit_xyz(lonlat_deg: Float64[Tensor, "n 2"]) -> Float64[Tensor, "n 3"]:
    """Places as points of the unit sphere: x to (0, 0), y to (90 E, 0), z north."""
    lon, lat = torch.deg2rad(lonlat_deg).unbind(1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)
