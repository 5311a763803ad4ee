"""Probes that are trained by gradient descent, and one that only compares: MLP, logistic, k-NN.

Each chooses its one hyperparameter on the split's inner folds of blocks, as the ridge does, and
sees features that are standardised on the training rows.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from raytrain.evaluation.probes import Prediction, ridge_probe, standardised, targets
from raytrain.evaluation.splits import Split
from raytrain.evaluation.tasks import Task
from raytrain.geo import Array

NEIGHBOURS = (1.0, 3.0, 5.0, 10.0, 20.0, 50.0)
DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)  # of the logistic loss: a row's mean
EPOCHS, PATIENCE, BATCH = 200, 10, 256

Rows = NDArray[np.int64]
Predict = Callable[[float | int, Rows, Rows], Array]
"""(hyperparameter, rows to fit, rows to predict) -> predicted labels."""


def knn_probe(features: Array, task: Task, split: Split) -> Prediction:
    """Mean, or most frequent class, of the nearest training rows by cosine similarity."""
    x = standardised(features, split.train)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

    def predict(neighbours: float | int, fit: Rows, at: Rows) -> Array:
        near = _most_similar(x[fit], x[at], min(int(neighbours), len(fit)))
        labels = task.y[fit][near]
        if task.classes is None:
            return np.asarray(labels.mean(1))
        votes = np.stack([(labels == c).sum(1) for c in range(len(task.classes))], axis=1)
        return np.asarray(votes.argmax(1), float)

    return _by_inner_folds(task, split, NEIGHBOURS, predict)


def logistic_probe(features: Array, task: Task, split: Split) -> Prediction:
    """Multinomial logistic regression with an L2 penalty, by L-BFGS; for numbers the ridge."""
    if task.classes is None:
        return ridge_probe(features, task, split)
    x = torch.from_numpy(standardised(features, split.train)).float()
    y = torch.from_numpy(task.y.astype(np.int64))

    def predict(decay: float | int, fit: Rows, at: Rows) -> Array:
        layer = nn.Linear(x.shape[1], len(task.classes or ()))
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        steps = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            steps.zero_grad()
            fitted = F.cross_entropy(layer(x[fit]), y[fit])
            total = fitted + decay / 2 * layer.weight.square().sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        steps.step(loss)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            return np.asarray(layer(x[at]).argmax(1).numpy(), float)

    return _by_inner_folds(task, split, DECAYS, predict)


def mlp_probe(features: Array, task: Task, split: Split) -> Prediction:
    """An MLP of two hidden layers of 256 (the probe of arXiv 2606.20167, whose sizes are not
    published), AdamW, stopped when the first inner fold has not improved for 10 epochs."""
    x = torch.from_numpy(standardised(features, split.train)).float()
    labels, scale, offset = targets(task, split.train)
    y = torch.from_numpy(labels).float()
    fit, check = split.train[split.fold != 0], split.train[split.fold == 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(x.shape[1], 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
            nn.Linear(256, y.shape[1]),
        )  # fmt: skip
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
        best, best_loss, kept = 0, float("inf"), net.state_dict()
        for epoch in range(EPOCHS):
            for rows in torch.split(torch.from_numpy(fit)[torch.randperm(len(fit))], BATCH):
                optimizer.zero_grad()
                _loss(net(x[rows]), y[rows], task).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            with torch.no_grad():
                loss = float(_loss(net(x[check]), y[check], task))
            if loss < best_loss:
                best, best_loss = epoch, loss
                kept = {name: value.clone() for name, value in net.state_dict().items()}
            elif epoch - best >= PATIENCE:
                break
        net.load_state_dict(kept)
        with torch.no_grad():
            predicted = net(x[split.test]).double().numpy()
    y_test = predicted[:, 0] * scale + offset if task.classes is None else predicted.argmax(1)
    return Prediction(np.asarray(y_test, float), float(best + 1))


def _loss(output: Tensor, target: Tensor, task: Task) -> Tensor:
    return F.mse_loss(output, target) if task.classes is None else F.cross_entropy(output, target)


def _by_inner_folds(
    task: Task, split: Split, choices: Sequence[float | int], predict: Predict
) -> Prediction:
    """The test rows predicted with the choice that errs least over the inner folds."""
    errors = np.zeros(len(choices))
    for inner in np.unique(split.fold):
        fit, check = split.train[split.fold != inner], split.train[split.fold == inner]
        for i, choice in enumerate(choices):
            miss = predict(choice, fit, check) - task.y[check]
            errors[i] += float((miss**2 if task.classes is None else miss != 0).sum())
    chosen = choices[int(errors.argmin())]
    return Prediction(predict(chosen, split.train, split.test), float(chosen))


def _most_similar(x: Array, at: Array, k: int) -> NDArray[np.int64]:
    """The k rows of unit vectors x [n, d] nearest to each of at [m, d], nearest first [m, k]."""
    found = np.empty((len(at), k), np.int64)
    for start in range(0, len(at), 1024):
        similar = at[start : start + 1024] @ x.T
        near = np.argpartition(-similar, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(similar, near, 1), axis=1, kind="stable")
        found[start : start + 1024] = np.take_along_axis(near, order, 1)
    return found
