"""What an encoder has to beat: copying neighbours' labels, and encodings that learned nothing."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import nn

from raytrain import geo
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.positional import SphericalHarmonicsConfig
from raytrain.evaluation.probes import Encoder
from raytrain.evaluation.splits import Split
from raytrain.evaluation.tasks import Task
from raytrain.geo import Array

LabelBaseline = Callable[[Task, Split], Array]
"""(task, split) -> predicted labels of the test rows [k], from the training labels alone."""


def label_knn(task: Task, split: Split, neighbours: int = 5) -> Array:
    """Mean, or most frequent class, of the nearest training labels on the sphere."""
    return _copy_neighbours(task, split, neighbours, power=0.0)


def inverse_distance(task: Task, split: Split, neighbours: int = 50, power: float = 2.0) -> Array:
    """Mean, or vote, of near training labels, weighted by great-circle distance ** -power."""
    return _copy_neighbours(task, split, neighbours, power)


def unit_xyz(lon: Array, lat: Array) -> Array:
    """The place itself as a point of the unit sphere [n, 3]."""
    return geo.unit_xyz(geo.as_lonlat(lon, lat))


def random_fourier(sigma: float = 5.0, dim: int = 1024, seed: int = 0) -> Encoder:
    """Random Fourier features of unit xyz, frequencies N(0, sigma²) (Rahimi and Recht 2007)."""
    frequencies = np.random.RandomState(seed).normal(scale=sigma, size=(3, dim // 2))

    def encode(lon: Array, lat: Array) -> Array:
        phase = unit_xyz(lon, lat) @ frequencies
        return np.concatenate([np.cos(phase), np.sin(phase)], axis=1)

    return encode


def harmonics(degrees: int = 20) -> Encoder:
    """Spherical harmonics of degree l < `degrees`, as columns [n, degrees²]."""
    return from_module(SphericalHarmonicsConfig(degrees=degrees).build())


def untrained(config: LocationEncoderConfig, seed: int = 0) -> Encoder:
    """A location encoder as it was before its first step; leaves torch's random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return from_module(config.build())


def from_module(module: nn.Module, rows: int = 8192) -> Encoder:
    """A torch module, places [n, 2] float64 -> [n, d], as an encoder; `rows` places at a time."""

    @torch.inference_mode()
    def encode(lon: Array, lat: Array) -> NDArray[np.floating]:
        module.eval()
        places = torch.from_numpy(geo.as_lonlat(lon, lat))
        parts = [module(places[i : i + rows]) for i in range(0, len(places), rows)]
        return np.asarray(torch.cat(parts).float().cpu().numpy())

    return encode


def _copy_neighbours(task: Task, split: Split, neighbours: int, power: float) -> Array:
    xyz = geo.unit_xyz(task.lonlat_deg)
    k = min(neighbours, len(split.train))
    chord, near = cKDTree(xyz[split.train]).query(xyz[split.test], list(range(1, k + 1)))
    radians = 2 * np.arcsin(np.clip(chord / 2, 0, 1))
    weight = np.maximum(radians, 1e-6) ** -power  # 1e-6 rad is 6 m
    label = task.y[split.train][near]
    if task.classes is None:
        return np.asarray((weight * label).sum(1) / weight.sum(1))
    weight = weight * (1 - 1e-9 * np.arange(k))  # of classes with equal votes the nearer
    votes = np.zeros((len(split.test), len(task.classes)))
    rows: NDArray[np.int64] = np.arange(len(split.test))[:, None]
    np.add.at(votes, (rows, label.astype(np.int64)), weight)
    return np.asarray(votes.argmax(1), float)
