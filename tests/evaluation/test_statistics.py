import numpy as np
import pytest
from numpy.typing import NDArray

from raytrain import geo
from raytrain.evaluation.statistics import (
    BLOCK_DEG,
    BLOCKS,
    SUMS,
    Comparison,
    block_sums,
    bootstrap,
    compare,
    mean_ranks,
)
from raytrain.evaluation.tasks import Task
from raytrain.geo import Array


def guesses(task: Task, noise: float, seed: int) -> tuple[NDArray[np.int64], Array]:
    """Test rows, and predictions that are wrong by `noise` or in so large a share."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(task.y))[:700])
    if task.classes is None:
        return rows, task.y[rows] + rng.normal(0, noise, len(rows))
    drawn = rng.integers(0, len(task.classes), len(rows)).astype(float)
    return rows, np.where(rng.random(len(rows)) < noise, drawn, task.y[rows])


def stacked(task: Task, *noise: float) -> Array:
    """Block sums [row, task, seed, block, 4] of rows with so much noise, on the same places."""
    parts = [
        [block_sums(task, *guesses(task, level, seed)) for seed in range(2)] for level in noise
    ]
    return np.array(parts)[:, None]


def compared(sums: Array, means: Array, seed: int = 0) -> Comparison:
    return compare(["a", "b"], bootstrap(sums, seed=seed), means, "a", "b")


@pytest.mark.parametrize("name", ["height", "hemisphere"])
@pytest.mark.parametrize("noise", [0.0, 0.3, 5.0])
def test_sums_over_all_blocks_give_the_score(
    name: str, noise: float, request: pytest.FixtureRequest
) -> None:
    task: Task = request.getfixturevalue(name)
    rows, prediction = guesses(task, noise, 0)
    sums = block_sums(task, rows, prediction)
    assert sums.shape == (BLOCKS, SUMS)
    error, y, square, n = sums.sum(0)
    assert n == len(rows)
    assert 1 - error / (square - y**2 / n) == pytest.approx(task.score(prediction, rows), abs=1e-9)


def test_sums_lie_in_the_block_of_their_place(height: Task) -> None:
    rows, prediction = guesses(height, 0.3, 0)
    sums = block_sums(height, rows, prediction)
    block = geo.blocks(height.lonlat_deg[rows], BLOCK_DEG)
    for b in np.unique(block)[:20]:
        error = (prediction - height.y[rows])[block == b] ** 2
        np.testing.assert_allclose(sums[b, [0, 3]], [error.sum(), len(error)])
    assert (
        geo.blocks(geo.random_on_sphere(50_000, np.random.default_rng(0)), BLOCK_DEG).max() < BLOCKS
    )


def test_large_numbers_lose_no_digits(height: Task) -> None:
    far = Task(name="far", lonlat_deg=height.lonlat_deg, y=height.y + 1e7)
    rows, prediction = guesses(far, 0.3, 0)
    error, y, square, n = block_sums(far, rows, prediction).sum(0)
    assert 1 - error / (square - y**2 / n) == pytest.approx(far.score(prediction, rows), abs=1e-6)


@pytest.mark.parametrize("name", ["height", "hemisphere"])
def test_draws_lie_around_the_scores(name: str, request: pytest.FixtureRequest) -> None:
    task: Task = request.getfixturevalue(name)
    draws = bootstrap(stacked(task, 0.2, 0.6), draws=500)
    assert draws.shape == (500, 2)
    for row, noise in enumerate((0.2, 0.6)):
        scores = [task.score(p, r) for r, p in (guesses(task, noise, seed) for seed in range(2))]
        assert draws[:, row].mean() == pytest.approx(np.mean(scores), abs=0.02)
    assert np.array_equal(draws, bootstrap(stacked(task, 0.2, 0.6), draws=500))


def test_equal_rows_do_not_differ(height: Task) -> None:
    found = compared(stacked(height, 0.5, 0.5), np.array([0.8, 0.8]))
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert found.words == "no difference"


@pytest.mark.parametrize("name", ["height", "hemisphere"])
def test_a_clearly_better_row_is_better_and_the_other_worse(
    name: str, request: pytest.FixtureRequest
) -> None:
    sums = stacked(request.getfixturevalue(name), 0.2, 0.6)
    found, back = compared(sums, np.array([0.9, 0.5])), compared(sums[::-1], np.array([0.5, 0.9]))
    assert (found.words, back.words) == ("better", "worse")
    assert found.difference == -back.difference == pytest.approx(0.4)
    assert 0 < found.low < found.high
    assert back.low < back.high < 0
    assert found.p == back.p < 0.05


def test_a_ruinous_score_counts_as_minus_one(height: Task) -> None:
    draws = bootstrap(stacked(height, 50.0), draws=100)
    assert (draws == -1).all()


def test_p_is_never_zero_and_shrinks_with_the_draws(height: Task) -> None:
    sums = stacked(height, 0.0, 5.0)
    for count in (50, 1000):
        draws = bootstrap(sums, draws=count)
        assert compare(["a", "b"], draws, np.array([1.0, 0.0]), "a", "b").p == 1 / count


def test_intervals_hold_the_true_difference_as_often_as_they_say() -> None:
    """Two rows whose errors vary from block to block; 150 worlds, each of 60 blocks of 12 rows."""
    rng = np.random.default_rng(0)
    held, false = 0, 0
    for _ in range(150):
        share = np.clip(rng.normal(0.4, 0.15, (2, 60)), 0, 1)  # of wrong rows, equal on average
        sums = np.zeros((2, 1, 1, BLOCKS, SUMS))
        sums[:, 0, 0, :60, 0] = rng.binomial(12, share)
        sums[:, 0, 0, :60, 2:] = 12
        found = compare(["a", "b"], bootstrap(sums, draws=400), np.zeros(2), "a", "b")
        held += found.low <= 0 <= found.high
        false += found.words != "no difference"
    assert 0.88 <= held / 150 <= 0.99
    assert false / 150 <= 0.12


def test_ranks_by_hand_with_ties() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.8, 0.5, 0.3], [0.1, 0.2, 0.2]])
    np.testing.assert_allclose(mean_ranks(scores), [11 / 6, 1.5, 8 / 3])
    np.testing.assert_allclose(mean_ranks(np.ones((4, 2))), 2.5)
