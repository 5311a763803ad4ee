import inspect
from typing import Any

import numpy as np
import pytest

from raytrain.evaluation.continents import CONTINENTS, continents
from raytrain.evaluation.splits import INNER_FOLDS, Holdout, seen_share, split
from raytrain.evaluation.tasks import Task, TaskError
from raytrain.geo import blocks, great_circle_km, random_on_sphere


@pytest.mark.parametrize("holdout", [2.0, 10.0, 30.0])
@pytest.mark.parametrize("budget", [None, 300])
def test_whole_blocks_are_held_out_and_folded(
    height: Task, holdout: float, budget: int | None
) -> None:
    parts = split(height, holdout=holdout, budget=budget)
    block = blocks(height.lonlat_deg, holdout)
    train, test = set(block[parts.train]), set(block[parts.test])
    assert not train & test
    folds = [set(block[parts.train[parts.fold == f]]) for f in range(INNER_FOLDS)]
    assert sum(map(len, folds)) == len(set.union(*folds)) == len(train)
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    assert len(parts.train) == (len(height.y) - len(parts.test) if budget is None else budget)
    assert 0.15 <= len(parts.test) / len(height.y) <= 0.25


def test_budgets_of_a_seed_share_the_test_and_nest(height: Task) -> None:
    everything, few = split(height), split(height, budget=300)
    assert np.array_equal(everything.test, few.test)
    assert set(few.train) < set(everything.train)


def test_seeds_and_tasks_differ_and_repeat(height: Task) -> None:
    first, again, other = split(height, seed=0), split(height, seed=0), split(height, seed=1)
    assert np.array_equal(first.test, again.test)
    assert np.array_equal(first.fold, again.fold)
    assert set(first.test) != set(other.test)
    renamed = Task(name="depth", lonlat_deg=height.lonlat_deg, y=height.y)
    assert set(split(renamed).test) != set(first.test)


def test_random_split_leaves_near_neighbours_that_blocks_do_not(height: Task) -> None:
    def median_gap_km(holdout: Holdout) -> float:
        parts = split(height, holdout=holdout)
        train = height.lonlat_deg[parts.train]
        gaps = [great_circle_km(p[None], train).min() for p in height.lonlat_deg[parts.test]]
        return float(np.median(gaps))

    assert 1.5 * median_gap_km("random") < median_gap_km(10.0) < median_gap_km(30.0)


def test_test_classes_occur_in_training(hemisphere: Task) -> None:
    assert seen_share(hemisphere, split(hemisphere)) >= 0.95
    unseen = Task(
        name="unseen",
        lonlat_deg=hemisphere.lonlat_deg,
        y=blocks(hemisphere.lonlat_deg, 30.0).astype(float),
        classes=tuple(map(str, range(100))),
    )
    assert seen_share(unseen, split(unseen, holdout=30.0)) == 0.0


@pytest.mark.parametrize("budget", [None, 300])
def test_continents_are_held_out_in_turn(height: Task, budget: int | None) -> None:
    continent = continents(height.lonlat_deg)
    for seed in range(8):
        parts = split(height, holdout="continent", seed=seed, budget=budget)
        assert set(continent[parts.test]) == {seed % 6}
        assert seed % 6 not in continent[parts.train]
        others = int((continent != seed % 6).sum())
        assert len(parts.train) == (others if budget is None else budget)
        block = blocks(height.lonlat_deg[parts.train], 10.0)
        assert all(len(set(parts.fold[block == b])) == 1 for b in set(block))
        assert set(parts.fold) == set(range(INNER_FOLDS))


def test_a_continent_with_few_labels_is_never_the_test(height: Task) -> None:
    continent = continents(height.lonlat_deg)
    some = np.flatnonzero((continent == 0) | (continent == 3))
    stray = np.flatnonzero(continent == 1)[:3]
    task = height.subset(np.concatenate([some, stray]))
    held = [split(task, holdout="continent", seed=seed) for seed in range(3)]
    assert [set(continents(task.lonlat_deg[parts.test])) for parts in held] == [{0}, {3}, {0}]
    only = height.subset(np.concatenate([np.flatnonzero(continent == 0), stray]))
    with pytest.raises(TaskError, match=r"task height: its labels lie in Africa.*blocks instead"):
        split(only, holdout="continent")


def test_classes_of_one_continent_cannot_be_known(hemisphere: Task) -> None:
    continent = continents(hemisphere.lonlat_deg).astype(float)
    task = Task(
        name="own", lonlat_deg=hemisphere.lonlat_deg, y=continent, classes=tuple(CONTINENTS)
    )
    assert seen_share(task, split(task, holdout="continent", seed=2)) == 0.0


@pytest.mark.parametrize("holdout", [0.0, 200.0, "continents"])
def test_an_unknown_holdout_says_what_there_is(height: Task, holdout: Any) -> None:
    with pytest.raises(TaskError, match=r'degrees \(up to 180\), "random" or "continent"'):
        inspect.unwrap(split)(height, holdout=holdout)


def test_too_few_blocks_say_what_to_do() -> None:
    lonlat_deg = random_on_sphere(200, np.random.default_rng(0)) * 0.01 + 5.0
    task = Task(name="village", lonlat_deg=lonlat_deg, y=np.arange(200.0))
    with pytest.raises(TaskError, match=r"village.*blocks of 10°.*smaller blocks or more labels"):
        split(task)
    with pytest.raises(TaskError, match="to choose a penalty"):
        split(task, holdout=0.5, budget=2)
