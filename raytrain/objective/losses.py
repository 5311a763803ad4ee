"""Losses on embeddings, pure functions. Rows are unit vectors; negatives come from every rank."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from raytrain.objective.collectives import gather_rows, world
from raytrain.objective.near import NearConfig

Direction = Literal["both", "observation_to_location", "location_to_observation"]
Negatives = Literal["asymmetric", "batch", "modality"]

TILE = 2**24  # 64 MB of float32
NO_MATTER = NearConfig()  # how near candidates are


class Places(NamedTuple):
    """Where anchors and candidates were observed, as unit vectors, and what near ones are."""

    near: NearConfig
    anchor_xyz: Float[Tensor, "b 3"]
    candidate_xyz: Float[Tensor, "B 3"]


def info_nce(
    anchor: Float[Tensor, "b d"],
    candidates: Float[Tensor, "B d"],
    own: int,
    logit_scale: Float[Tensor, ""],
    places: Places | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of picking each anchor's own positive among the candidates of every rank.

    The positive of anchor i is candidate `own + i`. Rows must have unit length. The value is this
    rank's share: averaged over ranks, as DDP averages gradients, it equals the loss of the whole
    batch on one device (InfoNCE, van den Oord et al. 2018, arXiv 1807.03748). With `places` near
    candidates are no negatives. At most TILE similarities, and as many distances, are in memory at
    a time; where there are more, the gradient computes them anew.
    """
    rows = max(1, TILE // len(candidates))
    if len(anchor) <= rows:
        return _cross_entropy(anchor, candidates, own, logit_scale, places) / len(anchor)
    tiles = [
        checkpoint(
            _cross_entropy,
            tile,
            candidates,
            own + i * rows,
            logit_scale,
            places and places._replace(anchor_xyz=places.anchor_xyz[i * rows :][: len(tile)]),
            use_reentrant=False,
        )
        for i, tile in enumerate(torch.split(anchor, rows))
    ]
    return torch.stack(tiles).sum() / len(anchor)


def _cross_entropy(
    anchor: Tensor, candidates: Tensor, own: int, logit_scale: Tensor, places: Places | None
) -> Tensor:
    """The sum over anchors."""
    logits = logit_scale * anchor @ candidates.T
    positive = torch.arange(own, own + len(anchor), device=anchor.device)
    if places is None:
        return F.cross_entropy(logits, positive, reduction="sum")
    return places.near.cross_entropy(logits, positive, places.anchor_xyz, places.candidate_xyz)


@dataclass(frozen=True)
class Embedded:
    """One modality's pairs after the encoders, row by row."""

    xyz: Float[Tensor, "b 3"]  # the place, a point of the unit sphere
    location: Float[Tensor, "b d"]  # unit length
    observation: Float[Tensor, "b d"]  # unit length
    prediction: Float[Tensor, "b t"]  # of the standardised observation, from the place
    target: Float[Tensor, "b t"]


def contrast(
    pairs: Mapping[str, Embedded],
    logit_scale: Float[Tensor, " m"],
    negatives: Negatives,
    direction: Direction,
    near: NearConfig = NO_MATTER,
) -> dict[str, Float[Tensor, ""]]:
    """InfoNCE between places and observations of each modality, over every rank's pairs.

    `logit_scale` holds each modality's, in the order of `pairs`; its softmaxes take its own.
    `negatives` says what a pair is told from: the other pairs of its own `modality`, those of the
    whole `batch` (all modalities), or `asymmetric`: an observation is told from the places of the
    whole batch, a place from the observations of the same modality only. The last is our reading of
    the "asymmetric NT-Xent across modalities" of MELT (arXiv 2606.20167). `direction` says which of
    the two softmaxes is taken; `both` is their mean. `near` says which of these are no negatives,
    whatever their modality.
    """
    places = {name: gather_rows(p.location) for name, p in pairs.items()}
    observations = {name: gather_rows(p.observation) for name, p in pairs.items()}
    all_places, all_observations = (
        torch.cat([*places.values()]),
        torch.cat([*observations.values()]),
    )
    xyz = {n: gather_rows(p.xyz) for n, p in pairs.items()} if near.by_distance else {}

    def where(name: str, wide: bool) -> Places | None:
        """The places of a modality's anchors, and those of their candidates."""
        if not near.by_distance:
            return None
        return Places(near, pairs[name].xyz, torch.cat([*xyz.values()]) if wide else xyz[name])

    rank, _ = world()
    losses, start = {}, 0
    for (name, p), scale in zip(pairs.items(), logit_scale, strict=True):
        own = rank * len(p.location)
        terms = []
        if direction != "location_to_observation":
            wide = negatives != "modality"
            candidates = all_places if wide else places[name]
            first = own + start * wide
            terms.append(info_nce(p.observation, candidates, first, scale, where(name, wide)))
        if direction != "observation_to_location":
            wide = negatives == "batch"
            candidates = all_observations if wide else observations[name]
            first = own + start * wide
            terms.append(info_nce(p.location, candidates, first, scale, where(name, wide)))
        losses[name] = torch.stack(terms).mean()
        start += len(places[name])
    return losses


def regression(pairs: Mapping[str, Embedded]) -> dict[str, Float[Tensor, ""]]:
    """Mean squared error of predicting each modality's standardised observation from the place."""
    return {name: F.mse_loss(p.prediction, p.target) for name, p in pairs.items()}


def weighted_mean(
    losses: Mapping[str, Float[Tensor, ""]], weights: Mapping[str, float]
) -> Float[Tensor, ""]:
    """Mean over modalities; `weights` default to 1."""
    w = [weights.get(name, 1.0) for name in losses]
    total: Tensor = sum(wi * loss for wi, loss in zip(w, losses.values(), strict=True)) / sum(w)  # type: ignore[assignment]
    return total
