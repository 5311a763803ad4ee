"""Retrieval: does a place find the observation made there among those of other places?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating]

CHUNK = 1024  # queries at a time: bounds the memory of the similarities


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Share of queries whose own partner is among the k most similar of n candidates, by k."""

    candidates: int
    observation_to_location: dict[int, float]
    location_to_observation: dict[int, float]
    chance: dict[int, float]


def retrieval(location: Rows, observation: Rows, ks: Sequence[int] = (1, 10)) -> Retrieval:
    """Retrieval @k of n pairs: unit rows [n, d] each, row i of one belonging to row i of the other.

    Equal similarities are counted as if broken at random, so that a collapsed embedding scores
    chance. Use pairs from held-out blocks: on training places it is high for a mere hash.
    """
    if location.shape != observation.shape or location.ndim != 2 or len(location) == 0:
        raise ValueError(
            f"retrieval wants two arrays [n, d] of equal shape with n > 0, got "
            f"{location.shape} and {observation.shape}"
        )
    n = len(location)
    return Retrieval(
        candidates=n,
        observation_to_location=_found(observation, location, ks),
        location_to_observation=_found(location, observation, ks),
        chance={k: min(1.0, k / n) for k in ks},
    )


def _found(query: Rows, candidate: Rows, ks: Sequence[int]) -> dict[int, float]:
    found = dict.fromkeys(ks, 0.0)
    for start in range(0, len(query), CHUNK):
        similar = query[start : start + CHUNK] @ candidate.T
        own = similar[np.arange(len(similar)), start + np.arange(len(similar))][:, None]
        above = (similar > own).sum(1)
        tied = (similar == own).sum(1)  # with itself
        for k in ks:
            found[k] += float(np.clip((k - above) / tied, 0, 1).sum())
    return {k: total / len(query) for k, total in found.items()}
