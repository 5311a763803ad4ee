"""The table: what every row scored on every task, and what can be said of it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytrain.evaluation import statistics
from raytrain.evaluation.statistics import Comparison
from raytrain.geo import Array

Budget = int | None  # labels to train on; None is all of them


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """R² or accuracy of each row on each task, budget and seed, for one kind of split and probe."""

    rows: tuple[str, ...]
    tasks: tuple[str, ...]
    budgets: tuple[Budget, ...]
    values: Array  # row task budget seed
    penalties: Array  # row task budget seed; nan where nothing was fitted
    sums: Array  # row task budget seed block 4: see statistics.block_sums
    seen: Array  # task budget seed: share of test labels whose class occurs in training
    labels: NDArray[np.int64]  # task budget seed: how many a probe was trained on
    errors: Mapping[tuple[str, str], Array]  # row, task -> error at each place; nan: in no test
    leaks: Mapping[str, Collection[str]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def of(self, row: str, budget: Budget, task: str | None = None) -> NDArray[np.float64]:
        """Scores [seed]; without a task the mean over clean tasks, each clipped below at -1."""
        values = self.values[self.rows.index(row), :, self.budgets.index(budget)]  # t s
        if task is not None:
            return np.asarray(values[self.tasks.index(task)])
        return np.asarray(np.maximum(values[self._clean], -1).mean(0))

    @property
    def clean_tasks(self) -> tuple[str, ...]:
        """Tasks whose labels no row saw in pretraining; the mean is taken over these."""
        leaked = {task for tasks in self.leaks.values() for task in tasks}
        return tuple(task for task in self.tasks if task not in leaked)

    @property
    def _clean(self) -> list[int]:
        return [self.tasks.index(name) for name in self.clean_tasks]

    def mean(self, row: str, budget: Budget, task: str | None = None) -> float:
        return float(self.of(row, budget, task).mean())

    def std(self, row: str, budget: Budget, task: str | None = None) -> float:
        """Standard deviation over seeds, not of the mean."""
        return float(self.of(row, budget, task).std())

    def ranks(self, budget: Budget) -> dict[str, float]:
        """Mean rank of each row over the clean tasks; 1 is the best."""
        values = self.values[:, self._clean, self.budgets.index(budget)].mean(-1)
        return dict(zip(self.rows, statistics.mean_ranks(values).tolist(), strict=True))

    def compare(self, rows: Sequence[str], budget: Budget) -> list[Comparison]:
        """Each of `rows` against every other row, by the mean over clean tasks."""
        at = self.budgets.index(budget)
        draws = statistics.bootstrap(self.sums[:, self._clean, at])
        means = np.array([self.mean(row, budget) for row in self.rows])
        return [
            statistics.compare(self.rows, draws, means, a, b)
            for a in rows
            for b in self.rows
            if a != b
        ]

    def pooled(self, families: Mapping[str, Sequence[str]]) -> "Scores":
        """The table with the mean of its members, such as training seeds, for each new row."""
        members = [[self.rows.index(name) for name in names] for names in families.values()]

        def pool(values: Array) -> Array:
            return np.stack([values[rows].mean(0) for rows in members])

        errors = {
            (family, task): np.mean([self.errors[name, task] for name in names], axis=0)
            for family, names in families.items()
            for task in self.tasks
        }
        leaks = {
            family: {task for name in names for task in self.leaks.get(name, ())}
            for family, names in families.items()
        }
        return replace(
            self,
            rows=tuple(families),
            values=pool(self.values),
            penalties=pool(self.penalties),
            sums=pool(self.sums),
            errors=errors,
            leaks={family: tasks for family, tasks in leaks.items() if tasks},
        )

    def short_of(self, budget: Budget) -> dict[str, int]:
        """Tasks that have fewer labels to train on than the budget, and how many on average."""
        labels = self.labels[:, self.budgets.index(budget)].mean(1)
        found = {task: round(float(n)) for task, n in zip(self.tasks, labels, strict=True)}
        return {task: n for task, n in found.items() if budget is not None and n < budget}

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON: settings, and mean, std and seeds of every cell."""
        return {
            "settings": dict(self.settings),
            "leaks": {row: sorted(tasks) for row, tasks in self.leaks.items()},
            "seen_classes": {
                task: {named(b): float(self.seen[t, i].mean()) for i, b in enumerate(self.budgets)}
                for t, task in enumerate(self.tasks)
            },
            "scores": {
                row: {
                    named(budget): {
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
        if short := self.short_of(budget):
            fewer = ", ".join(f"{task} {labels:,}" for task, labels in short.items())
            notes.append(f"fewer labels to train on than {budget:,}: {fewer}")
        if self.leaks:
            notes.append("* a modality of the encoder holds this label; left out of the mean")
        seeds = self.values.shape[-1]
        how = f"{self.settings['split']}, {self.settings['probe']} probe"
        title = f"{named(budget)}; {how}; mean±std over {seeds} seeds"
        return "\n".join([title, *_aligned(lines), *notes])


def named(budget: Budget) -> str:
    """A label budget in words."""
    return "all labels" if budget is None else f"{budget} labels"


def _aligned(lines: list[list[str]]) -> list[str]:
    width = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines = [lines[0], ["-" * w for w in width], *lines[1:]]
    return [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, width, strict=True)) + " |"
        for line in lines
    ]
