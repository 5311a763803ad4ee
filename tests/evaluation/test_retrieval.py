import numpy as np
import pytest

from raytrain.evaluation.retrieval import Rows, retrieval


def unit_rows(n: int, d: int, seed: int) -> Rows:
    x = np.random.default_rng(seed).normal(size=(n, d))
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def slow(query: Rows, candidate: Rows, k: int) -> float:
    found = 0
    for i, q in enumerate(query):
        found += i in np.argsort(-(candidate @ q), kind="stable")[:k]
    return found / len(query)


def test_retrieval_against_a_slow_loop() -> None:
    location = unit_rows(1500, 8, 0)  # more than one chunk
    observation = location + 0.5 * unit_rows(1500, 8, 1)
    observation /= np.linalg.norm(observation, axis=1, keepdims=True)
    found = retrieval(location, observation, ks=(1, 10))
    for k in (1, 10):
        assert found.location_to_observation[k] == pytest.approx(slow(location, observation, k))
        assert found.observation_to_location[k] == pytest.approx(slow(observation, location, k))
    assert found.location_to_observation[1] != found.observation_to_location[1]


def test_random_vectors_score_chance() -> None:
    found = retrieval(unit_rows(2000, 16, 0), unit_rows(2000, 16, 1), ks=(1, 10, 100))
    assert found.chance == {1: 1 / 2000, 10: 10 / 2000, 100: 100 / 2000}
    for k in (10, 100):
        spread = (found.chance[k] / 2000) ** 0.5
        assert abs(found.observation_to_location[k] - found.chance[k]) < 4 * spread
        assert abs(found.location_to_observation[k] - found.chance[k]) < 4 * spread


def test_collapsed_embedding_scores_exactly_chance() -> None:
    same = np.tile(np.array([0.6, 0.8], np.float32), (50, 1))
    found = retrieval(same, same, ks=(1, 10))
    assert found.observation_to_location == pytest.approx(found.chance)


def test_perfect_pairs_and_few_candidates() -> None:
    rows = unit_rows(5, 16, 0)
    found = retrieval(rows, rows, ks=(1, 10))
    assert found.observation_to_location == {1: 1.0, 10: 1.0}
    assert found.chance == {1: 0.2, 10: 1.0}


def test_shapes_that_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="two arrays"):
        retrieval(unit_rows(3, 4, 0), unit_rows(4, 4, 0))
