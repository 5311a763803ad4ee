"""What every positional encoding is."""

from jaxtyping import Float, Float64
from torch import Tensor, nn


class PositionalEncoding(nn.Module):
    """Places, (lon, lat) in degrees, to columns. There is no gradient to coordinates.

    `parts` are the widths of the groups of columns that belong together (scales, levels, members of
    a concatenation), in their order; a network of branches reads each by itself.
    """

    def __init__(self, *parts: int) -> None:
        super().__init__()
        self.parts, self.dim = parts, sum(parts)

    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float[Tensor, "n dim"]:
        raise NotImplementedError
