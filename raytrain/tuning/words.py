"""How a sweep's page writes values, durations and lists."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from raytrain.evaluation.pages import NO_VALUE, number

WORD = re.compile(r"[A-Za-z_][\w./-]*")
NOT_TEXT = {"null", "true", "false", "yes", "no", "on", "off"}  # to YAML


def short(value: Any) -> str:
    """A value as a label: four digits, and mappings without quotes."""
    match value:
        case None | bool():
            return json.dumps(value)
        case float():
            return f"{value:.4g}".replace("-", "−")
        case str():
            return value
        case Mapping():
            return "{" + ", ".join(f"{key}: {short(v)}" for key, v in value.items()) + "}"
        case Sequence():
            return "[" + ", ".join(map(short, value)) + "]"
        case _:
            return str(value).replace("-", "−")


def exact(value: Any) -> str:
    """A value as JSON, with every digit."""
    return json.dumps(value, ensure_ascii=False)


def override(path: str, value: Any) -> str:
    """A setting as a shell reads it, path=value."""
    plain = isinstance(value, str) and WORD.fullmatch(value) and value.lower() not in NOT_TEXT
    return shlex.quote(f"{path}={value if plain else exact(value)}")


def duration(seconds: Any) -> str:
    """34.1 s, 10 min 12 s, 3 h 05 min."""
    known = number(seconds)
    if known is None:
        return NO_VALUE
    if known < 99.95:
        return f"{known:.1f} s"
    minutes, rest = divmod(round(known), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def counted(count: int, noun: str) -> str:
    """1 trial, 20 trials."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def distinct(paths: Sequence[str]) -> dict[str, str]:
    """The shortest end of each dotted path that no other path has."""
    found = {}
    for path in paths:
        parts = path.split(".")
        ends = [".".join(parts[i:]) for i in range(len(parts))][::-1]
        others = [other for other in paths if other != path]
        alone = (e for e in ends if not any(f".{other}".endswith(f".{e}") for other in others))
        found[path] = next(alone, path)
    return found
