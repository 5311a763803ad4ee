"""Learned grids: features at the cells of several resolutions, interpolated."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from raytrain.encoders.positional import healpix
from raytrain.encoders.positional.direct import unit_xyz
from raytrain.encoders.positional.encoding import PositionalEncoding

GAIN = 30.0  # a feature over its number in the table: a cell sees few of the steps, so that grids
# are else trained at rates of their own, tens of times those of networks
INIT = 1e-4  # as in Instant-NGP: cells that training never reached stay next to nothing
PRIMES = (1, 2654435761, 805459861)  # of the hash


@dataclass(frozen=True, kw_only=True)
class HEALPixConfig:
    """`features` learned columns at every pixel of nside 2^`min_order` to 2^`max_order`; order 0
    has 12 pixels 59° wide, and each further order halves their width (order 6: 0.9°)."""

    kind: Literal["healpix"] = "healpix"
    min_order: int = 1
    max_order: int = 6
    features: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.min_order <= self.max_order <= 12 or self.features < 1:
            raise ValueError(
                f"{self.features} features at orders {self.min_order} to {self.max_order}: "
                "give at least one, and orders from 0 to 12, the smaller first"
            )

    def build(self) -> "HEALPixGrid":
        return HEALPixGrid(self)


@dataclass(frozen=True, kw_only=True)
class HashGridConfig:
    """`features` learned columns at the corners of cubic cells around the sphere, at `levels`
    resolutions, geometric from `coarsest` to `finest` cells along its diameter (12,742 km). A level
    of more corners than `table_rows` shares rows by a hash."""

    kind: Literal["hash_grid"] = "hash_grid"
    levels: int = 8
    coarsest: int = 4
    finest: int = 256
    features: int = 8
    table_rows: int = 2**15

    def __post_init__(self) -> None:
        if self.levels < 2 or self.features < 1 or not 1 <= self.coarsest < self.finest <= 2**20:
            raise ValueError(
                f"{self.levels} levels of {self.features} features from {self.coarsest} to "
                f"{self.finest} cells: give at least 2 levels and a feature, and rising cells"
            )
        if self.table_rows < 1 or self.table_rows & (self.table_rows - 1):
            raise ValueError(f"table_rows is {self.table_rows}; choose a power of two")

    def build(self) -> "HashGrid":
        return HashGrid(self)


class HEALPixGrid(PositionalEncoding):
    """Bilinear interpolation between learned features of HEALPix pixels (Górski et al. 2005), a
    group of columns a resolution. Pixels have equal areas; no seam at the dateline or the poles."""

    nside: Tensor
    first: Tensor

    def __init__(self, config: HEALPixConfig) -> None:
        orders = range(config.min_order, config.max_order + 1)
        super().__init__(*[config.features] * len(orders))
        nside = torch.tensor([[2**order] for order in orders])
        size = 12 * nside**2
        self.register_buffer("nside", nside, persistent=False)
        self.register_buffer("first", size.cumsum(0) - size, persistent=False)
        self.table = _table(int(size.sum()), config.features)

    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float[Tensor, "n dim"]:
        pixels, weights = healpix.neighbours(lonlat_deg, self.nside)
        return _interpolate(self.table, pixels + self.first, weights)


class HashGrid(PositionalEncoding):
    """Trilinear interpolation in a multi-resolution hash table (Müller et al. 2022, Instant-NGP) at
    points of the unit sphere, a group of columns a resolution: no seam. Levels that fit into the
    table have no collisions."""

    cells: Tensor
    corners: Tensor
    primes: Tensor

    def __init__(self, config: HashGridConfig) -> None:
        super().__init__(*[config.features] * config.levels)
        growth = math.log(config.finest / config.coarsest) / (config.levels - 1)
        cells = [int(config.coarsest * math.exp(growth * i) + 1e-9) for i in range(config.levels)]
        self.rows = config.table_rows
        corners = torch.tensor([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)])
        self.register_buffer("cells", torch.tensor(cells)[:, None, None], persistent=False)
        self.register_buffer("corners", corners[:, None, None], persistent=False)  # 8 1 1 3
        self.register_buffer("primes", torch.tensor(PRIMES), persistent=False)
        self.table = _table(config.levels * self.rows, config.features)

    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float[Tensor, "n dim"]:
        position = (unit_xyz(lonlat_deg) + 1) / 2 * self.cells  # k n 3
        cell = position.floor().long().minimum(self.cells - 1)
        share = position - cell
        weights = torch.where(self.corners == 1, share, 1 - share).prod(-1)  # 8 k n
        return _interpolate(self.table, self._row(cell + self.corners), weights)

    def _row(self, corner: Int64[Tensor, "8 k n 3"]) -> Int64[Tensor, "8 k n"]:
        """Rows of the table that hold corners of cells."""
        along = self.cells[..., 0] + 1  # corners along an edge, k 1
        x, y, z = corner.unbind(-1)
        exact = (z * along + y) * along + x
        px, py, pz = (corner * self.primes).unbind(-1)
        hashed = (px ^ py ^ pz) & (self.rows - 1)
        level = torch.arange(len(self.cells), device=corner.device)[:, None]
        return torch.where(along**3 <= self.rows, exact, hashed) + level * self.rows


def _table(rows: int, features: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, features).uniform_(-INIT, INIT))


def _interpolate(
    table: Float[Tensor, "rows f"],
    rows: Int64[Tensor, "c k n"],
    weights: Float64[Tensor, "c k n"],
) -> Float[Tensor, "n columns"]:
    """Weighted sums over the c corners, columns ordered by level k, then feature."""
    found = table.index_select(0, rows.flatten()).view(*rows.shape, table.shape[1])  # c k n f
    found = GAIN * found * weights.to(table.dtype)[..., None]
    return found.sum(0).transpose(0, 1).flatten(1)
