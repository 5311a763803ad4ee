"""One self-contained HTML page of a hyperparameter sweep: verdict, tables and charts to explore."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from raytrain.evaluation import charts
from raytrain.evaluation.charts import Axis
from raytrain.evaluation.pages import (
    NO_VALUE,
    Record,
    difference_axis,
    number,
    outcome,
    p_value,
    score,
    signed,
    template,
)
from raytrain.tuning import parallel, plots
from raytrain.tuning.words import counted, distinct, duration, exact, listed, override, short

DEFAULT = "default"  # the finalist that was not searched for
STATES = ("finished", "stopped", "failed", "running")
SMALLEST = 0.1  # score that a whole bar is, if none is higher
KINDS = ("label baseline", "encoder baseline", "encoder")


def page(content: Record) -> str:
    """The HTML page of a sweep, from what its record holds."""
    trials = content["trials"]
    y = plots.score_axis(t["score"] for t in trials)
    axes = parallel.coordinates(content["paths"], trials, y)
    ranked = plots.ranked(trials)
    finalists = _finalists(content)
    best = _trial(trials, content["best"])
    default = _trial(trials, content["default"])
    return template(Path(__file__).with_name("page.html"), value=short).render(
        content=content,
        finalists=finalists,
        groups=_groups(finalists["rows"]) if finalists else [],
        bar_axis=_bar_axis(finalists["rows"]) if finalists else None,
        difference_axis=difference_axis(finalists["comparisons"]) if finalists else None,
        verdict=verdict(content),
        skipped=sum(t.get("skipped", 0) for t in trials),
        best=best,
        default=default,
        configurations=_configurations(finalists, best, default),
        overrides=[override(path, v) for path, v in best["values"].items()] if best else [],
        names=distinct([path["path"] for path in content["paths"]]),
        ranked=ranked,
        shown_first=best or (ranked[0] if ranked else None),
        counts=_counts(trials),
        outliers=sum(y is not None and (number(t["score"]) or y.low) < y.low for t in trials),
        y=y,
        axes=axes,
        missing=parallel.MISSING,
        low_end=parallel.LOW_END,
        through=parallel.lines(axes, trials, y),
        importance=_importance(content["importance"]),
        curves=plots.curves(trials),
        scatters=_scatters(content, y),
        settings=json.dumps(content["settings"], indent=2, ensure_ascii=False),
        no_value=NO_VALUE,
        failures=_failures(trials),
        exact=exact,
        duration=duration,
        listed=listed,
        counted=counted,
        name=_name,
    )


def verdict(content: Record) -> Markup:
    """In words: which trial is best, and whether that holds on fresh seeds."""
    trials, best = content["trials"], _trial(content["trials"], content["best"])
    objective = content["objective"]["name"]
    if best is None:
        if any(t["state"] == "running" for t in trials):
            return Markup("No trial has finished yet.")
        return Markup("No trial finished, so there is nothing to choose from.")
    default = _trial(trials, content["default"])
    named = Markup("<strong>{}</strong>").format(_name(best["number"]).capitalize())
    reached = Markup("{} {}").format(objective, score(best["score"]))
    finished = sum(t["state"] == "finished" for t in trials)
    many = counted(len(trials), "trial")
    if best is default and finished > 1:
        leads = Markup("{}, the default, is best of {}: {}.").format(named, many, reached)
    elif finished == 1:
        leads = Markup("{} is the only one that finished: {}.").format(named, reached)
    else:
        leads = Markup("{} is best of {}: {}").format(named, many, reached)
        if default and number(default["score"]) is not None:
            leads += f" against {score(default['score'])} of the default"
        leads += "."
    if finished == 1 and not content["finalists"]:
        return leads
    return leads + " " + _fresh(content, best)


def _fresh(content: Record, best: Record) -> Markup:
    """Whether the best trial is better than the default where nothing was chosen; if it is the
    default, whether the best of the others is."""
    finalists = _finalists(content)
    if not finalists:
        return Markup("It was not trained again on fresh seeds: part of its lead may be luck.")
    rows = [row["name"] for row in finalists["rows"] if row["kind"] == "encoder"]
    others = [name for name in rows if name != DEFAULT]
    first = _name(best["number"])
    who = ""
    if best["number"] == content["default"] and others:
        first, who = others[0], f"{others[0]} "
    said = []
    for pair in (_turned(pair, first) for pair in finalists["comparisons"]):
        if (pair["a"], pair["b"]) == (first, DEFAULT) and (word := outcome(pair)) != NO_VALUE:
            known = f"{signed(pair['difference'])}, {p_value(pair['p'], 'p')}"
            said.append(f"{word} with {pair['budget']} ({known})")
    if not said:
        return Markup("On fresh seeds it was not compared with the default.")
    against = Markup("On fresh seeds and other tasks, {}against the default: {}.")
    return against.format(who, listed(said))


def _finalists(content: Record) -> Record | None:
    """The finalists, called as the trials are and with the values of these."""
    found = content["finalists"]
    if not found:
        return None
    trials = content["trials"]
    values = {_name(t["number"]): t["values"] for t in trials}
    if default := _trial(trials, content["default"]):
        values[DEFAULT] = default["values"]

    def named(name: str) -> str:
        called = name.replace("-", " ", 1)
        return called if called in values else name

    rows = [{**row, "name": named(row["name"])} for row in found["rows"]]
    rows = [{**row, "values": values.get(row["name"], row.get("values"))} for row in rows]
    pairs = [
        {**pair, "a": named(pair["a"]), "b": named(pair["b"])} for pair in found["comparisons"]
    ]
    return {**found, "rows": rows, "comparisons": pairs}


def _turned(pair: Record, first: str) -> Record:
    """A comparison with `first` as its first row, where it is one of the two."""
    if pair["b"] != first:
        return pair
    known = {end: number(pair[end]) for end in ("difference", "low", "high")}
    less = {end: None if value is None else -value for end, value in known.items()}
    ends = {"difference": less["difference"], "low": less["high"], "high": less["low"]}
    return {**pair, **ends, "a": pair["b"], "b": pair["a"]}


def _configurations(
    finalists: Record | None, best: Record | None, default: Record | None
) -> list[tuple[str, Record]]:
    """What to show side by side: the finalists, else the best trial and the default."""
    rows = finalists["rows"] if finalists else []
    chosen = [(row["name"], row["values"]) for row in rows if row.get("values")]
    if chosen or best is None:
        return chosen
    shown = [(_name(best["number"]), best["values"])]
    return shown if default in (None, best) else [*shown, (DEFAULT, default["values"])]


def _counts(trials: Sequence[Record]) -> list[tuple[str, int]]:
    found = Counter(t["state"] for t in trials)
    return [(state, found[state]) for state in STATES if found[state] or state == "finished"]


def _failures(trials: Sequence[Record]) -> dict[str, list[int]]:
    """The numbers of the trials that each message is of."""
    found: dict[str, list[int]] = {}
    for trial in trials:
        if trial["error"]:
            found.setdefault(trial["error"], []).append(trial["number"])
    return found


def _groups(rows: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    members = [(kind, [row for row in rows if row["kind"] == kind]) for kind in KINDS]
    return [(kind, found) for kind, found in members if found]


def _bar_axis(rows: Sequence[Record]) -> Axis:
    """From 0 (or below) to the highest score of a seed or end of a whisker."""
    ends = [0.0, SMALLEST]
    for cell in (cell for row in rows for cell in row["scores"].values()):
        mean, std = number(cell["mean"]), number(cell["std"]) or 0.0
        ends += [s for seed in cell["seeds"] if (s := number(seed)) is not None]
        ends += [mean - std, mean + std] if mean is not None else []
    return Axis(min(ends), max(ends), ())


def _importance(importance: Record | None) -> tuple[list[Record], Axis] | None:
    """The paths that matter most first, and an axis around 0 and all whiskers."""
    if importance is None:
        return None
    rows = sorted(importance["paths"], key=lambda row: -row["mean"])
    ends = [row["mean"] + sign * row["std"] for row in rows for sign in (-1, 1)]
    return rows, charts.linear([0.0, *ends])


def _scatters(content: Record, y: Axis | None) -> list[plots.Scatter]:
    titles = {"parameters": "parameters", "seconds": "seconds of training"}
    made = (
        plots.scatter(content["trials"], cost, title, content["pareto"].get(cost, ()), y)
        for cost, title in titles.items()
    )
    return [chart for chart in made if chart]


def _trial(trials: Sequence[Record], wanted: Any) -> Record | None:
    return next((t for t in trials if t["number"] == wanted), None)


def _name(trial: int) -> str:
    return f"trial {trial}"
