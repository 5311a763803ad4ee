"""Which rows of a shard an epoch takes: each once, or drawn so that crowded regions count less."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raytrain import geo


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """Draws a modality's places by cell, for those that cluster where people are.

    A cell with n places is drawn n^(1 - exponent) as often as one with a single place: `exponent` 0
    takes every place once an epoch, 1 draws all cells equally often. Cells have equal areas and
    about `cell_degrees` in latitude. The places of a shard, a random part of all, stand for all: a
    cell with fewer than one a shard counts as it is, so cells must not be too small.
    """

    exponent: float = 0.0
    cell_degrees: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.exponent <= 1:
            raise ValueError(f"exponent is {self.exponent:g}; give 0 (as they are) to 1 (evenly)")
        if not 0.01 <= self.cell_degrees <= 90:
            raise ValueError(f"cell_degrees is {self.cell_degrees:g}; give 0.01 to 90 degrees")

    def draw(self, lonlat_deg: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
        """As many rows as there are places [n, 2], with repetition, in random order.

        Systematic resampling (Kitagawa 1996): a cell, and a row within its cell, comes as often as
        it is expected to, rounded up or down, so that few rows are repeated and few left out.
        Rows whose place is none are a cell of their own.
        """
        cells = np.full(len(lonlat_deg), -1)
        valid = geo.valid_lonlat(lonlat_deg)
        cells[valid] = geo.blocks(lonlat_deg[valid], self.cell_degrees)
        shuffled = rng.permutation(len(cells))
        by_cell = shuffled[np.argsort(cells[shuffled], kind="stable")]
        _, cell, counts = np.unique(cells[by_cell], return_inverse=True, return_counts=True)
        share = np.cumsum(counts[cell] ** -self.exponent)
        wanted = (np.arange(len(cells)) + rng.random()) / len(cells) * share[-1]
        drawn = np.minimum(np.searchsorted(share, wanted, side="right"), len(cells) - 1)
        return np.asarray(rng.permutation(by_cell[drawn]))
