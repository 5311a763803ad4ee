"""World maps: of an embedding, in colours of its principal components, and of errors, regions,
similarities and jumps, as pictures.

Places that are alike to the encoder look alike. Deserts, forests and tundra in colours of their own
mean that it learned what places are like; speckle, rings and stripes mean that it did not.
"""

import io
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from raytrain.evaluation.probes import Encoder
from raytrain.geo import Array, cell_grid, random_on_sphere, raster_pixels
from raytrain.maps import sheet
from raytrain.maps.colours import INK, PAPER, heat, spread
from raytrain.maps.projection import Mask, equal_earth_xy, polar_places, sample

FIT_PLACES = 20_000  # random places to which the components are fitted
ROWS = 16384  # places encoded at a time
SEAMS_OCEAN = 0.6  # and on the map of jumps, since the dateline lies in the ocean
CAP_DEG, CAP_WIDTH = 30.0, 150  # from a pole to the edge of its cap, and its pixels
MOST_JUMP = 3.0  # the bright end of jumps


class Palette(NamedTuple):
    """What turns an embedding [n, d] into three numbers in 0..1."""

    mean: Array  # d
    axes: Array  # d 3
    low: Array  # 3
    high: Array  # 3
    explained: float  # share of the variance, 0..1

    def unit(self, x: NDArray[np.floating]) -> Array:
        """The numbers [n, 3] in 0..1 of embeddings [n, d], for `colours.spread`."""
        share = ((x - self.mean) @ self.axes - self.low) / (self.high - self.low)
        return np.asarray(np.clip(share, 0, 1))


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
    grid = _paint(encoder, palette, degrees)
    return colour_map(
        grid, palette.explained, land=land, untrained=untrained, title=title, width=width
    )


def colour_map(
    grid: Array,
    explained: float,
    *,
    land: Mask | None = None,
    untrained: Encoder | None = None,
    title: str = "",
    width: int = 1600,
) -> Image.Image:
    """`world_map` of known colours [h, w, 3] in 0..255 and the share that they explain."""
    insets = []
    if untrained is not None:
        coarse = _paint(untrained, fit_palette(untrained, land), 2.0)
        insets.append(("Before training", sheet.project(coarse, land, width // 5)))
    caption = (
        "Like colours: places that are alike to the encoder.",
        f"First three principal components, {explained:.0%} of the variance."
        + ("" if land is None else " Coasts come from a mask, not from the encoder."),
    )
    return sheet.page(sheet.project(grid, land, width - 80), insets, title, caption, width)


def region_map(
    labels: NDArray[np.uint8], colours: Array, *, land: Mask, title: str = "", width: int = 1600
) -> Image.Image:
    """Regions, labels [h, w] into colours [k, 3] in 0..255, in Equal Earth projection."""
    caption = (
        f"{len(colours)} regions of land: places most alike to one another (k-means).",
        "Each has its mean colour on the map of principal components.",
    )
    picture = sheet.project(colours[labels], land, width - 80, smooth=False)
    return sheet.page(picture, [], title, caption, width)


def similarity_map(
    cosine: Array,
    place: Array,
    low: float,
    *,
    land: Mask,
    title: str = "",
    width: int = 1600,
) -> Image.Image:
    """Similarities [h, w] to one place [1, 2], which gets a ring, from `low` (dark) to 1."""
    picture = sheet.project(sheet.shaded((cosine - low) / (1 - low)), land, width - 80)
    (x,), (y,) = equal_earth_xy(place, picture.width, picture.height)
    for radius, colour in ((9, PAPER), (8, INK), (6, PAPER)):
        ring = (x - radius, y - radius, x + radius, y + radius)
        ImageDraw.Draw(picture).ellipse(ring, outline=colour, width=2)
    caption = (
        f"Similarity to {where(place)}.",
        "Cosine of the embeddings, taken from the mean of land.",
    )
    bar = sheet.scale({0.0: f"{low:.1f}", 1.0: "1"})
    return sheet.page(picture, [("", bar)], title, caption, width)


def jump_map(
    jumps: Array,
    seams: Mapping[str, float],
    *,
    land: Mask,
    title: str = "",
    width: int = 1600,
) -> Image.Image:
    """Jumps [h, w], 1 being typical, around the dateline, with a cap around either pole; `seams` is
    what `geometry.seams` measured."""
    grid = sheet.shaded(jumps / MOST_JUMP)
    caps = []
    for name, pole in (("North pole", 1), ("South pole", -1)):
        places, inside = polar_places(2 * CAP_WIDTH, pole, CAP_DEG)
        caps.append((name, sheet.pixels_of(sample(grid, places), inside)))
    picture = sheet.project(grid, land, width - 80, middle_deg=180.0, ocean=SEAMS_OCEAN)
    caption = (
        "How far the embedding jumps from a cell to the next; 1 is typical of such a distance.",
        "Over 1 km, seam to elsewhere: " + seam_figures(seams) + ". 1 is no seam.",
    )
    bar = sheet.scale({0.0: "0", 1 / MOST_JUMP: "1", 1.0: f"{MOST_JUMP:g} and more"})
    return sheet.page(picture, [*caps, ("", bar)], title, caption, width)


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
    picture = sheet.project(ground, land, width - 80)
    draw, brightest = ImageDraw.Draw(picture), error[known].argsort()
    x, y = equal_earth_xy(lonlat_deg[known][brightest], picture.width, picture.height)
    shade = np.clip(error[known][brightest] / max(most, 1e-30), 0, 1)
    for column, row, colour in zip(x, y, heat(shade).astype(int), strict=True):
        draw.ellipse((column - 2, row - 2, column + 2, row + 2), fill=tuple(colour))
    caption = (
        f"Error from 0 (dark) to {most:,.{0 if most >= 100 else 2}f} {units} (bright).",
        f"{int(known.sum()):,} places that were in a test, mean over splits.",
    )
    return sheet.page(picture, [], title, caption, width)


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
        unit[start : start + ROWS] = palette.unit(np.asarray(encoder(lon, lat), float))
    return spread(unit).reshape(height, width, 3)


def where(place: Array) -> str:
    """A place [1, 2] in words: 13.4° E, 52.5° N."""
    ((lon, lat),) = place
    return f"{abs(lon):g}° {'E' if lon >= 0 else 'W'}, {abs(lat):g}° {'N' if lat >= 0 else 'S'}"


def seam_figures(seams: Mapping[str, float]) -> str:
    """The jumps that `geometry.seams` measured, in words."""
    names = {"dateline": "dateline", "north_pole": "north pole", "south_pole": "south pole"}
    return ", ".join(f"{name} {seams[f'{key}_jump']:.2f}" for key, name in names.items())
