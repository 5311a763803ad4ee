"""Regions, jumps and packed directions of embeddings whose answers are known."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from raytrain import geo
from raytrain.data.sources.land import land_mask
from raytrain.evaluation import baselines
from raytrain.evaluation.geometry import geometry, neighbour_jumps, seams
from raytrain.evaluation.probes import Encoder, embed
from raytrain.evaluation.similarity import similarities
from raytrain.geo import Array
from raytrain.maps.survey import Survey, compressed, find_regions, pack, survey


def quarters(lon: Array, lat: Array) -> Array:
    """Four values: by hemisphere, and by the meridians 0 and 180."""
    return np.stack([np.sign(lat), np.sign(lon), 0.1 * np.ones(len(lon))], axis=1)


@pytest.fixture(scope="module")
def measured() -> Survey:
    return survey(baselines.harmonics(6), land_mask(), 4.0)


def test_directions_give_the_similarities_of_raytrain_similar(measured: Survey) -> None:
    exact = similarities(baselines.harmonics(6), measured.lonlat_deg[[700]], measured.lonlat_deg)
    assert np.abs(measured.direction @ measured.direction[700] - exact).max() < 1e-5
    sample = np.corrcoef(measured.direction[measured.land][::5])
    assert measured.low <= np.percentile(sample, 20)


def test_packed_columns_keep_similarities(measured: Survey) -> None:
    packed = pack(measured)
    assert packed.planes.dtype == np.int8
    assert packed.kept >= 0.98
    assert len(packed.planes) < measured.direction.shape[1]
    columns = packed.planes.reshape(len(packed.planes), -1).T.astype(float)
    columns /= np.linalg.norm(columns, axis=1, keepdims=True)
    land = np.flatnonzero(measured.land)
    exact = measured.direction[land] @ measured.direction[land].T
    error = np.abs(columns[land] @ columns[land].T - exact)
    assert 0.5 * error.max() < packed.worst <= error.max() + 1e-3
    assert np.percentile(error, 99) == pytest.approx(packed.usual, abs=0.01)
    assert packed.r > 0.99


def test_little_room_takes_fewer_columns(measured: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    all_columns = pack(measured)
    monkeypatch.setattr("raytrain.maps.survey.PACKED_BYTES", 6_000)
    few = pack(measured)
    assert 0 < len(few.planes) < len(all_columns.planes)
    assert few.kept < all_columns.kept
    assert few.worst > all_columns.worst


def test_regions_are_the_classes_that_there_are() -> None:
    found = find_regions(survey(quarters, land_mask(), 5.0), 9)
    assert len(found.colours) == len(found.share) == 4  # not 9: there are four values
    assert found.share.sum() == pytest.approx(1)
    assert (np.diff(found.share) <= 0).all()
    height, width = found.labels.shape
    corners = found.labels[[height // 4, height // 4, -height // 4, -height // 4],
                           [width // 4, -width // 4, width // 4, -width // 4]]  # fmt: skip
    assert len(set(corners.tolist())) == 4
    assert found.labels[height // 4, -width // 4] == 0  # the north-east has most land


def test_regions_are_the_same_each_time(measured: Survey) -> None:
    assert_array_equal(find_regions(measured, 5).labels, find_regions(measured, 5).labels)


def jumps_of(encoder: Encoder, degrees: float = 6.0) -> Array:
    lonlat_deg, (height, width) = geo.cell_grid(degrees)
    return neighbour_jumps(encoder, embed(encoder, lonlat_deg).reshape(height, width, -1))


def test_a_smooth_sphere_has_no_jump_and_a_flat_map_has_seams() -> None:
    smooth = jumps_of(baselines.unit_xyz)
    assert smooth.min() > 0.9
    assert smooth.max() < 1.1

    def flat(lon: Array, lat: Array) -> Array:
        return np.stack([lon, lat], axis=1)

    torn = jumps_of(flat)
    middle = len(torn) // 2
    assert torn[middle, [0, -1]].min() > 20 * np.median(torn[middle])
    assert torn[[0, -1]].min() > 5  # a pole is a line there


def test_seams_are_those_of_geometry() -> None:
    whole, alone = geometry(baselines.harmonics(4)), seams(baselines.harmonics(4))
    assert alone == {name: whole[name] for name in alone}
    assert len(alone) == 3


def test_compressed_bytes_are_undone_by_running_sums() -> None:
    import zlib

    values = np.random.default_rng(0).integers(-128, 128, (3, 7), dtype=np.int8)
    steps = np.frombuffer(zlib.decompress(compressed(values)), np.uint8)
    assert_array_equal(np.cumsum(steps, dtype=np.uint8).view(np.int8).reshape(3, 7), values)
