"""The table: encoders and baselines x tasks x label budgets x seeds, under one protocol."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytrain.evaluation import baselines, probes, splits
from raytrain.evaluation.baselines import LabelBaseline
from raytrain.evaluation.probes import Encoder
from raytrain.evaluation.splits import Holdout
from raytrain.evaluation.tasks import Task
from raytrain.geo import Array

Budget = int | None  # labels to train on; None is all of them

LABEL_BASELINES: dict[str, LabelBaseline] = {
    "label-kNN": baselines.label_knn,
    "inverse distance": baselines.inverse_distance,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """R² or accuracy of every row (encoder or baseline) on every task, budget and seed."""

    rows: tuple[str, ...]
    tasks: tuple[str, ...]
    budgets: tuple[Budget, ...]
    values: Array  # row task budget seed
    penalties: Array  # row task budget seed; nan where nothing was fitted
    seen: Array  # task budget seed: share of test labels whose class occurs in training
    leaks: Mapping[str, Collection[str]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def of(self, row: str, budget: Budget, task: str | None = None) -> NDArray[np.float64]:
        """Scores [seed]; without a task the mean over clean tasks, each clipped below at -1."""
        values = self.values[self.rows.index(row), :, self.budgets.index(budget)]  # t s
        if task is not None:
            return np.asarray(values[self.tasks.index(task)])
        clean = [self.tasks.index(name) for name in self.clean_tasks]
        return np.asarray(np.maximum(values[clean], -1).mean(0))

    @property
    def clean_tasks(self) -> tuple[str, ...]:
        """Tasks whose labels no row saw in pretraining; the mean is taken over these."""
        leaked = {task for tasks in self.leaks.values() for task in tasks}
        return tuple(task for task in self.tasks if task not in leaked)

    def mean(self, row: str, budget: Budget, task: str | None = None) -> float:
        return float(self.of(row, budget, task).mean())

    def std(self, row: str, budget: Budget, task: str | None = None) -> float:
        """Standard deviation over seeds, not of the mean."""
        return float(self.of(row, budget, task).std())

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON: settings, and mean, std and seeds of every cell."""
        return {
            "settings": dict(self.settings),
            "leaks": {row: sorted(tasks) for row, tasks in self.leaks.items()},
            "seen_classes": {
                task: {_named(b): float(self.seen[t, i].mean()) for i, b in enumerate(self.budgets)}
                for t, task in enumerate(self.tasks)
            },
            "scores": {
                row: {
                    _named(budget): {
                        task or "mean": self._cell(row, budget, task)
                        for task in (*self.tasks, *((None,) if self.clean_tasks else ()))
                    }
                    for budget in self.budgets
                }
                for row in self.rows
            },
        }

    def _cell(self, row: str, budget: Budget, task: str | None) -> dict[str, Any]:
        seeds = self.of(row, budget, task)
        cell: dict[str, Any] = {
            "mean": round(float(seeds.mean()), 4),
            "std": round(float(seeds.std()), 4),
            "seeds": [round(float(s), 4) for s in seeds],
        }
        if task is not None:
            at = self.rows.index(row), self.tasks.index(task), self.budgets.index(budget)
            fitted = self.penalties[at]
            cell["penalties"] = [float(p) for p in fitted if np.isfinite(p)]
        return cell

    def text(self) -> str:
        """Markdown tables, one a budget; cells are mean±std over seeds, `*` marks a leak."""
        return "\n\n".join(self._table(budget) for budget in self.budgets)

    def _table(self, budget: Budget) -> str:
        columns: list[str | None] = [*self.tasks, *([None] if self.clean_tasks else [])]
        lines = [["", *((task or "mean") for task in columns)]]
        for row in self.rows:
            marks = ["*" if task in self.leaks.get(row, ()) else "" for task in columns]
            cells = [
                f"{self.mean(row, budget, task):.3f}±{self.std(row, budget, task):.3f}{mark}"
                for task, mark in zip(columns, marks, strict=True)
            ]
            lines.append([row, *cells])
        seen = self.seen[:, self.budgets.index(budget)].mean(1)
        unseen = [f"{t} {s:.0%}" for t, s in zip(self.tasks, seen, strict=True) if s < 0.995]
        notes = []
        if unseen:
            notes.append("test labels of a class seen in training: " + ", ".join(unseen))
        if self.leaks:
            notes.append("* a modality of the encoder holds this label; left out of the mean")
        title = f"{_named(budget)}; mean±std over {self.values.shape[-1]} seeds"
        return "\n".join([title, *_aligned(lines), *notes])


def score(
    encoders: Mapping[str, Encoder],
    tasks: Sequence[Task],
    *,
    holdout: Holdout = 10.0,
    budgets: Sequence[Budget] = (None, 300),
    seeds: int = 5,
    label_baselines: Mapping[str, LabelBaseline] = LABEL_BASELINES,
    leaks: Mapping[str, Collection[str]] | None = None,
) -> Scores:
    """Score encoders by ridge probes, and label baselines, on the same held-out places.

    `holdout` is that of `splits.split`. `leaks` names, by encoder, the tasks whose labels its
    pretraining saw. Raises TaskError for a task that cannot be split or a broken encoder.
    """
    rows = (*label_baselines, *encoders)
    shape = (len(rows), len(tasks), len(budgets), seeds)
    values, penalties = np.full(shape, np.nan), np.full(shape, np.nan)
    seen = np.ones(shape[1:])
    dims: dict[str, int] = {}
    for t, task in enumerate(tasks):
        parts = [
            (b, s, splits.split(task, holdout=holdout, seed=s, budget=budget))
            for b, budget in enumerate(budgets)
            for s in range(seeds)
        ]
        for b, s, part in parts:
            seen[t, b, s] = splits.seen_share(task, part)
        for r, row in enumerate(rows):
            if row in encoders:
                x = probes.features(encoders[row], task, row)
                dims[row] = x.shape[1]
            for b, s, part in parts:
                if row in encoders:
                    y, penalties[r, t, b, s] = probes.ridge_probe(x, task, part)
                else:
                    y = label_baselines[row](task, part)
                values[r, t, b, s] = task.score(y, part.test)
    return Scores(
        rows=rows,
        tasks=tuple(task.name for task in tasks),
        budgets=tuple(budgets),
        values=values,
        penalties=penalties,
        seen=seen,
        leaks=dict(leaks or {}),
        settings=_settings(tasks, holdout, budgets, seeds, dims),
    )


def _settings(
    tasks: Sequence[Task],
    holdout: Holdout,
    budgets: Sequence[Budget],
    seeds: int,
    dims: Mapping[str, int],
) -> dict[str, Any]:
    """What somebody needs to repeat the table."""
    return {
        "split": splits.describe(holdout),
        "test_share": None if holdout == "continent" else splits.TEST_SHARE,
        "seeds": list(range(seeds)),
        "budgets": [_named(budget) for budget in budgets],
        "tasks": {t.name: {"labels": len(t.y), "metric": t.metric} for t in tasks},
        "features": "standardised on the training rows",
        "targets": "standardised on the training rows; classes one-hot",
        "probe": f"ridge, penalty chosen on {splits.INNER_FOLDS} inner folds of blocks",
        "penalties": [float(p) for p in probes.PENALTIES],
        "dims": dict(dims),
        "mean": "over tasks without a leak, each clipped below at -1",
    }


def _named(budget: Budget) -> str:
    return "all labels" if budget is None else f"{budget} labels"


def _aligned(lines: list[list[str]]) -> list[str]:
    width = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines = [lines[0], ["-" * w for w in width], *lines[1:]]
    return [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, width, strict=True)) + " |"
        for line in lines
    ]
