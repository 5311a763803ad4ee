"""Which differences between encoders are real: a paired bootstrap over blocks, and ranks.

Labels near each other err together, so rows are no independent draws; blocks of 10° nearly are. A
bootstrap draw takes blocks of the whole Earth with replacement, the same for every encoder, task,
budget and seed, and scores the test labels that lie in them. The spread is that of the places that
were asked about; it does not hold what another training of the encoder would add.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raytrain import geo
from raytrain.evaluation.tasks import Task
from raytrain.geo import Array

BLOCK_DEG = 10.0
BLOCKS = int(geo.blocks(np.array([[179.999, 90.0]]), BLOCK_DEG)[0]) + 1
SIGNIFICANT = 0.05  # at or above this p there is no difference
SUMS = 4  # of squared errors, labels, labels squared, and rows


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Mean score of `a` less that of `b`, its 95 % interval, and p of no difference (two-sided)."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float

    @property
    def words(self) -> str:
        return outcome(self.difference, self.p)


def outcome(difference: float, p: float) -> str:
    """What a comparison says of its first row."""
    if p >= SIGNIFICANT:
        return "no difference"
    return "better" if difference > 0 else "worse"


def block_sums(task: Task, rows: NDArray[np.int64], prediction: Array) -> Array:
    """What a bootstrap needs of predictions [k] at test rows [k]: sums by block [block, 4].

    A score is 1 - errors / spread for both kinds of task: for classes an error is a wrong row and
    the spread the number of rows, which labels 0 with square 1 give.
    """
    y = task.y[rows] - task.y.mean()
    error = (prediction - task.y[rows]) ** 2
    if task.classes is not None:
        y, error = np.zeros(len(rows)), (error > 0).astype(float)
    square = y**2 if task.classes is None else np.ones(len(rows))
    sums = np.zeros((BLOCKS, SUMS))
    block = geo.blocks(task.lonlat_deg[rows], BLOCK_DEG)
    np.add.at(sums, block, np.stack([error, y, square, np.ones(len(rows))], axis=1))
    return sums


def bootstrap(sums: Array, draws: int = 2000, seed: int = 0) -> Array:
    """Mean scores [draw, row] over tasks and seeds, from block sums [row, task, seed, block, 4].

    Each task's score is clipped below at -1, as in the table.
    """
    rng = np.random.default_rng(seed)
    used = np.flatnonzero(sums[0, ..., 3].sum((0, 1)))
    times = rng.multinomial(len(used), np.full(len(used), 1 / len(used)), draws)
    drawn = np.einsum("db,rtsbk->drtsk", times, sums[..., used, :], optimize=True)
    error, y, square, n = np.moveaxis(drawn, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        score = 1 - error / (square - y**2 / n)
    score[n == 0] = np.nan
    return np.asarray(np.nanmean(np.maximum(score, -1), axis=(2, 3)))


def compare(rows: Sequence[str], draws: Array, means: Array, a: str, b: str) -> Comparison:
    """Row a against row b, from bootstrap draws [draw, row] and the rows' mean scores [row]."""
    first, second = rows.index(a), rows.index(b)
    differences = draws[:, first] - draws[:, second]
    low, high = np.quantile(differences, [0.025, 0.975])
    side = min((differences <= 0).mean(), (differences >= 0).mean())
    return Comparison(
        a=a,
        b=b,
        difference=float(means[first] - means[second]),
        low=float(low),
        high=float(high),
        p=float(min(1.0, max(2 * side, 1 / len(draws)))),
    )


def mean_ranks(scores: Array) -> Array:
    """Mean rank over tasks [row] of scores [row, task]; 1 is the best, equal ones share ranks."""
    return np.asarray(pd.DataFrame(-scores).rank().mean(axis=1))
