"""Strict settings: YAML files and `path=value` overrides into frozen dataclasses, and back.

Settings are dataclasses that stand beside the component which they configure. Where several kinds
of a component exist, each has a field `kind: Literal[...]` and the setting is the union of them.
"""

import dataclasses
import difflib
import re
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from raytrain.errors import UserError

T = TypeVar("T")
Tree = dict[str, Any]


class SettingsError(UserError):
    """A setting that does not exist or does not fit; the message holds its full dotted path."""


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Make the settings dataclass `cls` from nested mappings; what is not given keeps its default.

    `where` is the path of `values`, for messages. Text such as "1e-3" (which YAML reads as a
    string) becomes the number that the field wants. Raises SettingsError.
    """
    return cast(T, _dataclass(cls, values, where, default=None))


def load_yaml(path: str | Path) -> Tree:
    """Read a YAML file that holds a mapping."""
    try:
        values = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise SettingsError(f"there is no settings file {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not readable YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected `key: value` lines, found a {type(values).__name__}")
    return values


def dump_yaml(values: Tree) -> str:
    """Nested settings as YAML text, in the order of their fields."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def apply_overrides(values: Tree, overrides: Iterable[str]) -> Tree:
    """A copy of `values` in which each override "a.b=c" has set the value at its dotted path."""
    result = dict(values)
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            raise SettingsError(
                f"'{override}' is no override; write path=value, as in optim.lr=1e-3"
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise SettingsError(f"'{override}': the value is not readable YAML") from None
        result = _set(result, path.split("."), value, override)
    return result


def with_paths(values: Tree, paths: Mapping[str, Any]) -> Tree:
    """A copy of `values` in which each dotted path has its value, set in their order. With another
    `kind` of a component than `values` has, its settings of the old kind fall away."""
    for path, value in paths.items():
        *component, last = path.split(".")
        if last == "kind" and _get(values, path.split(".")) not in (None, value):
            values = _set(values, component, {}, path)
        values = _set(values, path.split("."), value, path)
    return values


def to_dict(settings: object) -> Tree:
    """Settings as nested plain values that JSON, YAML and `build` understand."""
    assert dataclasses.is_dataclass(settings)
    assert not isinstance(settings, type)
    return {
        field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)
    }


def flat(values: Tree, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted path."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        result |= flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return result


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first settings by dotted path that differ, in words; "" where none does."""
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    return "; ".join(f"{key}: {before.get(key)} -> {now.get(key)}" for key in changed[:5])


def redacted(value: Any) -> Any:
    """Nested settings without the user:password of any URL in them."""
    if isinstance(value, str):
        return re.sub(r"://[^/@\s]+@", "://***@", value)
    if isinstance(value, dict):
        return {key: redacted(item) for key, item in value.items()}
    return [redacted(item) for item in value] if isinstance(value, list) else value


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _get(values: Any, path: list[str]) -> Any:
    for part in path:
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _set(values: Tree, path: list[str], value: Any, override: str) -> Tree:
    head, *rest = path
    if not rest:
        return {**values, head: value}
    child = values.get(head) or {}
    if not isinstance(child, dict):
        raise SettingsError(f"'{override}': {head} holds a value, not settings of its own")
    return {**values, head: _set(child, rest, value, override)}


def _dataclass(cls: type, values: Any, where: str, default: object) -> object:
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where or cls.__name__}: expected settings, got {values!r}")
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    given: Tree = {} if type(default) is not cls else dict(_shallow(default))
    for key, value in values.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in fields:
            raise SettingsError(_unknown(path, str(key), list(fields)))
        given[key] = _value(hints[key], value, path, given.get(key, _default(fields[key])))
    missing = [
        n for n, f in fields.items() if n not in given and _default(f) is dataclasses.MISSING
    ]
    if missing:
        raise SettingsError(f"{where or cls.__name__}: `{missing[0]}` is required")
    try:
        return cls(**given)
    except ValueError as error:  # from __post_init__
        raise SettingsError(f"{where}: {error}" if where else str(error)) from None


def _shallow(settings: Any) -> Iterable[tuple[str, Any]]:
    return ((f.name, getattr(settings, f.name)) for f in dataclasses.fields(settings) if f.init)


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _unknown(path: str, key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    advice = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)}"
    return f"unknown setting `{path}`; {advice}"


def _value(hint: Any, value: Any, path: str, default: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        members = [m for m in get_args(hint) if dataclasses.is_dataclass(m)]
        if any(value in get_args(word) for word in get_args(hint) if get_origin(word) is Literal):
            return value  # a word that stands for settings
        if members and value is not None:
            cls = _member(cast(list[type], members), value, path, default)
            return _dataclass(cls, value, path, default)
    if dataclasses.is_dataclass(hint):
        return _dataclass(cast(type, hint), value, path, default)
    if get_origin(hint) is dict and isinstance(value, Mapping):
        item = get_args(hint)[1]
        return {k: _value(item, v, f"{path}.{k}", None) for k, v in value.items()}
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        if not isinstance(value, list | tuple | Mapping):
            value = _items(value, words=item is str)
        if _settings(item) and not isinstance(value, Mapping):
            return tuple(_value(item, v, f"{path}.{i}", None) for i, v in enumerate(value))
    return _leaf(hint, value, path)


def _settings(hint: Any) -> bool:
    """A settings dataclass, or a union of some."""
    return any(dataclasses.is_dataclass(member) for member in (hint, *get_args(hint)))


def _items(value: Any, words: bool) -> list[Any]:
    """A list written as on a command line: `a,b`, `10,null` or a single value."""
    if not isinstance(value, str):
        return [value]
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return parts if words else [yaml.safe_load(part) for part in parts]


def _member(members: list[type], value: Any, path: str, default: Any) -> type:
    """The member of a union of settings that `kind` names; without one, the default's."""
    kinds = {get_args(get_type_hints(m)["kind"])[0]: m for m in members if _has_kind(m)}
    if not isinstance(value, Mapping):
        raise SettingsError(f"{path}: expected settings, got {value!r}")
    if "kind" in value and kinds:
        if value["kind"] not in kinds:
            raise SettingsError(
                _unknown(f"{path}.kind={value['kind']}", str(value["kind"]), [*kinds])
            )
        return kinds[value["kind"]]
    if type(default) in members:
        return type(default)
    if len(members) == 1:
        return members[0]
    raise SettingsError(f"{path}: `kind` is required, one of: {', '.join(kinds)}")


def _has_kind(cls: type) -> bool:
    return get_origin(get_type_hints(cls).get("kind")) is Literal


def _leaf(hint: Any, value: Any, path: str) -> Any:
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(coerce_numbers_to_str=True))
        return adapter.validate_python(value)
    except ValidationError as error:
        wanted = getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
        reason = error.errors()[0]["msg"].lower()
        wanted = wanted.replace("typing.", "")
        raise SettingsError(f"{path}: expected {wanted}, got {value!r} ({reason})") from None
