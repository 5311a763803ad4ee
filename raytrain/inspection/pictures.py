"""Pictures of a page of shards: maps of where samples are, and observations as images."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from raytrain import geo
from raytrain.inspection.tally import Numbers
from raytrain.maps import sheet
from raytrain.maps.colours import PAPER, heat
from raytrain.maps.projection import Mask, equal_earth_xy
from raytrain.maps.world import png

GROUND = (58.0, 64.0, 75.0)
TRAIN, VAL = (98, 178, 242), (242, 154, 94)  # as on the pages, --accent and --warm
CELL_DEG, COAST_DEG, WIDTH, DOTS = 2.0, 0.5, 1000, 20_000


def density_map(places: geo.Array, land: Mask) -> tuple[bytes, float]:
    """A PNG of how many of the places [n, 2] lie in an area, on a logarithmic scale, and how many
    in 10,000 km² its bright end stands for."""
    grid = _ground(land)
    height, width = geo.grid_shape(CELL_DEG)
    row, column = geo.raster_pixels(places, height, width)
    counts = np.zeros((height, width))
    np.add.at(counts, (row, column), 1)
    edges = np.sin(np.radians(90 - np.arange(height + 1) * (180 / height)))
    area = -np.diff(edges) * geo.EARTH_RADIUS_KM**2 * np.radians(360 / width)  # km²
    density = 1e4 * counts / area[:, None]
    most = float(np.quantile(density[counts > 0], 0.995)) if len(places) else 1.0
    least = float(density[counts > 0].min()) if len(places) else 1.0
    shade = np.log(np.maximum(density, least) / least) / max(np.log(most / least), 1e-9)
    fine = round(CELL_DEG / COAST_DEG)
    taken = (counts > 0).repeat(fine, axis=0).repeat(fine, axis=1)
    colours = sheet.shaded(0.2 + 0.8 * np.clip(shade, 0, 1))
    grid[taken] = colours.repeat(fine, axis=0).repeat(fine, axis=1)[taken]
    return png(sheet.project(grid, None, WIDTH, smooth=False)), most


def split_map(places: geo.Array, is_val: NDArray[np.bool_], land: Mask) -> bytes:
    """A PNG of at most DOTS of the places [n, 2], as dots: training blue, validation orange."""
    picture = sheet.project(_ground(land), None, WIDTH)
    draw = ImageDraw.Draw(picture)
    shown = slice(None, None, -(-len(places) // DOTS) or 1)
    x, y = equal_earth_xy(places[shown], picture.width, picture.height)
    for i in np.argsort(is_val[shown], kind="stable"):  # validation on top
        dot = (x[i] - 1, y[i] - 1, x[i] + 1, y[i] + 1)
        draw.ellipse(dot, fill=VAL if is_val[shown][i] else TRAIN)
    return png(picture)


def _ground(land: Mask) -> geo.Array:
    """Land and sea as a grid of colours [h, w, 3]."""
    centres, shape = geo.cell_grid(COAST_DEG)
    on_land = land[geo.raster_pixels(centres, *land.shape)].reshape(*shape, 1)
    return np.where(on_land, np.array(GROUND), np.array(PAPER, float))


def observation_images(observed: NDArray[np.generic], tally: Numbers) -> list[bytes]:
    """An image [channels, h, w] as PNGs: in colour where its channels come in threes (red, green
    and blue, at one scale after the other), else a grey one of each of the first six channels.
    Bytes are shown as they are, other numbers between a channel's 2nd and 98th percentile."""
    grey = np.empty(observed.shape, np.uint8)
    for channel, plane in enumerate(observed):
        if observed.dtype == np.uint8:
            grey[channel] = plane
            continue
        known = tally.sample(channel)
        low, high = np.quantile(known, [0.02, 0.98]) if len(known) else (0.0, 1.0)
        share = (plane.astype(np.float64) - low) / max(high - low, 1e-30)
        grey[channel] = np.round(255 * np.clip(np.nan_to_num(share), 0, 1))
    threes = len(grey) % 3 == 0 and len(grey) <= 12
    planes = grey.reshape(-1, 3, *grey.shape[1:]).transpose(0, 2, 3, 1) if threes else grey[:6]
    return [_small(Image.fromarray(np.ascontiguousarray(plane))) for plane in planes]


def _small(picture: Image.Image) -> bytes:
    """A PNG of at most 128 pixels."""
    picture.thumbnail((128, 128))
    stored = io.BytesIO()
    picture.save(stored, "PNG", optimize=True)
    return stored.getvalue()


def scale_colours(steps: int) -> list[str]:
    """The colours of `density_map` from few places to many, for a page."""
    return [f"rgb({r:.0f} {g:.0f} {b:.0f})" for r, g, b in heat(np.linspace(0.2, 1, steps))]
