"""Smooth random functions of place, as columns that know where a place is and nothing else."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Float64
from torch import Tensor, nn

from raytrain.encoders.positional.harmonics import SphericalHarmonics
from raytrain.geo import EARTH_RADIUS_KM


@dataclass(frozen=True, kw_only=True)
class RandomFieldConfig:
    """`degrees`² Gaussian random fields on the sphere, of Matérn's kind: alike over about
    `range_km`, the smoother the larger `smoothness` (ν > 0; 0.5 is the exponential covariance).

    They are a random rotation of the harmonics of degree l < `degrees` (2 to 40), each weighted by
    the root of (κ² + l(l + 1))^-(ν + 1), κ = Earth's radius / range (Lindgren et al. 2011, for the
    sphere). A ridge on them is kriging with that covariance: unlike one on the harmonics
    themselves, which it takes for equally likely, it prefers what changes slowly.
    """

    degrees: int = 30
    range_km: float = 3200.0
    smoothness: float = 0.25

    def __post_init__(self) -> None:
        if not 2 <= self.degrees <= 40:
            raise ValueError(f"degrees is {self.degrees}; choose 2 to 40")
        if not (self.range_km > 0 and self.smoothness > 0):
            raise ValueError(
                f"range_km is {self.range_km:g}, smoothness {self.smoothness:g}; both must be > 0"
            )

    def build(self) -> "RandomField":
        return RandomField(self)


class RandomField(nn.Module):
    """Columns of mean 0 and a mean square of about 1 over the sphere. The rotation is the same for
    all, whatever the seed, and is stored with the weights."""

    mixture: Tensor

    def __init__(self, config: RandomFieldConfig) -> None:
        super().__init__()
        self.harmonics = SphericalHarmonics(config.degrees)
        self.dim = self.harmonics.dim
        l = torch.arange(self.dim).sqrt().floor().double()  # noqa: E741 (the field's name)
        kappa = EARTH_RADIUS_KM / config.range_km
        power = (kappa**2 + l * (l + 1)) ** -(config.smoothness + 1)
        power[0] = 0  # a constant says nothing of a place
        power *= 4 * torch.pi * self.dim / power.sum()
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(self.dim, self.dim, dtype=torch.float64, generator=generator)
        rotation = torch.linalg.qr(noise).Q
        self.register_buffer("mixture", (power.sqrt()[:, None] * rotation).float())

    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float32[Tensor, "n dim"]:
        mixed: Tensor = self.harmonics(lonlat_deg) @ self.mixture
        return mixed
