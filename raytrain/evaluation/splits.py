"""Splits: which labels train a probe, which choose its penalty, and which test it.

Labels near a test point give its label away, so whole blocks of the sphere are held out, or a whole
continent, and the inner folds that choose the penalty are made of blocks too. A split depends on
the task, what is held out, the seed and the label budget alone: every encoder sees the same. Orders
come from a hash, not from a random generator, so that they are the same under every numpy.
"""

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raytrain.evaluation.continents import CONTINENTS, continents
from raytrain.evaluation.tasks import Task, TaskError
from raytrain.geo import blocks, mix

Ints = NDArray[np.int64]

Holdout = float | Literal["random", "continent"]
"""What is kept from training: blocks so many degrees of arc wide, single places, or a continent."""

TEST_SHARE = 0.2  # of the blocks
TEST_SHARE_TOLERANCE = 0.05  # blocks hold different numbers of labels
TEST_LABELS = 5  # fewer say nothing
SEEN_SHARE = 0.95  # of the test labels: their class should also occur in training
INNER_FOLDS = 3
DRAWS = 300
CONTINENT_SHARE = 0.02  # of the labels: a continent with fewer is never the test
FOLD_DEGREES = 10.0  # size of the inner folds' blocks where a continent is held out


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Rows of a task: those that train a probe, the inner fold of each of these, and the test."""

    train: Ints
    fold: Ints  # of each training row, 0 .. INNER_FOLDS - 1
    test: Ints


def split(
    task: Task, *, holdout: Holdout = 10.0, seed: int = 0, budget: int | None = None
) -> Split:
    """Hold out labels to test on; train on `budget` of the others, or all of them.

    A number: about a fifth of the blocks that are about so many degrees of arc wide. Of up to 300
    draws it takes the first whose test holds 15 to 25 % of the labels, at least 95 % of them of a
    class that also occurs in training, or else the draw that comes nearest.
    "random": the same with single places in place of blocks, which flatters.
    "continent": one of CONTINENTS, in that order by seed and again from the first, of those with at
    least 2 % of the labels. The test has any size, and classes that occur nowhere else.

    Seeds differ in their test; budgets of one seed share it. Raises TaskError when the labels lie
    in too few blocks, or on one continent, and when the test has under 5 labels, or equal numbers.
    """
    key = f"{task.name} {seed}"
    if holdout == "continent":
        block = blocks(task.lonlat_deg, FOLD_DEGREES)
        in_test = _hold_out_continent(task, seed)
    else:
        block = _blocks(task, holdout)
        in_test = _hold_out_blocks(task, block, key, holdout)
    _check_test(task, np.flatnonzero(in_test))
    train = np.flatnonzero(~in_test)
    if budget is not None:
        train = np.sort(_shuffled(train, f"{key} budget")[:budget])
    order = _shuffled(np.unique(block[train]), f"{key} folds")
    if len(order) < INNER_FOLDS:
        raise TaskError(
            f"task {task.name}: {len(train)} training labels lie in {len(order)} blocks, and "
            f"{INNER_FOLDS} are needed to choose a penalty; use smaller blocks or more labels"
        )
    fold_of_block = np.zeros(int(order.max()) + 1, np.int64)
    fold_of_block[order] = np.arange(len(order)) % INNER_FOLDS
    return Split(train=train, fold=fold_of_block[block[train]], test=np.flatnonzero(in_test))


def describe(holdout: Holdout) -> str:
    """What is held out, in words for a table."""
    if holdout == "continent":
        return "one continent a seed"
    return "random places" if holdout == "random" else f"equal-area blocks of {holdout:g}°"


def seen_share(task: Task, split: Split) -> float:
    """Share of test labels whose class occurs in training: no probe can score above it."""
    if task.classes is None:
        return 1.0
    return float(np.isin(task.y[split.test], task.y[split.train]).mean())


def _check_test(task: Task, test: Ints) -> None:
    if len(test) < TEST_LABELS:
        raise TaskError(
            f"task {task.name}: of its {len(task.y)} labels {len(test)} would be the test, and a "
            f"score needs at least {TEST_LABELS}; give more labels"
        )
    if task.classes is None and np.ptp(task.y[test]) == 0:
        raise TaskError(
            f"task {task.name}: the {len(test)} test labels are all equal, so that there is no R²; "
            "give more labels, use smaller blocks, or make the numbers classes"
        )


def _blocks(task: Task, holdout: float | str) -> Ints:
    """Block id of each label [n]; where random places are held out, each is a block of its own."""
    if holdout == "random":
        return np.unique(task.lonlat_deg, axis=0, return_inverse=True)[1].reshape(-1)
    if isinstance(holdout, str) or not 0 < holdout <= 180:
        raise TaskError(
            f"holdout is {holdout!r}; give the size of the blocks in degrees (up to 180), "
            '"random" or "continent"'
        )
    return blocks(task.lonlat_deg, holdout)


def _hold_out_continent(task: Task, seed: int) -> NDArray[np.bool_]:
    """Which rows [n] lie on the seed's continent."""
    continent = continents(task.lonlat_deg)
    share = np.bincount(continent, minlength=len(CONTINENTS)) / len(continent)
    least = max(CONTINENT_SHARE, TEST_LABELS / len(continent))
    candidates = np.flatnonzero(share >= least)
    if len(candidates) < 2:
        raise TaskError(
            f"task {task.name}: its labels lie in {CONTINENTS[share.argmax()]}, and to hold out a "
            f"continent at least {least:.0%} must lie on another; hold out blocks instead"
        )
    return np.asarray(continent == candidates[seed % len(candidates)])


def _hold_out_blocks(task: Task, block: Ints, key: str, holdout: Holdout) -> NDArray[np.bool_]:
    """Which rows [n] lie in the test blocks."""
    ids, index = np.unique(block, return_inverse=True)
    if len(ids) <= INNER_FOLDS:
        of_size = "" if isinstance(holdout, str) else f" of {holdout:g}°"
        raise TaskError(
            f"task {task.name}: its {len(block)} labels lie in {len(ids)} blocks{of_size}, and a "
            f"split needs more than {INNER_FOLDS}; use smaller blocks or more labels"
        )
    label = np.zeros(len(block), np.int64) if task.classes is None else task.y.astype(np.int64)
    labels_of_block = np.zeros((len(ids), int(label.max()) + 1), np.int64)
    np.add.at(labels_of_block, (index, label), 1)

    best, best_fit = np.zeros(len(ids), bool), (-1.0, -1.0)
    for draw in range(DRAWS):
        held = np.zeros(len(ids), bool)
        order = _shuffled(np.arange(len(ids)), f"{key} draw {draw}")
        held[order[: max(1, round(TEST_SHARE * len(ids)))]] = True
        test, train = labels_of_block[held].sum(0), labels_of_block[~held].sum(0)
        miss = abs(test.sum() / len(block) - TEST_SHARE) - TEST_SHARE_TOLERANCE
        seen = test[train > 0].sum() / test.sum()
        fit = (min(0.0, -miss), min(SEEN_SHARE, seen))
        if fit > best_fit:
            best, best_fit = held, fit
        if best_fit == (0.0, SEEN_SHARE):
            break
    return np.asarray(best[index])


def _shuffled(ids: Ints, key: str) -> Ints:
    """The ids in an order that depends on the key alone."""
    return ids[np.argsort(mix(ids, zlib.crc32(key.encode())), kind="stable")]
