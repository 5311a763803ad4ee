"""Parallel coordinates: an axis for every setting of a sweep and one for the score."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from raytrain.evaluation import charts
from raytrain.evaluation.charts import Axis, Point
from raytrain.evaluation.pages import Record, number, plain
from raytrain.tuning.plots import Line, ranked, shade
from raytrain.tuning.words import exact, short

SCORE = ""  # the path of the axis that is no setting
LOW_END = 87.0  # of the axes of parallel coordinates; below pass trials that have no value
MISSING = 96.5  # where these pass
SPREAD = 5.0  # of trials that pass an axis at the same value, at most
BENDS = 12  # straight pieces of a bend between two axes


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


def lines(axes: Sequence[Coordinate], trials: Sequence[Record], y: Axis | None) -> list[Line]:
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
            shade=shade(y, trial["score"]),
            end=points[-1],
            at=json.dumps([at for _, at in through]),
        )
        made.append(line)
    return made


def _coordinate(path: Record, x: float, values: Sequence[Any], passed: bool) -> Coordinate:
    """Holds what was searched, and what a default beyond it has."""
    options: dict[str, Any] = {}
    scale = None
    if path["kind"] == "number":
        log = bool(path.get("log"))
        known = [v for v in (*path["values"], *values) if number(v) is not None]
        # A default of 0 has no place on a logarithmic axis; it is drawn at the end.
        scale = charts.logarithmic(v for v in known if v > 0) if log else charts.linear(known)
        ticks = _ticks(scale)
    else:
        options = _options((*path["values"], *values))
        height = LOW_END / max(1, len(options))
        ticks = tuple(
            Tick(y=round(height * (i + 0.5), 2), label=short(value), full=text, choice=i)
            for i, (text, value) in enumerate(options.items())
        )
    return Coordinate(
        path=path["path"],
        x=x,
        ticks=ticks,
        scale=scale,
        options=tuple(options),
        passed=passed,
        when=path["when"],
    )


def _options(values: Sequence[Any]) -> dict[str, Any]:
    """Choices by their JSON, in the order given from above; of numbers the highest above."""
    options = {exact(value): value for value in values}
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in options.values()):
        return dict(sorted(options.items(), key=lambda item: -item[1]))
    return options


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
