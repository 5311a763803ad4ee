import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from raytrain.evaluation.baselines import unit_xyz
from raytrain.evaluation.fitted import DECAYS, NEIGHBOURS, knn_probe, logistic_probe, mlp_probe
from raytrain.evaluation.probes import features, ridge_probe, standardised
from raytrain.evaluation.scoring import Probe
from raytrain.evaluation.splits import split
from raytrain.evaluation.tasks import Task

probes = pytest.mark.parametrize("probe", [knn_probe, logistic_probe, mlp_probe])
names = pytest.mark.parametrize("name", ["height", "hemisphere"])


def chance(task: Task) -> float:
    """What constant predictions score."""
    return 0.0 if task.classes is None else np.bincount(task.y.astype(int)).max() / len(task.y)


@probes
@names
def test_an_easy_task_is_learned(probe: Probe, name: str, request: pytest.FixtureRequest) -> None:
    task: Task = request.getfixturevalue(name)
    parts = split(task)
    prediction = probe(features(unit_xyz, task), task, parts)
    assert prediction.y.shape == parts.test.shape
    assert task.score(prediction.y, parts.test) > 0.9


@probes
@names
def test_noise_scores_chance(probe: Probe, name: str, request: pytest.FixtureRequest) -> None:
    task: Task = request.getfixturevalue(name)
    noise = np.random.default_rng(0).normal(size=(len(task.y), 10))
    parts = split(task)
    assert task.score(probe(noise, task, parts).y, parts.test) < chance(task) + 0.06


@probes
@names
def test_test_labels_never_reach_training(
    probe: Probe, name: str, request: pytest.FixtureRequest
) -> None:
    task: Task = request.getfixturevalue(name)
    parts = split(task, budget=300)
    x = features(unit_xyz, task)
    y = task.y.copy()
    y[parts.test] = y[parts.test][::-1] if task.classes else 1e6
    other = Task(name=task.name, lonlat_deg=task.lonlat_deg, y=y, classes=task.classes)
    before, after = probe(x, task, parts), probe(x, other, parts)
    assert np.array_equal(before.y, after.y)
    assert before.penalty == after.penalty


@probes
@names
def test_test_features_never_reach_training(
    probe: Probe, name: str, request: pytest.FixtureRequest
) -> None:
    task: Task = request.getfixturevalue(name)
    parts = split(task, budget=300)
    x = features(unit_xyz, task)
    moved = x.copy()
    moved[parts.test[1:]] += 100
    before, after = probe(x, task, parts), probe(moved, task, parts)
    assert after.penalty == before.penalty
    assert after.y[0] == pytest.approx(before.y[0], rel=1e-5)


def test_logistic_of_numbers_is_the_ridge(height: Task) -> None:
    parts, x = split(height, budget=300), features(unit_xyz, height)
    expected, found = ridge_probe(x, height, parts), logistic_probe(x, height, parts)
    assert found.penalty == expected.penalty
    assert np.array_equal(found.y, expected.y)


def test_logistic_is_scikit_learns(hemisphere: Task) -> None:
    """Its C multiplies the sum of the rows' losses, where a decay stands beside their mean."""
    parts = split(hemisphere, budget=300)
    rng = np.random.default_rng(0)
    x = np.c_[features(unit_xyz, hemisphere), rng.normal(size=(len(hemisphere.y), 20))]
    found = logistic_probe(x, hemisphere, parts)
    assert found.penalty in DECAYS
    z = standardised(x, parts.train)
    peer = LogisticRegression(C=1 / (found.penalty * len(parts.train)), max_iter=2000)
    expected = peer.fit(z[parts.train], hemisphere.y[parts.train]).predict(z[parts.test])
    assert (found.y == expected).mean() > 0.99


@names
def test_neighbours_against_a_slow_loop(name: str, request: pytest.FixtureRequest) -> None:
    task: Task = request.getfixturevalue(name)
    parts, x = split(task, budget=300), features(unit_xyz, task)
    found = knn_probe(x, task, parts)
    assert found.penalty in NEIGHBOURS
    z = standardised(x, parts.train)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    for row, answer in zip(parts.test, found.y, strict=True):
        near = np.argsort(-z[parts.train] @ z[row])[: int(found.penalty)]
        labels = task.y[parts.train[near]]
        expected = (
            labels.mean() if task.classes is None else np.bincount(labels.astype(int)).argmax()
        )
        assert answer == pytest.approx(expected)


def test_fewer_rows_than_neighbours(height: Task) -> None:
    parts = split(height, budget=12)
    assert np.isfinite(knn_probe(features(unit_xyz, height), height, parts).y).all()


def test_mlp_repeats_and_bends_where_a_ridge_cannot(height: Task) -> None:
    task = Task(name="bent", lonlat_deg=height.lonlat_deg, y=np.abs(height.lonlat_deg[:, 1]))
    parts, x = split(task), features(unit_xyz, task)
    found = mlp_probe(x, task, parts)
    assert np.array_equal(found.y, mlp_probe(x, task, parts).y)
    assert task.score(found.y, parts.test) > 0.95
    assert task.score(ridge_probe(x, task, parts).y, parts.test) < 0.1
