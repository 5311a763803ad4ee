"""A world map of an embedding: `python -m raytrain.atlas RUN [--output map.png]`.

Each place gets a colour by the first three principal components of its embedding, so that places
which are alike to the encoder look alike. Deserts, forests and tundra in colours of their own mean
that it learned what places are like; speckle, rings and stripes mean that it did not.
"""

import argparse
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import map_coordinates

from raytrain.data.sources.land import land_mask
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import load
from raytrain.errors import UserError
from raytrain.evaluation.baselines import untrained
from raytrain.evaluation.probes import Encoder
from raytrain.geo import EQUAL_EARTH, Array, cell_grid, random_on_sphere, raster_pixels
from raytrain.settings import build

Mask = NDArray[np.bool_]

PAPER, INK, FAINT = (16, 19, 26), (236, 238, 242), (146, 154, 168)
OCEAN = 0.18  # of the ocean's colour is left where a land mask dims it
FIT_PLACES = 20_000  # random places to which the components are fitted
ROWS = 16384  # places encoded at a time
HEAT_AT = (0.0, 0.35, 0.7, 1.0)
HEAT = np.array([[44, 62, 110], [150, 62, 120], [240, 120, 70], [255, 236, 170]], float)


class Palette(NamedTuple):
    """What turns an embedding [n, d] into three numbers in 0..1."""

    mean: Array  # d
    axes: Array  # d 3
    low: Array  # 3
    high: Array  # 3
    explained: float  # share of the variance, 0..1


def world_map(
    encoder: Encoder,
    degrees: float = 1.0,
    *,
    land: Mask | None = None,
    untrained: Encoder | None = None,
    title: str = "",
    width: int = 1600,
) -> Image.Image:
    """The embedding of a global grid of cells of `degrees` as a picture in Equal Earth projection.

    `land`, a global north-up mask [h, w] of any size, fits the colours to land, where encoders are
    trained, and dims the ocean. `untrained` is drawn small beside the caption, to compare with.
    """
    palette = fit_palette(encoder, land)
    picture = _project(_paint(encoder, palette, degrees), land, width - 80)
    inset = None
    if untrained is not None:
        coarse = _paint(untrained, fit_palette(untrained, land), 2.0)
        inset = _project(coarse, land, width // 5)
    caption = (
        "Like colours: places that are alike to the encoder.",
        f"First three principal components, {palette.explained:.0%} of the variance."
        + ("" if land is None else " Coasts come from a mask, not from the encoder."),
    )
    return _page(picture, inset, title, caption, width)


def error_map(
    lonlat_deg: Array,
    error: Array,
    most: float,
    units: str,
    *,
    land: Mask | None = None,
    title: str = "",
    width: int = 1000,
) -> Image.Image:
    """Errors [n] at places [n, 2] as dots, from dark (0) to bright (`most` `units` and more).
    Places whose error is not finite are left out."""
    known = np.isfinite(error)
    ground = np.broadcast_to(np.array([58.0, 64.0, 75.0]), (180, 360, 3))
    picture = _project(ground, land, width - 80)
    draw, brightest = ImageDraw.Draw(picture), error[known].argsort()
    x, y = _equal_earth_xy(lonlat_deg[known][brightest], picture.width, picture.height)
    shade = np.clip(error[known][brightest] / max(most, 1e-30), 0, 1)
    colours = np.stack([np.interp(shade, HEAT_AT, HEAT[:, c]) for c in range(3)], axis=1)
    for column, row, colour in zip(x, y, colours.astype(int), strict=True):
        draw.ellipse((column - 2, row - 2, column + 2, row + 2), fill=tuple(colour))
    caption = (
        f"Error from 0 (dark) to {most:,.{0 if most >= 100 else 2}f} {units} (bright).",
        f"{int(known.sum()):,} places that were in a test, mean over splits.",
    )
    return _page(picture, None, title, caption, width)


def most_error(errors: Iterable[Array]) -> float:
    """The error that 98 % of all finite ones are below: the bright end of maps to be compared."""
    known = np.concatenate([error[np.isfinite(error)] for error in errors])
    return float(np.percentile(known, 98)) if len(known) else 1.0


def png(picture: Image.Image, colours: int = 256) -> bytes:
    """The picture in few colours, a fraction of the size."""
    stored = io.BytesIO()
    picture.quantize(colours).save(stored, "PNG", optimize=True)
    return stored.getvalue()


def fit_palette(encoder: Encoder, land: Mask | None = None) -> Palette:
    """Principal components of an embedding of random places (on land), turned to a fixed look.

    Components come in any order and sign, and nearly equal ones in any mixture. The rotation that
    brings them nearest to three zonal patterns (dry belts, hemispheres, warmth) makes repeated runs
    look alike; it changes colours, not what is told apart.
    """
    lonlat_deg = random_on_sphere(FIT_PLACES, np.random.default_rng(0))
    if land is not None:
        lonlat_deg = lonlat_deg[land[raster_pixels(lonlat_deg, *land.shape)]]
    lon, lat = lonlat_deg.T
    x = np.asarray(encoder(lon, lat), float)
    mean = x.mean(0)
    variance, vectors = np.linalg.eigh((x - mean).T @ (x - mean))
    axes = np.zeros((x.shape[1], 3))
    axes[:, : min(3, x.shape[1])] = vectors[:, ::-1][:, :3]
    theta = np.radians(lat)
    patterns = np.stack([-np.cos(6 * theta), -np.sin(theta), np.cos(2 * theta)], axis=1)
    left, _, right = np.linalg.svd(((x - mean) @ axes).T @ (patterns - patterns.mean(0)))
    axes = axes @ left @ right
    low, high = np.percentile((x - mean) @ axes, [2, 98], axis=0)
    explained = float(variance[::-1][:3].sum() / max(float(variance.sum()), 1e-30))
    return Palette(mean, axes, low, np.maximum(high, low + 1e-12), explained)


def _paint(encoder: Encoder, palette: Palette, degrees: float) -> Array:
    """Colours 0..255 of a global north-up grid [h, w, 3]."""
    lonlat_deg, (height, width) = cell_grid(degrees)
    unit = np.empty((len(lonlat_deg), 3))
    for start in range(0, len(lonlat_deg), ROWS):
        lon, lat = lonlat_deg[start : start + ROWS].T
        component = (np.asarray(encoder(lon, lat), float) - palette.mean) @ palette.axes
        unit[start : start + ROWS] = (component - palette.low) / (palette.high - palette.low)
    return _oklab_to_rgb(np.clip(unit, 0, 1)).reshape(height, width, 3)


def _oklab_to_rgb(unit: Array) -> Array:
    """Three numbers [n, 3] in 0..1 as lightness, green-red and blue-yellow of OKLab, in which equal
    steps look equal (Ottosson 2020). Returns sRGB 0..255."""
    lightness, a, b = 0.40 + 0.48 * unit[:, 0], 0.26 * (unit[:, 1] - 0.5), 0.26 * (unit[:, 2] - 0.5)
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_linear = [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
    linear = np.clip(np.asarray(to_linear) @ cone**3, 0, 1).T
    bright = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.asarray(255 * np.where(linear <= 0.0031308, 12.92 * linear, bright))


def _project(colour: Array, land: Mask | None, width: int) -> Image.Image:
    """A global grid [h, w, 3] in Equal Earth projection, `width` pixels wide, on paper."""
    lonlat_deg, inside = _equal_earth(2 * width)  # twice as fine, then reduced: smooth edges
    height, columns, _ = colour.shape
    row = (90 - lonlat_deg[:, 1]) / 180 * height + 0.5  # of the padded grid
    column = (lonlat_deg[:, 0] + 180) / 360 * columns + 0.5
    sampled = np.empty((len(lonlat_deg), 3))
    for channel in range(3):
        padded = np.pad(colour[:, :, channel], ((0, 0), (1, 1)), mode="wrap")
        padded = np.pad(padded, ((1, 1), (0, 0)), mode="edge")
        sampled[:, channel] = map_coordinates(padded, [row, column], order=1)
    if land is not None:
        ocean = ~land[raster_pixels(lonlat_deg, *land.shape)]
        sampled[ocean] = PAPER + OCEAN * (sampled[ocean] - PAPER)
    pixels = np.full((*inside.shape, 3), PAPER, np.uint8)
    pixels[inside] = np.clip(sampled + 0.5, 0, 255)
    size = (width, round(inside.shape[0] / 2))
    return Image.fromarray(pixels).resize(size, Image.Resampling.BOX)


def _equal_earth(width: int) -> tuple[Array, Mask]:
    """Places [n, 2] of the pixels of an Equal Earth map of the world, and which pixels [h, w] they
    are (Savric, Patterson and Jenny 2018: sin(theta) = sqrt(3) / 2 sin(lat))."""
    a1, a2, a3, a4 = EQUAL_EARTH
    theta = np.linspace(-np.pi / 3, np.pi / 3, 4001)
    y = theta * (a1 + a2 * theta**2 + theta**6 * (a3 + a4 * theta**2))
    slope = a1 + 3 * a2 * theta**2 + theta**6 * (7 * a3 + 9 * a4 * theta**2)
    half = 2 * np.pi / np.sqrt(3) * np.cos(theta) / slope  # x of longitude 180
    height = round(width * y[-1] / half.max())
    rows = y[-1] * (1 - (2 * np.arange(height) + 1) / height)
    columns = half.max() * ((2 * np.arange(width) + 1) / width - 1)
    lat_deg = np.degrees(
        np.arcsin(np.clip(2 / np.sqrt(3) * np.sin(np.interp(rows, y, theta)), -1, 1))
    )
    lon_deg = 180 * columns / np.interp(rows, y, half)[:, None]  # h w
    inside = np.abs(lon_deg) <= 180
    lat_grid = np.broadcast_to(lat_deg[:, None], lon_deg.shape)
    return np.stack([lon_deg[inside], lat_grid[inside]], axis=1), inside


def _equal_earth_xy(lonlat_deg: Array, width: int, height: int) -> tuple[Array, Array]:
    """Columns and rows [n] of places [n, 2] on an Equal Earth map of the world of this size."""
    a1, a2, a3, a4 = EQUAL_EARTH
    edges = [[180.0, 0.0], [0.0, 90.0]]
    lon, lat = np.radians(np.concatenate([lonlat_deg, edges])).T
    theta = np.arcsin(np.sqrt(3) / 2 * np.sin(lat))
    slope = a1 + 3 * a2 * theta**2 + theta**6 * (7 * a3 + 9 * a4 * theta**2)
    x = 2 / np.sqrt(3) * lon * np.cos(theta) / slope
    y = theta * (a1 + a2 * theta**2 + theta**6 * (a3 + a4 * theta**2))
    return (x[:-2] / x[-2] + 1) / 2 * width, (1 - y[:-2] / y[-1]) / 2 * height


def _page(
    picture: Image.Image,
    inset: Image.Image | None,
    title: str,
    caption: tuple[str, str],
    width: int,
) -> Image.Image:
    """The map with its title above, the caption and the inset below."""
    margin, below = 40, picture.height + 120
    height = below + (92 if inset is None else inset.height + 28)
    page = Image.new("RGB", (width, height), PAPER)
    page.paste(picture, (margin, 84))
    draw, small = ImageDraw.Draw(page), ImageFont.load_default(19)
    draw.text((margin, 28), title or "Embedding", INK, ImageFont.load_default(30))
    draw.text((margin, below), caption[0], INK, small)
    draw.text((margin, below + 30), caption[1], FAINT, small)
    if inset is not None:
        left = width - margin - inset.width
        page.paste(inset, (left, below))
        draw.text((left - 18, below), "Before training", FAINT, small, anchor="ra")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description="World map of a run's embedding.")
    parser.add_argument("run", help="folder or URL of a run or checkpoint")
    parser.add_argument("--output", type=Path, help="PNG to write (default: RUN's name.png)")
    parser.add_argument("--degrees", type=float, default=0.5, help="cell size (default 0.5)")
    parser.add_argument("--ocean", action="store_true", help="do not dim the ocean")
    args = parser.parse_args()
    try:
        encoder = load(args.run)
    except UserError as error:
        sys.exit(f"error: {error}")
    config = build(LocationEncoderConfig, encoder.config["location"], "location")
    name = Path(str(args.run).rstrip("/")).name
    picture = world_map(
        encoder.encode,
        args.degrees,
        land=None if args.ocean else land_mask(),
        untrained=untrained(config),
        title=name,
    )
    output = args.output or Path(f"{name}.png")
    picture.save(output)
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
