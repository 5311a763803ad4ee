"""The record of an evaluation: what scores.json holds, and the same as a long table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raytrain.evaluation import history
from raytrain.evaluation.cards import Labelled
from raytrain.evaluation.geometry import geometry
from raytrain.evaluation.roster import Row
from raytrain.evaluation.scores import Scores, named

Record = dict[str, Any]
Families = Mapping[str, Sequence[Row]]


def record(
    families: Families,
    labelled: Sequence[Labelled],
    tables: Sequence[Scores],
    pooled: Sequence[Scores],
    skipped: Sequence[str],
) -> Record:
    """Rows, tasks, tables, geometry, and of runs their retrieval and training curves, for JSON.

    `families` is that of `roster.families`; `tables` have its members as rows, `pooled` itself.
    """
    encoders = [name for name, members in families.items() if members[0].kind == "encoder"]
    runs = {m.name: m.run_url for members in families.values() for m in members if m.run_url}
    curves = {name: found for name, url in runs.items() if (found := history.history(url))}
    retrieval = {name: found for name, url in runs.items() if (found := history.retrieval(url))}
    return {
        "rows": [_row(name, members, tables[0]) for name, members in families.items()],
        "skipped": list(skipped),
        "tasks": [_task(item) for item in labelled],
        "tables": [_table(table, encoders) for table in pooled],
        "geometry": {
            name: geometry(members[0].encode)
            for name, members in families.items()
            if members[0].encode is not None
        },
        "retrieval": retrieval,
        "curves": curves,
        "spike_rule": history.SPIKE_RULE,
    }


def long_table(tables: Sequence[Scores]) -> pd.DataFrame:
    """A line for each row, task, label budget, seed, split and probe."""
    lines = []
    for table in tables:
        for (r, t, b, s), value in np.ndenumerate(table.values):
            row, task = table.rows[r], table.tasks[t]
            lines.append(
                {
                    "split": table.settings["split"],
                    "probe": table.settings["probe"],
                    "row": row,
                    "task": task,
                    "budget": named(table.budgets[b]),
                    "labels": int(table.labels[t, b, s]),
                    "seed": s,
                    "score": value,
                    "penalty": table.penalties[r, t, b, s],
                    "leaked": task in table.leaks.get(row, ()),
                }
            )
    return pd.DataFrame(lines)


def _row(name: str, members: Sequence[Row], single: Scores) -> Record:
    encode = members[0].encode
    dim = None if encode is None else int(encode(np.zeros(1), np.zeros(1)).shape[1])
    means = {named(b): [single.mean(m.name, b) for m in members] for b in single.budgets}
    notes = []
    if len(members) > 1:
        listed = [f"{b} " + ", ".join(f"{v:.3f}" for v in each) for b, each in means.items()]
        notes.append(f"mean of {len(members)} training seeds: " + "; ".join(listed))
    if members[0].taught:
        notes.append(members[0].taught)
    return {
        "name": name,
        "kind": members[0].kind,
        "dim": dim,
        "members": [m.name for m in members],
        "member_means": means,
        "note": ". ".join(notes) or None,
    }


def _task(item: Labelled) -> Record:
    return {
        "name": item.task.name,
        "title": item.task.name.replace("_", " "),
        "metric": item.task.metric,
        "labels": len(item.task.y),
        "units": item.card.units,
        "credit": item.card.credit,
        "note": "; ".join(item.notes) or None,
    }


def _table(table: Scores, compared: Sequence[str]) -> Record:
    content = table.to_dict()
    budgets = [named(budget) for budget in table.budgets]
    return {
        "split": table.settings["split"],
        "probe": table.settings["probe"],
        "seeds": table.settings["seeds"],
        "budgets": budgets,
        "short": {named(budget): table.short_of(budget) for budget in table.budgets},
        "counts": {n: round(float(table.labels[:, b].mean())) for b, n in enumerate(budgets)},
        **{key: content[key] for key in ("scores", "leaks", "seen_classes", "settings")},
        "ranks": {named(budget): table.ranks(budget) for budget in table.budgets},
        "comparisons": [
            {"budget": named(budget), **vars(pair)}
            for budget in table.budgets
            for pair in table.compare(compared, budget)
        ],
    }
