"""A map as a picture to look at: a grid projected onto paper, with title, caption and scale."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from raytrain.geo import Array, raster_pixels
from raytrain.maps.colours import FAINT, INK, PAPER, heat
from raytrain.maps.projection import Mask, equal_earth_places, sample

OCEAN = 0.18  # of the ocean's colour is left where a land mask dims it


def shaded(share: Array) -> Array:
    """Shares [h, w] as colours [h, w, 3]."""
    return heat(share.ravel()).reshape(*share.shape, 3)


def project(
    colour: Array,
    land: Mask | None,
    width: int,
    *,
    middle_deg: float = 0.0,
    smooth: bool = True,
    ocean: float = OCEAN,
) -> Image.Image:
    """A global grid [h, w, 3] in Equal Earth projection, `width` pixels wide, on paper."""
    lonlat_deg, inside = equal_earth_places(2 * width, middle_deg)
    sampled = sample(colour, lonlat_deg, smooth=smooth)
    if land is not None:
        sea = ~land[raster_pixels(lonlat_deg, *land.shape)]
        sampled[sea] = PAPER + ocean * (sampled[sea] - PAPER)
    return pixels_of(sampled, inside)


def pixels_of(sampled: Array, inside: Mask) -> Image.Image:
    """Colours [n, 3] of the pixels inside a mask, on paper, reduced by two: smooth edges."""
    pixels = np.full((*inside.shape, 3), PAPER, np.uint8)
    pixels[inside] = np.clip(sampled + 0.5, 0, 255)
    size = (inside.shape[1] // 2, round(inside.shape[0] / 2))
    return Image.fromarray(pixels).resize(size, Image.Resampling.BOX)


def scale(ticks: Mapping[float, str]) -> Image.Image:
    """The bar of `heat`, with labels at shares in 0..1."""
    edge, length, font = 60, 280, ImageFont.load_default(19)
    bar = Image.new("RGB", (length + 2 * edge, 52), PAPER)
    colours = np.broadcast_to(heat(np.linspace(0, 1, length)), (16, length, 3))
    bar.paste(Image.fromarray(colours.astype(np.uint8)), (edge, 0))
    for share, label in ticks.items():
        ImageDraw.Draw(bar).text((edge + share * length, 24), label, FAINT, font, anchor="ma")
    return bar


def page(
    picture: Image.Image,
    insets: Sequence[tuple[str, Image.Image]],
    title: str,
    caption: tuple[str, str],
    width: int,
) -> Image.Image:
    """The map with its title above, and below it the caption, and insets from the right (a line
    lower where the caption leaves no room), each with its name beside it."""
    margin, below, small = 40, picture.height + 120, ImageFont.load_default(19)
    taken = sum(inset.width + 36 + small.getlength(name) for name, inset in insets)
    lower = below + (76 if taken > width - 3 * margin - small.getlength(caption[0]) else 0)
    height = max([below + 92, *(lower + inset.height + 28 for _, inset in insets)])
    page = Image.new("RGB", (width, height), PAPER)
    page.paste(picture, (margin, 84))
    draw = ImageDraw.Draw(page)
    draw.text((margin, 28), title or "Embedding", INK, ImageFont.load_default(30))
    draw.text((margin, below), caption[0], INK, small)
    draw.text((margin, below + 30), caption[1], FAINT, small)
    left = width - margin
    for name, inset in reversed(insets):
        left -= inset.width
        page.paste(inset, (left, lower))
        draw.text((left - 18, lower), name, FAINT, small, anchor="ra")
        left -= 36 + round(small.getlength(name))
    return page
