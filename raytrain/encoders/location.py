"""The location encoder: a place to its embedding. What pretraining is for."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from raytrain.encoders.kernel import KernelConfig
from raytrain.encoders.networks import NetworkConfig, SirenConfig
from raytrain.encoders.positional import PositionalConfig, SphericalHarmonicsConfig
from raytrain.encoders.random_field import RandomFieldConfig


@dataclass(frozen=True, kw_only=True)
class LocationEncoderConfig:
    """A positional encoding, the network that reads it, and the width of what it learns.

    With `skip` the embedding is the network's `dim` columns, followed by those of the positional
    encoding itself: probes with many labels gain much, those with few a little. Without it, it is
    the network's output alone, as in SatCLIP's published models. `random_field` adds columns of its
    own, which serve probes better than harmonics do, and `kernel` those of a kernel between what is
    expected to be seen at places.
    """

    positional: PositionalConfig = field(default_factory=SphericalHarmonicsConfig)
    network: NetworkConfig = field(default_factory=SirenConfig)
    dim: int = 256
    skip: bool = True
    kernel: KernelConfig | None = None
    random_field: RandomFieldConfig | None = None

    def build(self) -> "LocationEncoder":
        return LocationEncoder(self)


class LocationEncoder(nn.Module):
    """Places, (lon, lat) in degrees, to embeddings, which do not have unit length.

    The first `learned_dim` of the `dim` columns are the network's; losses act on these.
    """

    def __init__(self, config: LocationEncoderConfig) -> None:
        super().__init__()
        self.positional = config.positional.build()
        self.skip, self.learned_dim = config.skip, config.dim
        self.kernel = config.kernel.build(config.dim) if config.kernel else None
        self.random_field = config.random_field.build() if config.random_field else None
        self.dim = config.dim + (self.kernel.dim if self.kernel else 0)
        self.dim += self.positional.dim if config.skip else 0
        self.dim += self.random_field.dim if self.random_field else 0
        self.network = config.network.build(self.positional.parts, config.dim)

    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float[Tensor, "n dim"]:
        position = self.positional(lonlat_deg)
        learned = self.network(position)
        columns = [learned]
        if self.kernel:
            columns.append(self.kernel(learned))
        if self.skip:
            columns.append(position)
        if self.random_field:
            columns.append(self.random_field(lonlat_deg))
        return torch.cat(columns, dim=1)

    def learned(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float[Tensor, "n learned_dim"]:
        """The first columns of an embedding without computing the others: what training needs."""
        columns: Tensor = self.network(self.positional(lonlat_deg))
        return columns
