"""Splits: which labels train a probe, which choose its penalty, and which test it.

Labels near a test point give its label away, so whole blocks of the sphere are held out, and the
inner folds that choose the penalty are made of blocks too. A split depends on the task, the block
size, the seed and the label budget alone: every encoder sees the same. Orders come from a hash, not
from a random generator, so that they are the same under every numpy.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raytrain.evaluation.tasks import Task, TaskError
from raytrain.geo import blocks, mix

Ints = NDArray[np.int64]

TEST_SHARE = 0.2  # of the blocks
TEST_SHARE_TOLERANCE = 0.05  # blocks hold different numbers of labels
SEEN_SHARE = 0.95  # of the test labels: their class should also occur in training
INNER_FOLDS = 3
DRAWS = 300


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Rows of a task: those that train a probe, the inner fold of each of these, and the test."""

    train: Ints
    fold: Ints  # of each training row, 0 .. INNER_FOLDS - 1
    test: Ints


def split(
    task: Task, *, degrees: float | None = 10.0, seed: int = 0, budget: int | None = None
) -> Split:
    """Hold out about a fifth of the blocks; train on `budget` of the other labels, or all of them.

    Blocks are about `degrees` of arc wide; None splits single rows at random, which flatters.
    Of up to 300 draws it takes the first whose test holds 15 to 25 % of the labels, at least 95 %
    of them of a class that also occurs in training, or else the draw that comes nearest.
    Seeds differ in their test blocks; budgets of one seed share them. Raises TaskError when the
    labels lie in too few blocks.
    """
    block = np.arange(len(task.y)) if degrees is None else blocks(task.lonlat_deg, degrees)
    key = f"{task.name} {seed}"
    in_test = _hold_out(task, block, key, degrees)
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


def seen_share(task: Task, split: Split) -> float:
    """Share of test labels whose class occurs in training: no probe can score above it."""
    if task.classes is None:
        return 1.0
    return float(np.isin(task.y[split.test], task.y[split.train]).mean())


def _hold_out(task: Task, block: Ints, key: str, degrees: float | None) -> NDArray[np.bool_]:
    """Which rows [n] lie in the test blocks."""
    ids, index = np.unique(block, return_inverse=True)
    if len(ids) <= INNER_FOLDS:
        raise TaskError(
            f"task {task.name}: its {len(block)} labels lie in {len(ids)} blocks"
            f"{'' if degrees is None else f' of {degrees:g}°'}, and a split needs more than "
            f"{INNER_FOLDS}; use smaller blocks or more labels"
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
