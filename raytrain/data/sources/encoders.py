"""Another location encoder as a source: to learn what it knows of places."""

import zlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raytrain.data.manifest import Field
from raytrain.data.packing import Observed
from raytrain.data.sources.files import Context
from raytrain.data.sources.land import draw_places, land_pixels
from raytrain.data.writer import Observations
from raytrain.encoders.pretrained import load


@dataclass(frozen=True, kw_only=True)
class EncoderSource:
    """The embedding that an `encoder`, whatever raytrain.load reads, has of equal-area random
    places. Whoever learns from it is no independent peer of it any more: evaluations say so."""

    kind: Literal["encoder"] = "encoder"
    encoder: str
    places: int = 200_000
    latitudes: tuple[float, float] = (-60.0, 84.0)
    land: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.places < 1:
            raise ValueError("places must be at least 1")

    def observe(self, context: Context) -> Observations:
        """Draw the places. They share no cells with others': nothing was observed there. Raises
        what raytrain.load raises."""
        teacher = load(self.encoder)
        allowed = land_pixels(replace(context, dealt_among=()), self.latitudes, self.land)
        rng = np.random.default_rng([self.seed, zlib.crc32(context.modality.encode())])
        lonlat_deg = draw_places(self.places, allowed, rng)

        def take(index: NDArray[np.int64]) -> Observed:
            return {context.field: teacher.encode(*lonlat_deg[index].T).astype(np.float16)}

        fields = {context.field: Field(dtype="float16", shape=(teacher.dim,))}
        return Observations(lonlat_deg=lonlat_deg, fields=fields, take=take)
