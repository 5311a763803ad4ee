"""The location encoder: a place to its embedding. What pretraining is for."""

from dataclasses import dataclass, field

from jaxtyping import Float, Float64
from torch import Tensor, nn

from raytrain.encoders.networks import NetworkConfig, SirenConfig
from raytrain.encoders.positional import PositionalConfig, SphericalHarmonicsConfig


@dataclass(frozen=True, kw_only=True)
class LocationEncoderConfig:
    """A positional encoding, the network that reads it, and the width of the embedding."""

    positional: PositionalConfig = field(default_factory=SphericalHarmonicsConfig)
    network: NetworkConfig = field(default_factory=SirenConfig)
    dim: int = 256

    def build(self) -> "LocationEncoder":
        return LocationEncoder(self)


class LocationEncoder(nn.Module):
    """Places, (lon, lat) in degrees, to embeddings, which do not have unit length."""

    def __init__(self, config: LocationEncoderConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.positional = config.positional.build()
        self.network = config.network.build(self.positional.dim, config.dim)

    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float[Tensor, "n dim"]:
        embedding: Tensor = self.network(self.positional(lonlat_deg))
        return embedding
