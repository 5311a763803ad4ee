"""Pairs whose places are near: whether they are negatives of one another."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from raytrain.geo import EARTH_RADIUS_KM


@dataclass(frozen=True, kw_only=True)
class NearConfig:
    """What contrast makes of other pairs that were observed near an anchor's place.

    none: negatives as all others. mask: those closer than `km` are left out of the softmax. soft:
    they share its target with the anchor's own positive, by a Gaussian of the width `km` in the
    distance (through the Earth: the von Mises-Fisher kernel of the sphere), normalised over all
    candidates.
    """

    kind: Literal["none", "mask", "soft"] = "none"
    km: float = 100.0

    def __post_init__(self) -> None:
        if not 0 < self.km <= math.pi * EARTH_RADIUS_KM:
            raise ValueError(f"km is {self.km:g}; give a distance in (0, 20,015] km")

    @property
    def by_distance(self) -> bool:
        return self.kind != "none"

    def cross_entropy(
        self,
        logits: Float[Tensor, "b B"],
        positive: Tensor,  # b, the number of each anchor's own candidate
        anchor_xyz: Float[Tensor, "b 3"],
        candidate_xyz: Float[Tensor, "B 3"],
    ) -> Float[Tensor, ""]:
        """The sum over anchors, given the places of anchors and candidates as unit vectors."""
        # Not by a product of matrices: its rounding is 2 km.
        chord = torch.cdist(anchor_xyz, candidate_xyz, compute_mode="donot_use_mm_for_euclid_dist")
        if self.kind == "mask":
            near = chord < 2 * math.sin(self.km / EARTH_RADIUS_KM / 2)
            near.scatter_(1, positive[:, None], False)
            logits = logits.masked_fill(near, -math.inf)
            return F.cross_entropy(logits, positive, reduction="sum")
        width = self.km / EARTH_RADIUS_KM
        target = (-0.5 * (chord / width) ** 2).softmax(dim=1)
        return F.cross_entropy(logits, target, reduction="sum")
