"""Which places are alike to an encoder: cosines between embeddings."""

from functools import lru_cache
from os import PathLike

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raytrain import geo
from raytrain.data.sources.land import land_mask
from raytrain.encoders.pretrained import PlaceEncoder, load
from raytrain.evaluation.probes import Encoder, embed
from raytrain.geo import Array

CENTRE_PLACES = 10_000  # random places, of which a third is land
ROWS = 16_384  # places embedded at a time


def similar(
    encoder: str | PathLike[str] | PlaceEncoder,
    lon: float | int,
    lat: float | int,
    places: Array | None = None,
    *,
    degrees: float | int = 1.0,
) -> pd.DataFrame:
    """Places ranked by how alike they are to (lon, lat), in degrees; the most similar first.

    `encoder` is one that `load` returned, or what it takes. `places` [n, 2] are (lon, lat) in
    degrees; without them they are the land cells of a global grid of `degrees`. Columns of the
    result: lon, lat, similarity in [-1, 1] (see `similarities`; of the learned columns alone, since
    harmonics that are handed on measure mere distance) and distance_km from the place, by which
    neighbours, which are alike to any encoder, are told from finds:
    `found[found.distance_km > 1000]`. Raises UserError for a bad encoder, place or grid.
    """
    if not isinstance(encoder, PlaceEncoder):
        encoder = load(encoder)
    place = geo.as_lonlat(lon, lat, "similar")
    lonlat_deg = _land_cells(degrees) if places is None else np.asarray(places, float)
    cosines = similarities(encoder.learned, place, lonlat_deg)
    order = np.argsort(-cosines, kind="stable")
    ranked = lonlat_deg[order]
    return pd.DataFrame(
        {
            "lon": ranked[:, 0],
            "lat": ranked[:, 1],
            "similarity": cosines[order],
            "distance_km": geo.great_circle_km(ranked, place),
        }
    )


def similarities(encode: Encoder, place: Array, lonlat_deg: Array) -> Array:
    """Cosines [n] in [-1, 1] between the embeddings of one place [1, 2] and of places [n, 2].

    Both are taken from the mean embedding of land: what all land has in common would make all of it
    alike. That mean depends on the encoder alone, so the similarity of two places does not change
    with the others. 0 at a place whose embedding is that mean. Raises CoordinateError where a place
    is none, TaskError for an embedding that is not finite.
    """
    geo.check_lonlat(place, "place")
    geo.check_lonlat(lonlat_deg, "places")
    mean = land_mean(encode)
    (query,) = directions(embed(encode, place), mean)
    chunks = (lonlat_deg[start : start + ROWS] for start in range(0, len(lonlat_deg), ROWS))
    cosines = [directions(embed(encode, chunk), mean) @ query for chunk in chunks]
    return np.asarray(np.clip(np.concatenate([np.zeros(0), *cosines]), -1, 1))


def land_mean(encode: Encoder) -> Array:
    """The mean embedding [d] of land, by which `similarities` are centred."""
    return np.asarray(embed(encode, _land_sample()).mean(0))


def directions(x: NDArray[np.floating], mean: Array) -> Array:
    """Embeddings [n, d] from their mean [d] at unit length: their products are `similarities`."""
    x = x - mean
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30))


@lru_cache(maxsize=1)
def _land_sample() -> Array:
    """Places [n, 2] on land, uniform by area."""
    return _on_land(geo.random_on_sphere(CENTRE_PLACES, np.random.default_rng(0)))


def _land_cells(degrees: float | int) -> Array:
    """The cells [n, 2] of a global grid whose centre is on land."""
    return _on_land(geo.cell_grid(float(degrees))[0])


def _on_land(lonlat_deg: Array) -> Array:
    mask = land_mask()
    return lonlat_deg[mask[geo.raster_pixels(lonlat_deg, *mask.shape)]]
