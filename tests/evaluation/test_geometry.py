import numpy as np
import pytest

from raytrain import geo
from raytrain.evaluation import baselines
from raytrain.evaluation.geometry import (
    PAIR_KM,
    _latitudes,
    _pairs_across,
    _pairs_at_pole,
    _random_pairs,
    effective_rank,
    geometry,
    intrinsic_dimension,
    isotropy,
    median_degree,
)
from raytrain.evaluation.tasks import TaskError
from raytrain.geo import Array

JUMPS = ("dateline_jump", "north_pole_jump", "south_pole_jump")


def raw(lon: Array, lat: Array) -> Array:
    return np.stack([lon, lat], axis=1)


def wrap(lon: Array, lat: Array) -> Array:
    """Closed at the dateline; each pole is a circle."""
    angles = np.radians(np.stack([lon, lat], axis=1))
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def test_unit_xyz_is_a_surface_without_seams() -> None:
    found = geometry(baselines.unit_xyz)
    assert found["intrinsic_dimension"] == pytest.approx(2, abs=0.1)
    assert found["effective_rank"] == pytest.approx(3, abs=0.01)
    assert found["isotropy"] == pytest.approx(1, abs=0.01)
    for jump in JUMPS:
        assert found[jump] == pytest.approx(1, abs=1e-6)


def test_plain_longitude_and_latitude_tear_everywhere() -> None:
    found = geometry(raw)
    assert found["intrinsic_dimension"] == pytest.approx(2, abs=0.1)
    assert all(found[jump] > 500 for jump in JUMPS)


def test_a_wrapped_longitude_tears_at_the_poles_alone() -> None:
    found = geometry(wrap)
    assert found["dateline_jump"] == pytest.approx(1, abs=1e-6)
    assert min(found["north_pole_jump"], found["south_pole_jump"]) > 300


def test_a_single_pole_can_tear() -> None:
    def southern(lon: Array, lat: Array) -> Array:
        return np.where(lat[:, None] < 0, wrap(lon, lat), wrap(0 * lon, lat))

    found = geometry(southern)
    assert found["south_pole_jump"] > 300
    assert found["north_pole_jump"] < 0.05


def test_one_dimension_and_constant_columns() -> None:
    def line(lon: Array, lat: Array) -> Array:
        return np.stack([lat, 3 * lat, np.full_like(lat, 7.0), np.zeros_like(lat)], axis=1)

    found = geometry(line)
    assert found["intrinsic_dimension"] == pytest.approx(1, abs=0.05)
    assert found["effective_rank"] == pytest.approx(1, abs=1e-6)
    assert found["isotropy"] == pytest.approx(0, abs=1e-6)
    assert geometry(lambda lon, lat: lat[:, None])["isotropy"] == 1.0


def test_cells_that_are_constant_inside_have_no_seam() -> None:
    def cells(lon: Array, lat: Array) -> Array:
        return baselines.unit_xyz(np.round(lon, -1), np.round(lat, -1))

    found = geometry(cells)
    assert found["dateline_jump"] == pytest.approx(1, abs=1e-6)  # in the middle of a cell
    assert found["intrinsic_dimension"] > 0


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_dimension_of_flat_cubes_in_any_position(dimension: int) -> None:
    rng = np.random.default_rng(0)
    flat = rng.uniform(size=(5000, dimension)) @ rng.normal(size=(dimension, 20))
    assert intrinsic_dimension(flat + 100) == pytest.approx(dimension, rel=0.1)
    twice = np.concatenate([flat, flat])
    assert intrinsic_dimension(twice) == pytest.approx(intrinsic_dimension(flat))


def test_rank_and_isotropy_of_k_equal_directions() -> None:
    x = np.zeros((4000, 12))
    x[:, :5] = np.random.default_rng(0).normal(size=(4000, 5))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    for rows in (x, 8 * x @ turn - 30):
        assert effective_rank(rows) == pytest.approx(5, abs=0.01)
        assert isotropy(rows) == pytest.approx(4 / 11, abs=0.01)


def test_isotropy_is_isoscore_as_published() -> None:
    """Rudman et al. 2022, section 4, step by step."""
    x = np.random.default_rng(0).normal(size=(500, 6)) * [5, 3, 1, 1, 0.2, 0]
    centred = x - x.mean(0)
    axes = np.linalg.svd(centred)[2]
    variance = np.cov((centred @ axes.T).T).diagonal()
    n = len(variance)
    normalised = np.sqrt(n) * variance / np.linalg.norm(variance)
    defect = np.linalg.norm(normalised - 1) / np.sqrt(2 * (n - np.sqrt(n)))
    used = (n - defect**2 * (n - np.sqrt(n))) ** 2 / n**2
    assert isotropy(x) == pytest.approx((n * used - 1) / (n - 1))


def test_it_repeats_by_seed_and_seeds_agree() -> None:
    encoder = baselines.random_fourier(dim=64)
    first, other = geometry(encoder), geometry(encoder, seed=1)
    assert first == geometry(encoder) != other
    assert list(first) == list(other)
    np.testing.assert_allclose([*first.values()], [*other.values()], rtol=0.1)


def test_broken_embeddings_are_refused() -> None:
    with pytest.raises(TaskError, match="equal at all places"):
        geometry(lambda lon, lat: np.ones((len(lon), 4)))
    with pytest.raises(TaskError, match="not finite at lon"):
        geometry(lambda lon, lat: np.where(lat > 80, np.nan, lat)[:, None])
    with pytest.raises(TaskError, match="too few"):
        geometry(lambda lon, lat: np.sign(lat)[:, None])


def test_pairs_are_as_near_as_they_say() -> None:
    rng = np.random.default_rng(0)
    lat_deg = _latitudes(rng)
    for a, b in (
        _pairs_across(180.0, lat_deg),
        _pairs_across(rng.uniform(-179, 179, len(lat_deg)), lat_deg),
        _pairs_at_pole(1, rng),
        _pairs_at_pole(-1, rng),
        _random_pairs(lat_deg, rng),
    ):
        np.testing.assert_allclose(geo.great_circle_km(a, b), PAIR_KM, rtol=1e-6)


@pytest.mark.parametrize("degree", [1, 7, 30])
def test_the_degree_of_harmonics_is_found(degree: int) -> None:
    every = baselines.harmonics(degree + 1)
    found = median_degree(lambda lon, lat: every(lon, lat)[:, degree**2 :])
    assert found == degree


def test_the_median_degree_lies_between_those_of_the_columns() -> None:
    every = baselines.harmonics(21)

    def encode(lon: Array, lat: Array) -> Array:
        """Three columns of degree 20, six of degree 3 and a constant."""
        return every(lon, lat)[:, [0, 400, 410, 420, 10, 11, 12, 13, 14, 15]]

    assert median_degree(encode) == 3
    assert median_degree(lambda lon, lat: encode(lon, lat)[:, :6]) == 20
