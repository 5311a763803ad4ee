"""Lines and points of a sweep's charts, in per cent of a plot's width and height.

Every trial is a polyline of each chart, so that one script finds the trial under a pointer.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from raytrain.evaluation import charts
from raytrain.evaluation.charts import Axis, Number, Point
from raytrain.evaluation.pages import Record, number, plain
from raytrain.tuning.words import exact, short

SCORE = ""  # the path of the axis that is no setting
FAR = 1.5  # interquartile ranges below the lower quartile a score is an outlier (Tukey)
FEW = 4  # scores, of which none is called an outlier
LOW_END = 87.0  # of the axes of parallel coordinates; below pass trials that have no value
MISSING = 96.5  # where these pass
SPREAD = 5.0  # of trials that pass an axis at the same value, at most
BENDS = 12  # straight pieces of a bend between two axes
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
class Tick:
    """A label on an axis of parallel coordinates; `choice` is what its button filters by."""

    y: float
    label: str
    full: str
    choice: int | None = None


@dataclass(frozen=True, kw_only=True)
class Coordinate:
    """An axis of parallel coordinates. `scale` is None for a choice, of `options` (JSON)."""

    path: str
    x: float
    ticks: tuple[Tick, ...]
    scale: Axis | None
    options: tuple[str, ...] = ()
    passed: bool = False  # by a trial that has no value
    when: Mapping[str, Sequence[Any]]

    def find(self, value: Any) -> tuple[float, float | int]:
        """Height of a value, and what filters ask of it."""
        if self.scale is None:
            choice = self.options.index(exact(value))
            return self.ticks[choice].y, choice
        share = self.scale.at(max(value, self.scale.low)) / 100
        return LOW_END * (1 - share), round(share, 4)


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
    lowest = min(known)
    if len(known) >= FEW:
        low, high = np.quantile(known, [0.25, 0.75])
        if high > low:
            lowest = max(lowest, low - FAR * (high - low))
    return charts.linear(max(score, lowest) for score in known)


def ranked(trials: Iterable[Record]) -> list[Record]:
    """Best score first; those without one last, by number."""
    return sorted(trials, key=lambda t: (-_score(t), t["number"]))


def coordinates(
    paths: Sequence[Record], trials: Sequence[Record], y: Axis | None
) -> list[Coordinate]:
    """An axis a path, and one of the score."""
    axes = []
    for i, path in enumerate(paths):
        x = round(100 * i / (len(paths) + 1), 2)
        values = [t["values"][path["path"]] for t in trials if path["path"] in t["values"]]
        passed = len(values) < len(trials)
        axes.append(_coordinate(path, x, values, passed))
    x = round(100 * len(paths) / (len(paths) + 1), 2)
    missing = any(number(t["score"]) is None for t in trials)
    scale = y or Axis(0, 1, ())
    axes.append(
        Coordinate(path=SCORE, x=x, ticks=_ticks(scale), scale=scale, passed=missing, when={})
    )
    return axes


def parallel(axes: Sequence[Coordinate], trials: Sequence[Record], y: Axis | None) -> list[Line]:
    """Every trial through all axes, the best on top. Where several pass an axis at the same value
    they are spread, better ones above."""
    best_first = ranked(trials)
    heights: dict[int, list[tuple[float, float | int | None]]] = {t["number"]: [] for t in trials}
    for axis in axes:
        found = [_pass(axis, trial) for trial in best_first]
        level = {height: sum(h == height for h, _ in found) for height, _ in found}
        seen = dict.fromkeys(level, 0)
        for trial, (height, at) in zip(best_first, found, strict=True):
            share = (seen[height] + 0.5) / level[height] - 0.5
            seen[height] += 1
            wide = min(SPREAD, 0.9 * (level[height] - 1))
            spread = share * wide if axis.scale is None or at is None else 0.0
            heights[trial["number"]].append((height + spread, at))
    made = []
    for trial in reversed(best_first):
        through = heights[trial["number"]]
        points = [(axis.x, height) for axis, (height, _) in zip(axes, through, strict=True)]
        line = Line(
            trial=trial,
            points=charts.path(_bent(points)),
            shade=_shade(y, trial["score"]),
            end=points[-1],
            at=json.dumps([at for _, at in through]),
        )
        made.append(line)
    return made


def curves(trials: Sequence[Record]) -> Curves | None:
    """Score against steps of every trial that has a score anywhere, the best on top."""
    known = {t["number"]: [(s, v) for s, v in t["curve"] if number(v) is not None] for t in trials}
    y = score_axis(value for curve in known.values() for _, value in curve)
    finals = score_axis(t["score"] for t in trials)
    if y is None:
        return None
    steps = {step for curve in known.values() for step, _ in curve}
    x = charts.linear([0, *steps])
    x = Axis(0, max(steps), tuple(tick for tick in x.ticks if tick <= max(steps)))
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


def _coordinate(path: Record, x: float, values: Sequence[Any], passed: bool) -> Coordinate:
    """Holds what was searched, and what a default beyond it has."""
    if path["kind"] == "number":
        known = [float(v) for v in (*path["values"], *values) if number(v) is not None]
        scale = (charts.logarithmic if path.get("log") else charts.linear)(known)
        return Coordinate(
            path=path["path"],
            x=x,
            ticks=_ticks(scale),
            scale=scale,
            passed=passed,
            when=path["when"],
        )
    options = {exact(value): value for value in (*path["values"], *values)}
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in options.values()):
        options = dict(sorted(options.items(), key=lambda item: -item[1]))  # high ones above
    ticks = [
        Tick(
            y=round(LOW_END * (i + 0.5) / len(options), 2),
            label=short(value),
            full=text,
            choice=i,
        )
        for i, (text, value) in enumerate(options.items())
    ]
    return Coordinate(
        path=path["path"],
        x=x,
        ticks=tuple(ticks),
        scale=None,
        options=tuple(options),
        passed=passed,
        when=path["when"],
    )


def _ticks(scale: Axis) -> tuple[Tick, ...]:
    return tuple(
        Tick(y=round(LOW_END * (1 - scale.at(t) / 100), 2), label=plain(t), full=plain(t))
        for t in scale.ticks
    )


def _pass(axis: Coordinate, trial: Record) -> tuple[float, float | int | None]:
    values = {**trial["values"], SCORE: trial["score"]}
    if axis.path not in values or (axis.scale and number(values[axis.path]) is None):
        return MISSING, None
    return axis.find(values[axis.path])


def _bent(points: Sequence[Point]) -> list[Point]:
    """A line that meets every axis at a right angle, so that it can be followed across."""
    if len(points) == 1:
        return [points[0], points[0]]
    shares = np.linspace(0, 1, BENDS, endpoint=False)
    line: list[Point] = []
    for (x0, y0), (x1, y1) in pairwise(points):
        rise = shares**2 * (3 - 2 * shares)
        xs, ys = x0 + shares * (x1 - x0), y0 + rise * (y1 - y0)
        line += zip(xs.round(1).tolist(), ys.round(1).tolist(), strict=True)
    return [*line, points[-1]]


def _line(trial: Record, x: Axis, y: Axis, places: Sequence[Point], shades: Axis | None) -> Line:
    inside = charts.points(x, y, [(a, max(b, y.low)) for a, b in places])
    if len(inside) == 1:
        inside *= 2  # a point, which round ends show
    shade = _shade(shades, trial["score"])
    return Line(trial=trial, points=charts.path(inside), shade=shade, end=inside[-1])


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


def _shade(y: Axis | None, score: Any) -> float | None:
    known = number(score)
    return None if y is None or known is None else y.at(max(known, y.low))
