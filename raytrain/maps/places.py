"""World maps of where samples are, a panel each modality."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from raytrain.geo import cell_grid, raster_pixels
from raytrain.maps import sheet
from raytrain.maps.colours import FAINT, INK, PAPER
from raytrain.maps.projection import Mask

COLUMNS, GAP, NAME_HEIGHT = 2, 24, 34
FINER = 4  # pixels of coasts are than cells
GROUND = (38.0, 43.0, 53.0)  # of land without samples


def places_map(
    samples: Mapping[str, NDArray[np.int64]], *, land: Mask, width: int = 1200
) -> Image.Image:
    """Samples of modalities in the cells of a global grid [h, w], from few (dark) to many (bright,
    by their logarithm), in Equal Earth projection."""
    most = max(2, *(int(cells.max()) for cells in samples.values()))
    columns = min(COLUMNS, len(samples))
    inside = width - 80
    each = (inside - GAP * (columns - 1)) // columns
    panels = [_panel(name, cells, most, land, each) for name, cells in samples.items()]
    rows = -(-len(panels) // columns)
    height = panels[0].height
    picture = Image.new("RGB", (inside, rows * (height + GAP) - GAP), PAPER)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        picture.paste(panel, (column * (each + GAP), row * (height + GAP)))
    degrees = 180 / len(next(iter(samples.values())))
    caption = (f"Samples in a cell of {degrees:g}°.", "Coasts come from a mask, not from the data.")
    bar = sheet.scale({0.0: "1", 1.0: f"{most:,}"})
    return sheet.page(picture, [("", bar)], "Where the samples are", caption, width)


def _panel(name: str, cells: NDArray[np.int64], most: int, land: Mask, width: int) -> Image.Image:
    colour = sheet.shaded(np.log(np.maximum(cells, 1)) / np.log(most))
    colour, empty = (_finer(grid) for grid in (colour, cells == 0))
    lonlat_deg, shape = cell_grid(180 / len(colour))
    on_land = land[raster_pixels(lonlat_deg, *land.shape)].reshape(shape)
    colour[empty] = np.where(on_land[empty][:, None], GROUND, PAPER)
    world = sheet.project(colour, None, width, smooth=False)
    panel = Image.new("RGB", (width, world.height + NAME_HEIGHT), PAPER)
    panel.paste(world, (0, NAME_HEIGHT))
    draw = ImageDraw.Draw(panel)
    font = ImageFont.load_default(19)
    draw.text((0, 4), name, INK, font)
    draw.text((font.getlength(name) + 14, 4), f"{int(cells.sum()):,}", FAINT, font)
    return panel


def _finer(grid: NDArray[Any]) -> NDArray[Any]:
    return grid.repeat(FINER, axis=0).repeat(FINER, axis=1)
