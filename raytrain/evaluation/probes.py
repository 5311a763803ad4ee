"""Ridge probes: what a linear model can read from a frozen embedding.

Regression: ridge on the standardised target. Classification: ridge on one-hot labels, the largest
output wins. Features are standardised on the training rows, the intercept is not penalised, and the
penalty is chosen on inner folds of blocks, never on the test.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raytrain.evaluation.splits import Split
from raytrain.evaluation.tasks import Task, TaskError
from raytrain.geo import Array

Encoder = Callable[[Array, Array], NDArray[np.floating]]
"""(lon [n], lat [n]) in degrees -> embedding [n, d]."""

PENALTIES: Array = 10.0 ** np.arange(-2, 5.01, 0.5)


class Prediction(NamedTuple):
    """Predicted labels of the test rows [k], and the penalty that the inner folds chose."""

    y: Array
    penalty: float


class RidgePath:
    """Ridge solutions of one training set for any penalty, from a single eigendecomposition."""

    def __init__(self, x: Array, y: Array) -> None:
        """x [n, d], y [n, c]. A penalty here is scikit-learn's `alpha`."""
        self._x_mean, self._y_mean = x.mean(0), y.mean(0)
        x, y = x - self._x_mean, y - self._y_mean
        if len(x) > x.shape[1]:
            self._eigenvalues, vectors = np.linalg.eigh(x.T @ x)
            self._basis, self._target = vectors, vectors.T @ (x.T @ y)
        else:  # fewer rows than columns: the same solution by the smaller matrix of the rows
            self._eigenvalues, vectors = np.linalg.eigh(x @ x.T)
            self._basis, self._target = x.T @ vectors, vectors.T @ y

    def predict(self, x: Array, penalties: Array) -> Array:
        """Predictions [p, k, c] at x [k, d] for each of p penalties (> 0)."""
        shrunk = self._target / (self._eigenvalues[:, None] + penalties[:, None, None])  # p r c
        p, r, c = shrunk.shape
        projected = (x - self._x_mean) @ self._basis  # k r
        flat = projected @ shrunk.transpose(1, 0, 2).reshape(r, p * c)
        return np.asarray(flat.reshape(len(x), p, c).transpose(1, 0, 2) + self._y_mean)


def ridge_probe(features: Array, task: Task, split: Split) -> Prediction:
    """Train on the split's training rows of features [n, d], predict its test rows."""
    train, fold = split.train, split.fold
    x = standardised(features, train)
    y, scale, offset = targets(task, train)
    gain = np.zeros(len(PENALTIES))
    for inner in np.unique(fold):
        fit, check = train[fold != inner], train[fold == inner]
        predicted = RidgePath(x[fit], y[fit]).predict(x[check], PENALTIES)
        if task.classes is None:
            gain -= ((predicted - y[check]) ** 2).sum((1, 2))
        else:
            gain += (predicted.argmax(2) == task.y[check]).sum(1)
    chosen = len(PENALTIES) - 1 - int(gain[::-1].argmax())  # of equal ones the larger penalty
    predicted = RidgePath(x[train], y[train]).predict(x[split.test], PENALTIES[[chosen]])[0]
    labels = predicted[:, 0] * scale + offset if task.classes is None else predicted.argmax(1)
    return Prediction(np.asarray(labels, float), float(PENALTIES[chosen]))


def features(encoder: Encoder, task: Task, name: str = "encoder") -> Array:
    """The encoder's embedding [n, d] float64 of a task's places, checked.

    Raises TaskError when it is not finite, not [n, d], or when a place's row depends on the other
    places of the call, since then the test rows could reach into training.
    """
    x = embed(encoder, task.lonlat_deg, name)
    few = np.arange(min(len(x), 50))[::-1]
    again = embed(encoder, task.lonlat_deg[few], name)
    if not np.allclose(x[few], again, rtol=1e-3, atol=1e-3 * x.std()):
        raise TaskError(
            f"{name}: a place's embedding changes with the other places of the call; "
            "put the model into eval mode and use no statistics of the batch"
        )
    return x


def embed(encoder: Encoder, lonlat_deg: Array, name: str = "encoder") -> Array:
    """The embedding [n, d] float64 of places [n, 2]; TaskError unless it is that and finite."""
    return np.asarray(given(encoder, lonlat_deg, name), float)


def given(encoder: Encoder, lonlat_deg: Array, name: str = "encoder") -> NDArray[np.floating]:
    """`embed` in the type that the encoder gives it."""
    lon, lat = lonlat_deg.T.copy()
    x = np.asarray(encoder(lon, lat))
    if x.ndim != 2 or len(x) != len(lon) or x.shape[1] == 0:
        raise TaskError(f"{name}: expected an embedding [{len(lon)}, d], got {x.shape}")
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).any(1).argmax())
        raise TaskError(f"{name}: not finite at lon {lon[bad]:.4f}, lat {lat[bad]:.4f}")
    return x


def standardised(x: Array, train: NDArray[np.int64]) -> Array:
    """Zero mean and unit variance on the training rows; a constant column becomes zero."""
    mean, std = x[train].mean(0), x[train].std(0)
    constant = std <= 1e-6 * max(float(std.max()), 1e-30)
    return np.asarray((x - mean) / np.where(constant, np.inf, std))


def targets(task: Task, train: NDArray[np.int64]) -> tuple[Array, float, float]:
    """What the ridge fits [n, c], and the scale and offset that undo its standardisation."""
    if task.classes is not None:
        return np.eye(len(task.classes))[task.y.astype(np.int64)], 1.0, 0.0
    offset, scale = float(task.y[train].mean()), float(task.y[train].std()) or 1.0
    return ((task.y - offset) / scale)[:, None], scale, offset
