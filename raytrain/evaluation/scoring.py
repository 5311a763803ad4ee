"""Scoring: encoders and baselines x tasks x label budgets x seeds, under one protocol."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raytrain.evaluation import fitted, probes, splits, statistics
from raytrain.evaluation.probes import Prediction
from raytrain.evaluation.roster import Row
from raytrain.evaluation.scores import Budget, Scores, named
from raytrain.evaluation.splits import Holdout, Split
from raytrain.evaluation.tasks import Task
from raytrain.geo import Array

Probe = Callable[[Array, Task, Split], Prediction]

PROBES: dict[str, Probe] = {
    "ridge": probes.ridge_probe,
    "logistic": fitted.logistic_probe,
    "knn": fitted.knn_probe,
    "mlp": fitted.mlp_probe,
}


class Cell(NamedTuple):
    """One row on one task, and the probes and splits that it is to be scored by."""

    row: Row
    task: Task
    plan: Sequence[tuple[str, Split]]


class Outcome(NamedTuple):
    """One probe of one cell on one split."""

    value: float
    penalty: float  # that the inner folds chose; nan where nothing is fitted
    sums: Array  # block 4: see statistics.block_sums
    error: Array  # of each test row: absolute, or 1 for a wrong class


Each = Callable[[Callable[[Cell], list[Outcome]], Iterable[Cell]], Iterable[list[Outcome]]]
"""`map`, or one that spreads the cells over a cluster or shows progress."""


def score(
    rows: Sequence[Row],
    tasks: Sequence[Task],
    *,
    holdouts: Sequence[Holdout] = (10.0,),
    probe_names: Sequence[str] = ("ridge",),
    budgets: Sequence[Budget] = (None, 300),
    seeds: int = 5,
    first_seed: int = 0,
    leaks: Mapping[str, Collection[str]] | None = None,
    each: Each = map,
) -> tuple[Scores, ...]:
    """Score encoders by probes, and label baselines, on the same held-out places: one table for
    each of `holdouts` (see splits.split) and each probe, the first of them the headline. Splits are
    those of `seeds` seeds, from `first_seed` on.

    `leaks` names, by row, the tasks whose labels its pretraining saw. Raises TaskError for a task
    that cannot be split or a broken encoder.
    """
    split_seeds = range(first_seed, first_seed + seeds)
    plans = {
        (task.name, holdout): [
            splits.split(task, holdout=holdout, seed=seed, budget=budget)
            for budget in budgets
            for seed in split_seeds
        ]
        for task in tasks
        for holdout in holdouts
    }
    tables = [(holdout, probe) for holdout in holdouts for probe in probe_names]
    cells = [
        Cell(row, task, [(probe, part) for h, probe in tables for part in plans[task.name, h]])
        for row in rows
        for task in tasks
    ]
    outcomes = list(each(score_cell, cells))
    parts = len(budgets) * seeds
    made = []
    for number, (holdout, probe) in enumerate(tables):
        mine = [outcome[number * parts : (number + 1) * parts] for outcome in outcomes]
        splits_of = {task: plans[task.name, holdout] for task in tasks}
        settings = _settings(tasks, holdout, probe, budgets, split_seeds)
        made.append(_gathered(rows, splits_of, mine, budgets, leaks or {}, settings))
    return tuple(made)


def score_cell(cell: Cell) -> list[Outcome]:
    """Score one row on one task; its embedding is computed once for all probes and splits."""
    row, task, plan = cell
    x = None if row.encode is None else probes.features(row.encode, task, row.name)
    outcomes = []
    for probe, split in plan:
        if x is not None:
            y, penalty = PROBES[probe](x, task, split)
        else:
            assert row.predict is not None
            y, penalty = row.predict(task, split), float("nan")
        error = np.abs(y - task.y[split.test])
        outcomes.append(
            Outcome(
                value=task.score(y, split.test),
                penalty=penalty,
                sums=statistics.block_sums(task, split.test, y),
                error=error if task.classes is None else (error > 0).astype(float),
            )
        )
    return outcomes


def _gathered(
    rows: Sequence[Row],
    splits_of: Mapping[Task, Sequence[Split]],
    outcomes: Sequence[Sequence[Outcome]],
    budgets: Sequence[Budget],
    leaks: Mapping[str, Collection[str]],
    settings: Mapping[str, Any],
) -> Scores:
    """One table from its outcomes by cell (rows first, then tasks) and split."""
    tasks = list(splits_of)
    seen = [[splits.seen_share(task, part) for part in splits_of[task]] for task in tasks]
    grid = (len(rows), len(tasks), len(budgets), -1)
    seeds, largest = len(seen[0]) // len(budgets), _largest(budgets)
    most = slice(largest * seeds, (largest + 1) * seeds)
    return Scores(
        rows=tuple(row.name for row in rows),
        tasks=tuple(task.name for task in tasks),
        budgets=tuple(budgets),
        values=np.array([[o.value for o in cell] for cell in outcomes]).reshape(grid),
        penalties=np.array([[o.penalty for o in cell] for cell in outcomes]).reshape(grid),
        sums=np.array([[o.sums for o in cell] for cell in outcomes]).reshape(
            *grid, statistics.BLOCKS, statistics.SUMS
        ),
        seen=np.array(seen).reshape(len(tasks), len(budgets), -1),
        labels=np.array([[len(p.train) for p in splits_of[t]] for t in tasks]).reshape(
            len(tasks), len(budgets), -1
        ),
        errors={
            (row.name, task.name): _error_by_place(task, splits_of[task][most], cell[most])
            for (row, task), cell in zip(product(rows, tasks), outcomes, strict=True)
        },
        leaks=leaks,
        settings=settings,
    )


def _error_by_place(
    task: Task, parts: Sequence[Split], outcomes: Sequence[Outcome]
) -> NDArray[np.float64]:
    """Mean error at each place [n]; nan where it was in no test."""
    total, times = np.zeros(len(task.y)), np.zeros(len(task.y))
    for part, outcome in zip(parts, outcomes, strict=True):
        total[part.test] += outcome.error
        times[part.test] += 1
    with np.errstate(invalid="ignore"):
        return np.asarray(total / times)


def _largest(budgets: Sequence[Budget]) -> int:
    """Where the largest budget is."""
    sizes = [math.inf if budget is None else budget for budget in budgets]
    return sizes.index(max(sizes))


def _settings(
    tasks: Sequence[Task],
    holdout: Holdout,
    probe: str,
    budgets: Sequence[Budget],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """What somebody needs to repeat the table."""
    inner = f"chosen on {splits.INNER_FOLDS} inner folds of blocks"
    return {
        "split": splits.describe(holdout),
        "test_share": None if holdout == "continent" else splits.TEST_SHARE,
        "seeds": list(seeds),
        "budgets": [named(budget) for budget in budgets],
        "tasks": {t.name: {"labels": len(t.y), "metric": t.metric} for t in tasks},
        "features": "standardised on the training rows",
        "targets": "standardised on the training rows; classes one-hot",
        "probe": probe,
        "hyperparameter": f"penalty {inner}" if probe == "ridge" else inner,
        "penalties": [float(p) for p in probes.PENALTIES],
        "mean": "over tasks without a leak, each clipped below at -1",
    }
