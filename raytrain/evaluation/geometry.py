"""The shape of an embedding, without any label: how many dimensions it uses, and where it tears.

These describe and do not rank: more dimensions are not a better encoder. A seam is a defect.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from raytrain import geo
from raytrain.encoders.positional.harmonics import SphericalHarmonics
from raytrain.evaluation.probes import Encoder, embed
from raytrain.evaluation.tasks import TaskError
from raytrain.geo import Array

PLACES = 5000  # the nearest other place is about 160 km away
DISCARDED = 0.1  # of the places, those with the largest ratio of distances
PAIRS = 1000
PAIR_KM = 1.0  # a tear shows in full where an encoder is smooth; GeoCLIP is not at 20 km
PAIR_LAT_DEG = 80.0  # pairs but those at a pole lie between this latitude south and north
SCALES = 12  # distances at which jumps are measured that others are compared with
EQUATOR_KM = 2 * np.pi * geo.EARTH_RADIUS_KM
LATTICE = 10_000  # places, 230 km apart
DEGREES = 30  # of harmonics on them
CHUNK = 1000  # rows at a time: bounds the memory of distances

Pairs = tuple[Array, Array]
"""Places [n, 2] and places [n, 2], row by row PAIR_KM apart."""


def geometry(encoder: Encoder, seed: int = 0) -> dict[str, float]:
    """Measures of the embedding of 5,000 random places, uniform by area, ocean included.

    intrinsic_dimension (> 0), effective_rank (1..d), isotropy (0..1) and median_degree (1..30): see
    the functions of these names. dateline_jump, north_pole_jump, south_pole_jump (> 0; 1 is no
    seam): the median distance between embeddings of places 1 km apart with the seam between them,
    over that of such pairs elsewhere: for the dateline the same pairs at other longitudes, for a
    pole random pairs.

    Depends on the encoder and the seed alone. Raises TaskError for an embedding that is not finite,
    not [n, d], or equal at all places.
    """
    x, rng = _random_sample(encoder, seed)
    return {
        "intrinsic_dimension": intrinsic_dimension(x),
        "effective_rank": effective_rank(x),
        "isotropy": isotropy(x),
        "median_degree": median_degree(encoder),
        **_seams(encoder, x, rng),
    }


def seams(encoder: Encoder, seed: int = 0) -> dict[str, float]:
    """dateline_jump, north_pole_jump and south_pole_jump of `geometry` alone, the same numbers."""
    return _seams(encoder, *_random_sample(encoder, seed))


def _random_sample(encoder: Encoder, seed: int) -> tuple[Array, np.random.Generator]:
    """The embedding [n, d] of random places, and the generator after it drew them."""
    rng = np.random.default_rng(seed)
    x = embed(encoder, geo.random_on_sphere(PLACES, rng))
    if not np.ptp(x, axis=0).any():
        raise TaskError("the embedding is equal at all places: it has no geometry to measure")
    return x, rng


def _seams(encoder: Encoder, x: Array, rng: np.random.Generator) -> dict[str, float]:
    lat_deg, middle_deg = _latitudes(rng), rng.uniform(-179, 179, PAIRS)
    anywhere = _random_pairs(_latitudes(rng), rng)

    def jump(across: Pairs, elsewhere: Pairs) -> float:
        rounding = 1e-6 * float(np.linalg.norm(x.std(0)))  # is no seam
        return (_gap(encoder, across) + rounding) / (_gap(encoder, elsewhere) + rounding)

    return {
        "dateline_jump": jump(_pairs_across(180.0, lat_deg), _pairs_across(middle_deg, lat_deg)),
        "north_pole_jump": jump(_pairs_at_pole(1, rng), anywhere),
        "south_pole_jump": jump(_pairs_at_pole(-1, rng), anywhere),
    }


def neighbour_jumps(encoder: Encoder, x: NDArray[np.floating], seed: int = 0) -> Array:
    """How far an embedding jumps around cells of a global north-up grid [h, w]; 1 is typical.

    The largest of the distances from `x` [h, w, d], the embedding at the centre of a cell, to those
    of the four next cells, each over the median of random pairs as far apart. The grid is closed:
    beyond the dateline and the poles lies the cell on the other side, so seams there show.
    """
    height, width, _ = x.shape
    cells = np.arange(height * width)
    lonlat_deg = geo.cell_centres(cells, height, width).reshape(height, width, 2)
    rng = np.random.default_rng(seed)
    km = np.geomspace(PAIR_KM / 2, 2 * EQUATOR_KM / width, SCALES)
    typical = [_gap(encoder, _random_pairs(_latitudes(rng), rng, one)) for one in km]

    def closed(grid: NDArray[np.floating]) -> NDArray[np.floating]:
        """With the cells around it: [h + 2, w + 2, c]."""
        beyond = np.roll(grid[[0, -1]], width // 2, axis=1)
        rows = np.concatenate([beyond[:1], grid, beyond[1:]])
        return np.concatenate([rows[:, -1:], rows, rows[:, :1]], axis=1)

    around, places = closed(x), np.asarray(closed(lonlat_deg), float)
    found = np.zeros((height, width))
    for down, right in ((0, 1), (2, 1), (1, 0), (1, 2)):
        window = np.s_[down : down + height, right : right + width]
        gap = np.linalg.norm(around[window] - x, axis=2)
        apart = geo.great_circle_km(places[window].reshape(-1, 2), lonlat_deg.reshape(-1, 2))
        usual = np.interp(apart, km, typical).reshape(gap.shape)
        found = np.maximum(found, gap / np.maximum(usual, 1e-30))
    return found


def intrinsic_dimension(x: Array) -> float:
    """Dimension of the surface that the rows [n, d] lie on, > 0, at the scale of their distances.

    TwoNN (Facco et al. 2017) by regression: with mu the ratio of the distances to the second and
    the first neighbour and F its empirical distribution, the slope through the origin of
    -log(1 - F(mu)) over log(mu), the 10 % largest mu discarded. Equal rows count once.
    """
    x = np.unique(x, axis=0)
    if len(x) < 10:
        raise TaskError(f"{len(x)} different embeddings are too few for a dimension; give 10")
    first, second = _neighbour_distances(x).T
    log_mu = np.sort(np.log(second / first))[: int(len(x) * (1 - DISCARDED))]
    log_survival = -np.log1p(-np.arange(1, len(log_mu) + 1) / len(x))
    return float(log_mu @ log_survival / (log_mu @ log_mu))


def effective_rank(x: Array) -> float:
    """exp of the entropy of the centred rows' singular values, which are normalised to sum 1
    (Roy and Vetterli 2007): 1 when all lie on one line, d when all directions weigh the same."""
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
    share = singular[singular > 0] / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def isotropy(x: Array) -> float:
    """IsoScore (Rudman et al. 2022): 0 when all rows [n, d] lie on one line, 1 when the variance is
    the same in all d directions; k of d directions used equally give (k - 1) / (d - 1).

    With the variances v along the principal axes it comes to (sum(v)² / sum(v²) - 1) / (d - 1). One
    column alone gives 1.
    """
    if x.shape[1] == 1:
        return 1.0
    variance = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    used = variance.sum() ** 2 / (variance**2).sum()
    return float((used - 1) / (x.shape[1] - 1))


def median_degree(encoder: Encoder) -> int:
    """The degree l of spherical harmonics up to which half of the variance lies, 1 to 30; where it
    lies beyond, 30. Degree l resolves about 20,000 km / l. Columns weigh the same, as for probes.

    From the coefficients at a lattice of 10,000 places; of an embedding that varies over less than
    their 230 km a part is counted at degrees that are too low.
    """
    x, y, z = geo.fibonacci_sphere(LATTICE).T
    places = np.degrees(np.stack([np.arctan2(y, x), np.arcsin(z)], axis=1))
    columns = embed(encoder, places)
    columns = (columns - columns.mean(0))[:, np.ptp(columns, axis=0) > 0]
    columns /= columns.std(0)
    waves = SphericalHarmonics(DEGREES + 1)(torch.from_numpy(places)).double().numpy()
    share = 4 * np.pi * ((waves.T @ columns / LATTICE) ** 2).mean(1)
    by_degree = np.add.reduceat(share, np.arange(DEGREES + 1) ** 2)
    return min(int(np.searchsorted(np.cumsum(by_degree), 0.5)), DEGREES)


def _neighbour_distances(x: Array) -> Array:
    """Distances [n, 2] of rows [n, d] to their first and second neighbour, by brute force, which in
    many dimensions is ten times faster than a tree."""
    square, found = (x**2).sum(1), []
    for start in range(0, len(x), CHUNK):
        rows = x[start : start + CHUNK]
        near = np.argpartition(square - 2 * rows @ x.T, 3, axis=1)[:, :3]  # with the row itself
        exact = np.linalg.norm(x[near] - rows[:, None], axis=2)
        found.append(np.sort(exact, axis=1)[:, 1:])
    return np.concatenate(found)


def _gap(encoder: Encoder, pairs: Pairs) -> float:
    """Median distance between the embeddings of pairs."""
    a, b = (embed(encoder, places) for places in pairs)
    return float(np.median(np.linalg.norm(a - b, axis=1)))


def _latitudes(rng: np.random.Generator) -> Array:
    """Uniform by area [PAIRS], within PAIR_LAT_DEG."""
    bound = np.sin(np.radians(PAIR_LAT_DEG))
    return np.asarray(np.degrees(np.arcsin(rng.uniform(-bound, bound, PAIRS))))


def _pairs_across(lon_deg: Array | float, lat_deg: Array) -> Pairs:
    """Pairs of equal latitude, half their distance west and half east of a meridian."""
    half = np.arcsin(np.sin(PAIR_KM / 2 / geo.EARTH_RADIUS_KM) / np.cos(np.radians(lat_deg)))
    west, east = (geo.wrap_lon(lon_deg + side * np.degrees(half)) for side in (-1, 1))
    return np.stack([west, lat_deg], axis=1), np.stack([east, lat_deg], axis=1)


def _pairs_at_pole(sign: int, rng: np.random.Generator) -> Pairs:
    """Pairs on opposite longitudes, half their distance from the north (1) or south (-1) pole."""
    lon_deg = rng.uniform(-180, 0, PAIRS)
    lat_deg = np.full(PAIRS, sign * (90 - np.degrees(PAIR_KM / 2 / geo.EARTH_RADIUS_KM)))
    return np.stack([lon_deg, lat_deg], axis=1), np.stack([lon_deg + 180, lat_deg], axis=1)


def _random_pairs(lat_deg: Array, rng: np.random.Generator, km: float = PAIR_KM) -> Pairs:
    """Pairs `km` apart that begin at these latitudes, random longitudes, in random directions."""
    start = np.stack([rng.uniform(-180, 180, len(lat_deg)), lat_deg], axis=1)
    xyz = geo.unit_xyz(start)
    aside = np.cross(xyz, rng.normal(size=xyz.shape))
    angle = km / geo.EARTH_RADIUS_KM
    x, y, z = (
        np.cos(angle) * xyz + np.sin(angle) * aside / np.linalg.norm(aside, axis=1, keepdims=True)
    ).T
    end = np.stack([np.arctan2(y, x), np.arcsin(z)], axis=1)
    return start, np.asarray(np.degrees(end))
