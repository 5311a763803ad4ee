"""What HTML pages share: how they write figures, and templates beside style.css and parts.html."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from raytrain.evaluation import charts, statistics
from raytrain.evaluation.charts import Axis

Record = Mapping[str, Any]  # an object of JSON

NO_VALUE = "–"


def template(path: Path, **filters: Callable[[Any], str]) -> Template:
    """A template that may include what lies in this folder; with these filters and those below."""
    environment = Environment(
        loader=FileSystemLoader([path.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS | filters
    return environment.get_template(path.name)


def number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def score(value: Any, digits: int = 3) -> str:
    """.522, as scores and differences are at most 1."""
    known = number(value)
    if known is None:
        return NO_VALUE
    text = f"{known:.{digits}f}"
    return re.sub(r"^(-?)0\.", r"\1.", text).replace("-", "−")


def signed(value: Any) -> str:
    known = number(value)
    return ("+" if known is not None and known > 0 else "") + score(value)


def p_value(value: Any, name: str = "") -> str:
    """.21 or < .001; with a name p = .21 or p < .001."""
    known = number(value)
    if known is None:
        return NO_VALUE
    if known < 0.001:
        return f"{name} < .001".strip()
    text = score(known, 3 if known < 0.1 else 2)
    return f"{name} = {text}" if name else text


def plain(value: Any, digits: int = 3) -> str:
    """With that many significant digits, k for thousands and M for millions."""
    known = number(value)
    if known is None:
        return NO_VALUE
    unit = ""
    for larger in ("k", "M"):
        if float(f"{abs(known):.{digits}g}") >= 1000:
            known, unit = known / 1000, larger
    return f"{known:.{digits}g}{unit}".replace("-", "−")


def fixed(value: Any, digits: int = 2) -> str:
    known = number(value)
    return NO_VALUE if known is None else f"{known:,.{digits}f}".replace("-", "−")


def percent(value: Any, digits: int = 1) -> str:
    known = number(value)
    return NO_VALUE if known is None else f"{100 * known:.{digits}f}\u2009%"


def outcome(pair: Record) -> str:
    """What a paired comparison says of `a`."""
    difference, p = number(pair["difference"]), number(pair["p"])
    if difference is None or p is None:
        return NO_VALUE
    return statistics.outcome(difference, p)


def difference_axis(pairs: Iterable[Record]) -> Axis:
    """Around 0 and the intervals of paired comparisons."""
    known = [number(pair[end]) for pair in pairs for end in ("difference", "low", "high")]
    return charts.linear([0.0, *(end for end in known if end is not None)])


FILTERS = {
    "number": number,
    "score": score,
    "signed": signed,
    "p_value": p_value,
    "plain": plain,
    "fixed": fixed,
    "percent": percent,
    "outcome": outcome,
}
