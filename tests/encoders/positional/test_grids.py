import itertools

import healpy
import numpy as np
import pytest
import torch

from raytrain.encoders.positional import healpix
from raytrain.encoders.positional.grids import GAIN, PRIMES, HashGridConfig, HEALPixConfig
from raytrain.geo import Array, random_on_sphere, unit_xyz
from raytrain.settings import SettingsError, build


def dense(pixels: Array, weights: Array, size: int) -> Array:
    """Weights [4, n] of pixels [4, n] as rows [n, size]: a pixel may come twice."""
    rows = np.zeros((pixels.shape[1], size))
    np.add.at(rows, (np.arange(pixels.shape[1])[None], pixels), weights)
    return rows


@pytest.mark.parametrize("nside", [1, 2, 3, 4, 16])
def test_neighbours_and_weights_are_those_of_healpy(nside: int, hard_places: Array) -> None:
    places = np.concatenate([hard_places, random_on_sphere(2000, np.random.default_rng(0))])
    pixels, weights = healpix.neighbours(torch.from_numpy(places), torch.tensor([[nside]]))
    size = healpy.nside2npix(nside)
    theirs = healpy.get_interp_weights(nside, places[:, 0], places[:, 1], lonlat=True)
    ours = dense(pixels[:, 0].numpy(), weights[:, 0].numpy(), size)
    np.testing.assert_allclose(ours, dense(*theirs, size), atol=1e-9)


def test_a_pixels_centre_gives_that_pixel() -> None:
    nside = 8
    lon, lat = healpy.pix2ang(nside, np.arange(healpy.nside2npix(nside)), lonlat=True)
    places = torch.from_numpy(np.stack([healpy_lon(lon), lat], axis=1))
    pixels, weights = healpix.neighbours(places, torch.tensor([[nside]]))
    best = weights[:, 0].argmax(0)
    assert weights[:, 0].amax(0).min() > 1 - 1e-9
    assert pixels[best, 0, torch.arange(len(lon))].tolist() == list(range(len(lon)))


def healpy_lon(lon_deg: Array) -> Array:
    return np.where(lon_deg > 180, lon_deg - 360, lon_deg)


def test_healpix_interpolates_every_level(hard_places: Array) -> None:
    torch.manual_seed(0)
    grid = HEALPixConfig(min_order=1, max_order=3, features=2).build()
    torch.nn.init.normal_(grid.table)
    ours = grid(torch.from_numpy(hard_places)).detach().numpy()
    tables = np.split(GAIN * grid.table.detach().double().numpy(), np.cumsum([48, 192]))
    assert grid.parts == (2, 2, 2)
    assert len(tables[-1]) == 768
    for level, feature in itertools.product(range(3), range(2)):
        expected = healpy.get_interp_val(tables[level][:, feature], *hard_places.T, lonlat=True)
        np.testing.assert_allclose(ours[:, 2 * level + feature], expected, atol=1e-4)


@pytest.mark.parametrize("rows", [2**6, 2**12])  # with and without collisions
def test_hash_grid_agrees_with_a_slow_loop(rows: int, hard_places: Array) -> None:
    torch.manual_seed(0)
    config = HashGridConfig(levels=3, coarsest=3, finest=12, features=2, table_rows=rows)
    grid = config.build()
    torch.nn.init.normal_(grid.table)
    table = GAIN * grid.table.detach().double().numpy()
    ours = grid(torch.from_numpy(hard_places)).detach().numpy()
    for row, xyz in enumerate(unit_xyz(hard_places)):
        expected = []
        for level, cells in enumerate((3, 6, 12)):
            position = (xyz + 1) / 2 * cells
            cell = np.minimum(np.floor(position), cells - 1).astype(int)
            total = np.zeros(2)
            for corner in itertools.product((0, 1), repeat=3):
                at = [int(i) for i in cell + corner]
                if (cells + 1) ** 3 <= rows:
                    index = (at[2] * (cells + 1) + at[1]) * (cells + 1) + at[0]
                else:
                    px, py, pz = (i * prime for i, prime in zip(at, PRIMES, strict=True))
                    index = (px ^ py ^ pz) % rows
                share = position - cell
                weight = np.prod([s if c else 1 - s for s, c in zip(share, corner, strict=True)])
                total += weight * table[level * rows + index]
            expected += [*total]
        np.testing.assert_allclose(ours[row], expected, atol=2e-4)  # of 30 σ


@pytest.mark.parametrize("config", [HEALPixConfig(max_order=3), HashGridConfig(finest=32)], ids=str)
def test_gradients_reach_the_cells_in_use_with_their_weights(
    config: HEALPixConfig | HashGridConfig,
) -> None:
    grid = config.build()
    places = torch.from_numpy(random_on_sphere(50, np.random.default_rng(0)))
    grid(places).sum().backward()
    gradient = grid.table.grad
    assert gradient is not None
    assert gradient.sum().item() == pytest.approx(
        50 * grid.dim * GAIN, rel=1e-5
    )  # weights sum to 1
    assert (gradient[:, 0] != 0).sum() <= 50 * 8 * len(grid.parts)


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (HEALPixConfig, {"min_order": 4, "max_order": 3}),
        (HEALPixConfig, {"features": 0}),
        (HashGridConfig, {"levels": 1}),
        (HashGridConfig, {"table_rows": 1000}),
    ],
)
def test_grids_that_cannot_be_are_refused(config: type, wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=r"give at least|power of two"):
        build(config, wrong)
