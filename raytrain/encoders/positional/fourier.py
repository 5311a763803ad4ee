"""Sines and cosines of projections: Fourier features with random frequencies, or with doubling ones
along the axes (NeRF)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from raytrain.encoders.positional.direct import unit_xyz
from raytrain.encoders.positional.encoding import PositionalEncoding
from raytrain.geo import EQUAL_EARTH

GEOCLIP_SCALE = 66.50336  # and a division by 180: GeoCLIP's unit of its projection


@dataclass(frozen=True, kw_only=True)
class FourierConfig:
    """Random Fourier features: `frequencies` random ones for each of `sigmas`, in turns a unit.

    On the `sphere` the unit is its radius and there is no seam. On the map `equal_earth`, with
    sigmas 1, 16 and 256, these are GeoCLIP's.
    """

    kind: Literal["fourier"] = "fourier"
    projection: Literal["sphere", "equal_earth"] = "sphere"
    sigmas: tuple[float, ...] = (0.8,)
    frequencies: int = 256

    def __post_init__(self) -> None:
        if not self.sigmas or min(self.sigmas) <= 0 or self.frequencies < 1:
            raise ValueError(
                f"{self.frequencies} frequencies of sigmas {self.sigmas}: give at least one, > 0"
            )

    def build(self) -> "Fourier":
        return Fourier(self)


@dataclass(frozen=True, kw_only=True)
class NeRFConfig:
    """sin and cos of 2^s π x, y and z of the unit sphere for s < `scales`: 6 columns a scale."""

    kind: Literal["nerf"] = "nerf"
    scales: int = 6

    def __post_init__(self) -> None:
        if not 1 <= self.scales <= 24:
            raise ValueError(f"scales is {self.scales}; choose 1 to 24")

    def build(self) -> "NeRF":
        return NeRF(self.scales)


class Fourier(PositionalEncoding):
    """cos and sin of 2π b·v, b ~ N(0, sigma²) (Rahimi and Recht 2007; Tancik et al. 2020), for
    every sigma a group of cosines, then sines.

    v is the point of the unit sphere, or of the Equal Earth map (Vivanco Cepeda et al. 2023, arXiv
    2309.16020). The map tears at the dateline and makes a line of each pole; it is computed in
    float32 in the published order, to agree with published weights: a phase of sigma 256 has up to
    1,000 turns, of which float32 keeps 1e-4. On the sphere all is float64, rounded once.
    """

    b: Tensor

    def __init__(self, config: FourierConfig) -> None:
        super().__init__(*[2 * config.frequencies] * len(config.sigmas))
        self.on_map = config.projection == "equal_earth"
        directions = torch.randn(len(config.sigmas), config.frequencies, 2 if self.on_map else 3)
        self.register_buffer("b", torch.tensor(config.sigmas)[:, None, None] * directions)

    @torch.no_grad()
    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float32[Tensor, "n dim"]:
        v = equal_earth(lonlat_deg.float()) if self.on_map else unit_xyz(lonlat_deg)
        groups = []
        for b in self.b.double():  # autocast would round a float32 product to bfloat16
            phase = ((2 * math.pi * v).double() @ b.T).to(v.dtype)
            groups += [phase.cos(), phase.sin()]
        return torch.cat(groups, dim=1).float()


class NeRF(PositionalEncoding):
    """[sin(2^s π xyz), cos(2^s π xyz)] for s = 0 … S - 1 (Mildenhall et al. 2020, equation 4), on
    the unit sphere as Sphere2Vec's authors use it: 6 columns a scale, no seam."""

    scales: Tensor

    def __init__(self, scales: int) -> None:
        super().__init__(*[6] * scales)
        doubling = 2.0 ** torch.arange(scales, dtype=torch.float64)
        self.register_buffer("scales", math.pi * doubling, persistent=False)

    @torch.no_grad()
    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float32[Tensor, "n dim"]:
        phase = self.scales[:, None] * unit_xyz(lonlat_deg)[:, None]  # n S 3
        return torch.cat([phase.sin(), phase.cos()], dim=2).flatten(1).float()


def equal_earth(lonlat_deg: Float32[Tensor, "n 2"]) -> Float32[Tensor, "n 2"]:
    """Equal Earth coordinates (x east, y north) in GeoCLIP's unit: |x| <= 1.00, |y| <= 0.49, in the
    published order of operations."""
    a1, a2, a3, a4 = EQUAL_EARTH
    lon, lat = torch.deg2rad(lonlat_deg).unbind(1)
    theta = torch.asin(math.sqrt(3) / 2 * lat.sin())
    slope = 9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1
    x = 2 * math.sqrt(3) * lon * theta.cos() / (3 * slope)
    y = a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta
    return torch.stack([x, y], dim=1) * GEOCLIP_SCALE / 180
