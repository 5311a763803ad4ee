"""Lines and points of a sweep's charts, in per cent of a plot's width and height.

Every trial is a polyline of each chart, so that one script finds the trial under a pointer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytrain.evaluation import charts
from raytrain.evaluation.charts import Axis, Number, Point
from raytrain.evaluation.pages import Record, number

FAR = 1.5  # interquartile ranges below the lower quartile a score is an outlier (Tukey)
ALONE = 0.05  # of score around the only one
FEW = 4  # scores, of which none is called an outlier
LABEL_GAP = (6.0, 8.0)  # labels of points nearer to one another than this would touch


@dataclass(frozen=True, kw_only=True)
class Line:
    """A trial in a chart. `shade` 0..100 is where its score lies, None where it has none; `at`
    (JSON) is what filters ask of it, by axis: which choice, what share of the range, or null."""

    trial: Record
    points: str
    shade: float | None
    end: Point
    at: str = ""

    @property
    def last(self) -> str:
        return charts.path([self.end, self.end])


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Score against a cost; the front is the staircase through the trials that nothing beats."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    front: str
    on_front: tuple[int, ...]
    labels: tuple[tuple[int, Number, Number], ...]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Score against steps."""

    x: Axis
    y: Axis
    lines: tuple[Line, ...]


def score_axis(scores: Iterable[Any]) -> Axis | None:
    """Around all scores but outliers below, which would squeeze the others; None without any."""
    known = [score for value in scores if (score := number(value)) is not None]
    if not known:
        return None
    lowest, highest = min(known), max(known)
    if lowest == highest:
        return charts.linear([lowest - ALONE, lowest + ALONE])
    if len(known) >= FEW:
        low, high = np.quantile(known, [0.25, 0.75])
        if high > low:
            lowest = max(lowest, low - FAR * (high - low))
    return charts.linear(max(score, lowest) for score in known)


def ranked(trials: Iterable[Record]) -> list[Record]:
    """Best score first; those without one last, by number."""
    return sorted(trials, key=lambda t: (-_score(t), t["number"]))


def shade(y: Axis | None, score: Any) -> float | None:
    """Where a score lies on an axis, 0..100; outliers at its end."""
    known = number(score)
    return None if y is None or known is None else y.at(max(known, y.low))


def curves(trials: Sequence[Record]) -> Curves | None:
    """Score against steps of every trial that has a score anywhere, the best on top."""
    known = {t["number"]: [(s, v) for s, v in t["curve"] if number(v) is not None] for t in trials}
    y = score_axis(value for curve in known.values() for _, value in curve)
    finals = score_axis(t["score"] for t in trials)
    if y is None:
        return None
    steps = {step for curve in known.values() for step, _ in curve}
    last = max(*steps, 1)
    x = Axis(0, last, tuple(tick for tick in charts.linear([0, last]).ticks if tick <= last))
    lines = [
        _line(trial, x, y, known[trial["number"]], finals)
        for trial in reversed(ranked(trials))
        if known[trial["number"]]
    ]
    return Curves(x=x, y=y, lines=tuple(lines))


def scatter(
    trials: Sequence[Record], cost: str, title: str, front: Sequence[int], y: Axis | None
) -> Scatter | None:
    """Score against a cost; parameters on a logarithmic axis. None where no trial has both."""
    log = cost == "parameters"
    known = {
        t["number"]: t
        for t in reversed(ranked(trials))
        if number(t["score"]) is not None
        and (price := number(t[cost])) is not None
        and (price > 0 or not log)
    }
    if not known or y is None:
        return None
    costs = [t[cost] for t in known.values()]
    x = charts.logarithmic(costs) if log else charts.linear([0, *costs])
    lines = {n: _line(t, x, y, [(t[cost], t["score"])] * 2, y) for n, t in known.items()}
    cheap_first = sorted((n for n in front if n in lines), key=lambda n: known[n][cost])
    stairs: list[Point] = []
    for n in cheap_first:
        right, up = lines[n].end
        stairs += [(right, stairs[-1][1] if stairs else 100), (right, up)]
    if stairs:
        stairs.append((100, stairs[-1][1]))
    labels = _labels({n: lines[n].end for n in reversed(cheap_first)})
    return Scatter(
        title=title,
        x=x,
        y=y,
        lines=tuple(lines.values()),
        front=charts.path(stairs),
        on_front=tuple(cheap_first),
        labels=tuple(labels),
    )


def _line(trial: Record, x: Axis, y: Axis, places: Sequence[Point], shades: Axis | None) -> Line:
    inside = charts.points(x, y, [(a, max(b, y.low)) for a, b in places])
    if len(inside) == 1:
        inside *= 2  # a point, which round ends show
    height = shade(shades, trial["score"])
    return Line(trial=trial, points=charts.path(inside), shade=height, end=inside[-1])


def _labels(ends: Mapping[int, Point]) -> Iterable[tuple[int, Number, Number]]:
    """Numbers of points, without those that would touch an earlier one."""
    kept: list[Point] = []
    for n, (x, y) in ends.items():
        if all(abs(x - a) >= LABEL_GAP[0] or abs(y - b) >= LABEL_GAP[1] for a, b in kept):
            kept.append((x, y))
            yield n, x, y


def _score(trial: Record) -> float:
    score = number(trial["score"])
    return -np.inf if score is None else score
