"""An embedding at the cells of a global grid: its colours, similarities, regions and jumps."""

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from raytrain import geo
from raytrain.evaluation.geometry import neighbour_jumps, seams
from raytrain.evaluation.probes import Encoder, embed
from raytrain.evaluation.similarity import directions, land_mean
from raytrain.geo import Array
from raytrain.maps.colours import spread
from raytrain.maps.projection import Mask, sample
from raytrain.maps.world import fit_palette

ROWS = 16_384  # places embedded at a time
BORDER_DEG = 0.25  # regions are drawn on a grid of such cells
FIT_CELLS = 10_000  # cells of land, drawn by area, that regions are fitted to
KEPT = 0.98  # of the variance of directions, where it fits
LARGEST = (127, 15)  # whole number of a column: fewer steps where the finer leave no room
PACKED_BYTES = 3_300_000  # 4.4 MB in base64
CHECKED = 200  # places whose similarity to all land is compared with the exact one


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """An embedding at the cells of a global north-up grid [h, w], row by row: n = h · w."""

    shape: tuple[int, int]
    lonlat_deg: Array  # n 2
    land: Mask  # n: the centre is on land
    mean: Array  # d: of land, by which similarities are centred
    direction: NDArray[np.float32]  # n d: of unit length; see similarity.directions
    unit: Array  # n 3: principal components in 0..1, for colours.spread
    explained: float  # the share of variance of these, 0..1
    jumps: Array  # h w: see geometry.neighbour_jumps
    seams: dict[str, float]  # see geometry.seams
    low: float  # 5 % of the similarities between places on land are below it, a round number

    @property
    def colours(self) -> Array:
        """Colours [h, w, 3] in 0..255 of the principal components."""
        return spread(self.unit).reshape(*self.shape, 3)

    @property
    def area(self) -> Array:
        """Of land in each cell [n], relative to a cell at the equator."""
        return np.asarray(np.cos(np.radians(self.lonlat_deg[:, 1])) * self.land)


class Regions(NamedTuple):
    """Regions of land, the largest first."""

    labels: NDArray[np.uint8]  # H W: cells of BORDER_DEG, the sea included
    colours: Array  # k 3: 0..255
    share: Array  # k: of the area of land, 0..1


class Packed(NamedTuple):
    """Directions in few bytes. The similarity of two cells is the cosine of their columns."""

    planes: NDArray[np.int8]  # k h w
    kept: float  # share of the variance on land
    r: float  # correlation with exact similarities, between cells of land
    usual: float  # 99 % of the errors are below it
    worst: float  # the largest error


def survey(encode: Encoder, land: Mask, degrees: float = 1.0) -> Survey:
    """Measure an embedding at the cells of a global grid; `land` is a north-up mask of any size.

    Raises TaskError for an embedding that is not finite, not [n, d], or equal at all places.
    """
    torn = seams(encode)
    lonlat_deg, (height, width) = geo.cell_grid(degrees)
    chunks = (lonlat_deg[start : start + ROWS] for start in range(0, len(lonlat_deg), ROWS))
    x = np.concatenate([embed(encode, chunk).astype(np.float32) for chunk in chunks])
    palette, mean = fit_palette(encode, land), land_mean(encode)
    direction = directions(x, mean).astype(np.float32)
    on_land = land[geo.raster_pixels(lonlat_deg, *land.shape)]
    sample_of_land = direction[on_land][:: max(1, on_land.sum() // 1000)]
    low = np.floor(10 * np.percentile(sample_of_land @ sample_of_land.T, 5)) / 10
    return Survey(
        shape=(height, width),
        lonlat_deg=lonlat_deg,
        land=on_land,
        mean=mean,
        direction=direction,
        unit=palette.unit(x),
        explained=palette.explained,
        jumps=neighbour_jumps(encode, x.reshape(height, width, -1)),
        seams=torn,
        low=float(low),
    )


def find_regions(survey: Survey, count: int, seed: int = 0) -> Regions:
    """At most `count` regions (2..255) of land by k-means of the directions.

    Fewer where the embedding has fewer different values. Cells of the sea go to the nearest region.
    Borders run between centres of cells, where the interpolated embedding is as near to either.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(survey.area), FIT_CELLS, p=survey.area / survey.area.sum())
    different = len(np.unique(survey.direction[drawn], axis=0))
    centres, _ = kmeans2(
        survey.direction[drawn], min(count, different), iter=30, minit="++", seed=seed
    )
    nearness = 2 * survey.direction @ centres.T - (centres**2).sum(1)  # linear in the direction
    share = np.bincount(nearness.argmax(1), survey.area, len(centres)) / survey.area.sum()
    order = np.argsort(-share)[: np.count_nonzero(share)]
    nearness, share = nearness[:, order], share[order]
    fine, (rows, columns) = geo.cell_grid(BORDER_DEG)
    labels = sample(nearness.reshape(*survey.shape, -1), fine).argmax(1)
    member = np.eye(len(order))[nearness.argmax(1)] * survey.area[:, None]  # n k
    unit = member.T @ survey.unit / member.sum(0)[:, None]
    return Regions(labels.reshape(rows, columns).astype(np.uint8), spread(unit), share)


def pack(survey: Survey) -> Packed:
    """Directions in their principal axes, rounded to one step: the fewest columns that keep KEPT of
    the variance on land, or as many as fit in PACKED_BYTES.

    One step for all columns is what loses least in so many bytes; late columns are then mostly 0.
    """
    weighted = survey.direction * survey.area.astype(np.float32)[:, None]
    variance, axes = np.linalg.eigh((weighted.T @ survey.direction).astype(float))
    variance, axes = np.maximum(variance[::-1], 0), axes[:, ::-1]
    kept = np.cumsum(variance) / variance.sum()
    most = min(len(kept), int(np.searchsorted(kept, KEPT)) + 1)
    column = survey.direction @ axes[:, :most].astype(np.float32)
    for largest in LARGEST:
        rounded = np.round(column * (largest / np.abs(column).max())).astype(np.int8)
        planes = np.ascontiguousarray(rounded.T.reshape(-1, *survey.shape))
        size = np.cumsum([len(compressed(plane)) for plane in planes])
        count = max(1, int(np.searchsorted(size, PACKED_BYTES)))
        if count == most:
            break
    return Packed(planes[:count], float(kept[count - 1]), *_errors(survey, rounded[:, :count]))


def compressed(values: NDArray[np.int8] | NDArray[np.uint8]) -> bytes:
    """Differences of successive values, modulo 256, deflated: neighbours are mostly alike."""
    return zlib.compress(np.diff(values.ravel().view(np.uint8), prepend=np.uint8(0)).tobytes())


def _errors(survey: Survey, rounded: NDArray[np.int8]) -> tuple[float, float, float]:
    """r, usual and worst of a Packed."""
    land = np.flatnonzero(survey.land)
    drawn = np.random.default_rng(0).choice(land, CHECKED)
    column = rounded[land].astype(np.float32)
    column /= np.maximum(np.linalg.norm(column, axis=1, keepdims=True), 1e-30)
    near = np.searchsorted(land, drawn)
    found, exact = column[near] @ column.T, survey.direction[drawn] @ survey.direction[land].T
    error = np.abs(found - exact)
    r = np.corrcoef(found.ravel(), exact.ravel())[0, 1]
    return float(r), float(np.percentile(error, 99)), float(error.max())
