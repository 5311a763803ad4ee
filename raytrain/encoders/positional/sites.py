"""Nearness to sites on the sphere: fixed (radial basis functions) or learned (soft Voronoi)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64
from torch import Tensor, nn

from raytrain.encoders.positional.direct import unit_xyz
from raytrain.encoders.positional.encoding import PositionalEncoding
from raytrain.geo import fibonacci_sphere

LEAST_LOGIT = -60.0  # below the largest: exp keeps out of denormals, which are slow on a CPU
MOST_SHARPNESS = 500.0


@dataclass(frozen=True, kw_only=True)
class RBFConfig:
    """Gaussians around `anchors` on a Fibonacci lattice; `width_deg` is their standard deviation
    (null: the distance between neighbours)."""

    kind: Literal["rbf"] = "rbf"
    anchors: int = 400
    width_deg: float | None = None

    def __post_init__(self) -> None:
        if self.anchors < 1 or (self.width_deg is not None and self.width_deg <= 0):
            raise ValueError(
                f"{self.anchors} anchors of width_deg {self.width_deg}: give at least one, > 0"
            )

    def build(self) -> "RBF":
        return RBF(self)


@dataclass(frozen=True, kw_only=True)
class VoronoiConfig:
    """`features` learned columns at each of `sites` learned places, mixed by nearness; `sharpness`
    (at first the same for all sites) is the factor on the cosine of the angle to a site."""

    kind: Literal["voronoi"] = "voronoi"
    sites: int = 1024
    features: int = 256
    sharpness: float = 200.0

    def __post_init__(self) -> None:
        if self.sites < 1 or self.features < 1 or not 0 < self.sharpness <= MOST_SHARPNESS:
            raise ValueError(
                f"{self.sites} sites with {self.features} features and sharpness {self.sharpness}: "
                f"give at least one of each, and a sharpness up to {MOST_SHARPNESS:g}"
            )

    def build(self) -> "Voronoi":
        return Voronoi(self)


class RBF(PositionalEncoding):
    """exp(-|x - a|² / 2w²) of the chord from a place x to each anchor a (Mai et al. 2020, there
    with training places as anchors). The same at all poles and datelines: no seam."""

    anchors: Tensor

    def __init__(self, config: RBFConfig) -> None:
        super().__init__(config.anchors)
        spacing = math.sqrt(4 * math.pi / config.anchors)
        degrees = config.width_deg
        self.width = spacing if degrees is None else math.radians(degrees)
        anchors = torch.from_numpy(fibonacci_sphere(config.anchors))
        self.register_buffer("anchors", anchors, persistent=False)

    @torch.no_grad()
    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float32[Tensor, "n dim"]:
        cosine = unit_xyz(lonlat_deg) @ self.anchors.T  # |x - a|² = 2 - 2 cosine
        return ((cosine - 1) / self.width**2).float().exp()


class Voronoi(PositionalEncoding):
    """sum_k softmax_k(t_k x·s_k) e_k with learned sites s_k, sharpness t_k and features e_k: a soft
    spherical Voronoi partition (Cher et al. 2026, arXiv 2606.27514, there 4,096 sites of 384
    features; without its semantic tokens). Sites begin on a Fibonacci lattice. No seam."""

    def __init__(self, config: VoronoiConfig) -> None:
        super().__init__(config.features)
        self.sites = nn.Parameter(torch.from_numpy(fibonacci_sphere(config.sites)).float())
        self.log_sharpness = nn.Parameter(torch.full((config.sites,), math.log(config.sharpness)))
        self.features = nn.Parameter(torch.randn(config.sites, config.features))

    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float[Tensor, "n dim"]:
        # In float64: a logit of 500 in float32 is off by 3e-5, and so is the embedding.
        sharpness = self.log_sharpness.double().clamp(max=math.log(MOST_SHARPNESS)).exp()
        sites = sharpness[:, None] * F.normalize(self.sites.double(), dim=1)
        logits = unit_xyz(lonlat_deg) @ sites.T  # n sites
        logits = (logits - logits.detach().amax(1, keepdim=True)).clamp(min=LEAST_LOGIT)
        return logits.to(self.features.dtype).softmax(1) @ self.features
