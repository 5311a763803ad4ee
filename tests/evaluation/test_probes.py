import numpy as np
import pytest
from sklearn.linear_model import Ridge

from raytrain.evaluation.baselines import unit_xyz
from raytrain.evaluation.probes import PENALTIES, RidgePath, features, ridge_probe
from raytrain.evaluation.splits import split
from raytrain.evaluation.tasks import Task, TaskError
from raytrain.geo import Array


@pytest.mark.parametrize("columns", [20, 300])
def test_ridge_path_is_scikit_learns_ridge(columns: int) -> None:
    rng = np.random.default_rng(0)
    x, y, query = (
        rng.normal(size=(120, columns)),
        rng.normal(size=(120, 3)),
        rng.normal(size=(7, 1)),
    )
    query = query + rng.normal(size=(7, columns))
    predicted = RidgePath(x, y).predict(query, PENALTIES)
    for p, alpha in enumerate(PENALTIES):
        expected = Ridge(alpha=alpha).fit(x, y).predict(query)
        np.testing.assert_allclose(predicted[p], expected, atol=1e-8)


def test_linear_function_scores_one_and_noise_zero(height: Task) -> None:
    x = features(unit_xyz, height)
    parts = split(height)
    assert height.score(ridge_probe(x, height, parts).y, parts.test) > 0.999
    noise = np.random.default_rng(0).normal(size=(len(x), 30))
    prediction = ridge_probe(noise, height, parts)
    assert abs(height.score(prediction.y, parts.test)) < 0.1
    assert prediction.penalty >= 1e3


def test_shuffled_labels_score_chance(height: Task, hemisphere: Task) -> None:
    rng = np.random.default_rng(0)
    for task in (height, hemisphere):
        y = rng.permutation(task.y)
        shuffled = Task(name=task.name, lonlat_deg=task.lonlat_deg, y=y, classes=task.classes)
        parts = split(shuffled)
        score = shuffled.score(ridge_probe(features(unit_xyz, task), shuffled, parts).y, parts.test)
        chance = 0.0 if task.classes is None else np.bincount(y.astype(int)).max() / len(y)
        assert score < chance + 0.06


def test_classes_are_separated(hemisphere: Task) -> None:
    lon, lat = hemisphere.lonlat_deg.T
    x = np.stack([lat > 30, lon > 0], axis=1).astype(float)
    parts = split(hemisphere, budget=300)
    assert hemisphere.score(ridge_probe(x, hemisphere, parts).y, parts.test) == 1.0


@pytest.mark.parametrize("name", ["height", "hemisphere"])
def test_test_labels_and_test_features_never_reach_training(
    name: str, request: pytest.FixtureRequest
) -> None:
    task: Task = request.getfixturevalue(name)
    parts = split(task, budget=300)
    x = features(unit_xyz, task)
    before = ridge_probe(x, task, parts)
    y = task.y.copy()
    y[parts.test] = y[parts.test][::-1] if task.classes else 1e6
    other = Task(name=task.name, lonlat_deg=task.lonlat_deg, y=y, classes=task.classes)
    assert np.array_equal(before.y, ridge_probe(x, other, parts).y)
    moved = x.copy()
    moved[parts.test[1:]] += 100
    after = ridge_probe(moved, task, parts)
    assert after.penalty == before.penalty
    np.testing.assert_allclose(after.y[0], before.y[0])


def test_constant_columns_do_no_harm(height: Task) -> None:
    parts = split(height)
    x = np.c_[features(unit_xyz, height), np.full(len(height.y), 7.0)]
    assert height.score(ridge_probe(x, height, parts).y, parts.test) > 0.999


def test_encoder_that_looks_at_the_other_places_is_refused(height: Task) -> None:
    def centred(lon: Array, lat: Array) -> Array:
        x = unit_xyz(lon, lat)
        return np.asarray(x - x.mean(0))

    with pytest.raises(TaskError, match="changes with the other places"):
        features(centred, height)


def test_broken_embeddings_are_named(height: Task) -> None:
    def nan(lon: Array, lat: Array) -> Array:
        return np.where(lon > 170, np.nan, lon)[:, None]

    with pytest.raises(TaskError, match=r"ours: not finite at lon 17"):
        features(nan, height, "ours")
    with pytest.raises(TaskError, match=r"expected an embedding \[1500, d\]"):
        features(lambda lon, lat: lon, height)
