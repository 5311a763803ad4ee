"""Losses on embeddings, pure functions. Rows are unit vectors; negatives come from every rank."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from raytrain.objective.collectives import gather_rows, world

Direction = Literal["both", "observation_to_location", "location_to_observation"]
Negatives = Literal["asymmetric", "batch", "modality"]

TILE = 2**24  # 64 MB of float32


def info_nce(
    anchor: Float[Tensor, "b d"],
    candidates: Float[Tensor, "B d"],
    own: int,
    logit_scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Cross-entropy of picking each anchor's own positive among the candidates of every rank.

    The positive of anchor i is candidate `own + i`. Rows must have unit length. The value is this
    rank's share: averaged over ranks, as DDP averages gradients, it equals the loss of the whole
    batch on one device (InfoNCE, van den Oord et al. 2018, arXiv 1807.03748). At most TILE
    similarities are in memory at a time; where there are more, the gradient computes them anew.
    """
    rows = max(1, TILE // len(candidates))
    if len(anchor) <= rows:
        return _cross_entropy(anchor, candidates, own, logit_scale) / len(anchor)
    tiles = [
        checkpoint(
            _cross_entropy, tile, candidates, own + i * rows, logit_scale, use_reentrant=False
        )
        for i, tile in enumerate(torch.split(anchor, rows))
    ]
    return torch.stack(tiles).sum() / len(anchor)


def _cross_entropy(anchor: Tensor, candidates: Tensor, own: int, logit_scale: Tensor) -> Tensor:
    """The sum over anchors."""
    logits = logit_scale * anchor @ candidates.T
    positive = torch.arange(own, own + len(anchor), device=anchor.device)
    return F.cross_entropy(logits, positive, reduction="sum")


@dataclass(frozen=True)
class Embedded:
    """One modality's pairs after the encoders, row by row."""

    location: Float[Tensor, "b d"]  # unit length
    observation: Float[Tensor, "b d"]  # unit length
    prediction: Float[Tensor, "b t"]  # of the standardised observation, from the place
    target: Float[Tensor, "b t"]


def contrast(
    pairs: Mapping[str, Embedded],
    logit_scale: Float[Tensor, ""],
    negatives: Negatives,
    direction: Direction,
) -> dict[str, Float[Tensor, ""]]:
    """InfoNCE between places and observations of each modality, over every rank's pairs.

    `negatives` says what a pair is told from: the other pairs of its own `modality`, those of the
    whole `batch` (all modalities), or `asymmetric`: an observation is told from the places of the
    whole batch, a place from the observations of the same modality only. The last is our reading of
    the "asymmetric NT-Xent across modalities" of MELT (arXiv 2606.20167). `direction` says which of
    the two softmaxes is taken; `both` is their mean.
    """
    places = {name: gather_rows(p.location) for name, p in pairs.items()}
    observations = {name: gather_rows(p.observation) for name, p in pairs.items()}
    all_places, all_observations = (
        torch.cat([*places.values()]),
        torch.cat([*observations.values()]),
    )
    rank, _ = world()
    losses, start = {}, 0
    for name, p in pairs.items():
        own = rank * len(p.location)
        terms = []
        if direction != "location_to_observation":
            wide = negatives != "modality"
            candidates = all_places if wide else places[name]
            terms.append(info_nce(p.observation, candidates, own + start * wide, logit_scale))
        if direction != "observation_to_location":
            wide = negatives == "batch"
            candidates = all_observations if wide else observations[name]
            terms.append(info_nce(p.location, candidates, own + start * wide, logit_scale))
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
