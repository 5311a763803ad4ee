"""What flows from streams to the model: pairs of a place and what was observed there."""

from typing import NamedTuple

from jaxtyping import Float64, Shaped
from torch import Tensor


class Pairs(NamedTuple):
    """Places, (lon, lat) in degrees, and the observation made at each, row by row."""

    lonlat_deg: Float64[Tensor, "b 2"]
    observation: Shaped[Tensor, "b ..."]


Batch = dict[str, Pairs]
"""The pairs of one step by modality. Modalities are unpaired: their rows are different places."""
