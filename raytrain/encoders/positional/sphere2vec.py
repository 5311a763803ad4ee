"""Multi-scale sines of longitude and latitude: Space2Vec and Sphere2Vec."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from raytrain.encoders.positional.encoding import PositionalEncoding

Form = Literal["grid", "theory", "sphereC", "sphereC+", "sphereM", "sphereM+", "dfs"]
Columns = Callable[[Tensor, Tensor, Tensor], list[Tensor]]


@dataclass(frozen=True, kw_only=True)
class Sphere2VecConfig:
    """`scales` radii, geometric from 1 down to `min_radius`, whose inverses are frequencies in
    cycles a turn. `form`: see Sphere2Vec.

    `whole` rounds the frequencies to whole numbers (for `theory` to even ones), each once, which
    removes the seam that the published real ones have at the dateline.
    """

    kind: Literal["sphere2vec"] = "sphere2vec"
    form: Form = "sphereC+"
    scales: int = 16
    min_radius: float = 0.01
    whole: bool = True

    def __post_init__(self) -> None:
        if self.scales < 2 or not 0 < self.min_radius < 1:
            raise ValueError(
                f"{self.scales} scales down to min_radius {self.min_radius}: "
                "give at least 2, and a radius between 0 and 1"
            )

    def build(self) -> "Sphere2Vec":
        return Sphere2Vec(self)


class Sphere2Vec(PositionalEncoding):
    """sin and cos of lon λ, lat φ, in radians, times frequencies f = 1/r (Mai et al. 2020, 2023):

    grid      sin fφ, cos fφ, sin fλ, cos fλ (Space2Vec)
    theory    sin, cos of f a·(λ, φ), a three unit vectors 120° apart (Space2Vec)
    sphereC   sin fφ, cos fφ cos fλ, cos fφ sin fλ
    sphereM   sin fφ, cos fφ cos λ, cos φ cos fλ, cos fφ sin λ, cos φ sin fλ
    sphereC+  sphereC and grid;  sphereM+  sphereM and grid
    dfs       grid, and all products of {sin, cos} fφ and {sin, cos} gλ, for all pairs f, g

    Each of a form's terms is a group of columns, one a frequency. With whole frequencies there is
    no seam at the dateline. The poles are lines of all longitudes in every form; in sphereC and
    sphereM only by their even frequencies.
    """

    frequencies: Tensor

    def __init__(self, config: Sphere2VecConfig) -> None:
        radii = config.min_radius ** (np.arange(config.scales) / (config.scales - 1))
        frequencies = 1 / radii
        if config.whole:
            step = 2 if config.form == "theory" else 1
            frequencies = np.unique(np.maximum(np.round(frequencies / step), 1) * step)
        self.terms = TERMS[config.form]
        one = torch.zeros(1, 1, dtype=torch.float64)
        f = torch.from_numpy(frequencies)
        super().__init__(*[term.shape[1] for term in self.terms(one, one, f)])
        self.register_buffer("frequencies", f, persistent=False)

    @torch.no_grad()
    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float32[Tensor, "n dim"]:
        lon, lat = torch.split(torch.deg2rad(lonlat_deg), 1, dim=1)
        return torch.cat(self.terms(lon, lat, self.frequencies), dim=1).float()


def _grid(lon: Tensor, lat: Tensor, f: Tensor) -> list[Tensor]:
    return [(f * lat).sin(), (f * lat).cos(), (f * lon).sin(), (f * lon).cos()]


def _theory(lon: Tensor, lat: Tensor, f: Tensor) -> list[Tensor]:
    half, height = 0.5, math.sqrt(3) / 2
    along = [lon, -half * lon + height * lat, -half * lon - height * lat]
    return [wave for axis in along for wave in ((f * axis).sin(), (f * axis).cos())]


def _sphere_c(lon: Tensor, lat: Tensor, f: Tensor) -> list[Tensor]:
    sin_lat, cos_lat, sin_lon, cos_lon = _grid(lon, lat, f)
    return [sin_lat, cos_lat * cos_lon, cos_lat * sin_lon]


def _sphere_m(lon: Tensor, lat: Tensor, f: Tensor) -> list[Tensor]:
    sin_lat, cos_lat, sin_lon, cos_lon = _grid(lon, lat, f)
    along_lat = [cos_lat * lon.cos(), cos_lat * lon.sin()]
    along_lon = [lat.cos() * cos_lon, lat.cos() * sin_lon]
    return [sin_lat, along_lat[0], along_lon[0], along_lat[1], along_lon[1]]


def _sphere_c_plus(lon: Tensor, lat: Tensor, f: Tensor) -> list[Tensor]:
    return [*_grid(lon, lat, f), *_sphere_c(lon, lat, f)[1:]]


def _sphere_m_plus(lon: Tensor, lat: Tensor, f: Tensor) -> list[Tensor]:
    return [*_grid(lon, lat, f), *_sphere_m(lon, lat, f)[1:]]


def _dfs(lon: Tensor, lat: Tensor, f: Tensor) -> list[Tensor]:
    sin_lat, cos_lat, sin_lon, cos_lon = _grid(lon, lat, f)
    pairs = [(a, b) for a in (cos_lat, sin_lat) for b in (cos_lon, sin_lon)]
    products = [(a[:, :, None] * b[:, None]).flatten(1) for a, b in pairs]
    return [sin_lat, cos_lat, sin_lon, cos_lon, *products]


TERMS: dict[Form, Columns] = {
    "grid": _grid,
    "theory": _theory,
    "sphereC": _sphere_c,
    "sphereC+": _sphere_c_plus,
    "sphereM": _sphere_m,
    "sphereM+": _sphere_m_plus,
    "dfs": _dfs,
}
