"""Scales and lines of the report's charts, in per cent of a plot's width and height."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Number = int | float
Point = tuple[Number, Number]

TICKS = 4  # about as many on a linear axis
CROWDED = 14.0  # labels nearer to one another than this many per cent touch on a phone
BUCKETS = 150  # of a long curve, each drawn by its lowest and highest point


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`, linear or logarithmic."""

    low: Number
    high: Number
    ticks: tuple[Number, ...]
    log: bool = False

    def at(self, value: Number) -> float:
        """Where a value lies, 0..100."""
        low, high, x = self.low, self.high, value
        if self.log:
            low, high, x = math.log(low), math.log(high), math.log(x)
        return round(100 * (x - low) / (high - low), 2)


def linear(values: Iterable[Number]) -> Axis:
    """An axis that ends on round numbers around all values."""
    low, high = _range(values)
    rough = (high - low) / TICKS
    decade = 10.0 ** math.floor(math.log10(rough))
    step = next(m * decade for m in (1, 2, 2.5, 5, 10) if m * decade >= 0.999 * rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(i * step, 12) for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def logarithmic(values: Iterable[Number]) -> Axis:
    """An axis for positive values that ends on 1, 2 or 5 times a power of ten."""
    low, high = _range(values)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [m * 10.0**decade for decade in decades for m in (1, 2, 5)]
    first = max(step for step in steps if step <= low * 1.000001)
    last = min(step for step in steps if step >= high * 0.999999)
    ticks = tuple(step for step in steps if first <= step <= last)
    if len(ticks) > TICKS + 1:
        ticks = tuple(t for t in ticks if math.isclose(math.log10(t) % 1, 0, abs_tol=1e-9))
    return Axis(first, last, ticks, log=True)


def counts(values: Iterable[Number]) -> Axis:
    """A logarithmic axis with a tick at every value that is not crowded by the one before."""
    low, high = _range(values)
    axis = Axis(low / 1.15, high * 1.15, (), log=True)
    ticks: list[Number] = []
    for value in sorted(set(values)):
        if not ticks or axis.at(value) - axis.at(ticks[-1]) >= CROWDED:
            ticks.append(value)
    return Axis(axis.low, axis.high, tuple(ticks), log=True)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A line on its axes; SVG points in per cent, `others` being lines to compare with."""

    title: str
    alt: str
    x: Axis
    y: Axis
    line: str
    band: str = ""
    dots: tuple[Point, ...] = ()
    others: tuple[str, ...] = ()


def points(x: Axis, y: Axis, places: Iterable[Point]) -> tuple[Point, ...]:
    return tuple((x.at(a), round(100 - y.at(b), 2)) for a, b in places)


def path(line: Iterable[Point]) -> str:
    """The `points` of an SVG polyline or polygon."""
    return " ".join(f"{x:g},{y:g}" for x, y in line)


def curve(title: str, steps: Sequence[Any], values: Sequence[Any], *, log: bool) -> Chart | None:
    """A training curve; None where fewer than two of its points can be drawn."""
    known = [
        (float(s), float(v))
        for s, v in zip(steps, values, strict=True)
        if v is not None and math.isfinite(v) and (v > 0 or not log)
    ]
    if len({s for s, _ in known}) < 2:
        return None
    x = linear(s for s, _ in known)
    x = Axis(known[0][0], known[-1][0], tuple(t for t in x.ticks if t <= known[-1][0]))
    y = (logarithmic if log else linear)(v for _, v in known)
    (first, start), (last, end) = known[0], known[-1]
    alt = f"{title}: {start:.3g} at step {first:g}, {end:.3g} at step {last:g}"
    return Chart(title=title, alt=alt, x=x, y=y, line=path(points(x, y, _thin(known))))


def _thin(line: Sequence[Point]) -> list[Point]:
    """The line with at most two points a bucket, so that spikes stay."""
    size = math.ceil(len(line) / BUCKETS)
    kept: list[Point] = []
    for _, bucket in itertools.groupby(enumerate(line), lambda item: item[0] // size):
        ends = [point for _, point in bucket]
        extremes = {min(ends, key=lambda p: p[1]), max(ends, key=lambda p: p[1])}
        kept.extend(sorted(extremes))
    return kept


def _range(values: Iterable[Number]) -> tuple[Number, Number]:
    """Lowest and highest, never the same."""
    known = sorted(values)
    low, high = known[0], known[-1]
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    return (low / 2, high * 2) if low > 0 else (low - 1, high + 1)
