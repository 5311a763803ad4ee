"""The rows of a table: what the user names, and the baselines that belong beside it."""

import importlib
import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from raytrain import storage
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import CHECKPOINT, load
from raytrain.encoders.random_field import RandomFieldConfig
from raytrain.errors import UserError
from raytrain.evaluation import baselines
from raytrain.evaluation.baselines import LabelBaseline
from raytrain.evaluation.probes import Encoder
from raytrain.settings import Tree, build, flat

Kind = Literal["label baseline", "encoder baseline", "encoder"]

GEOCLIP, UNTRAINED = "geoclip", "untrained"
NO_PART = ("name", "storage", "overwrite", "scaling", "tracking", "evaluate")  # of a recipe
LABEL_BASELINES: dict[str, LabelBaseline] = {
    "label-kNN": baselines.label_knn,
    "inverse distance": baselines.inverse_distance,
}
ENCODER_BASELINES: dict[str, Callable[[], Encoder]] = {
    "unit xyz": lambda: baselines.unit_xyz,
    "random Fourier": baselines.random_fourier,
    "untrained harmonics": lambda: baselines.harmonics(20),
    "random fields": lambda: baselines.from_module(RandomFieldConfig().build()),
    GEOCLIP: lambda: load(GEOCLIP).encode,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """A row of a table: an encoder, or a baseline that copies labels."""

    name: str
    kind: Kind
    encode: Encoder | None = None
    learned: Encoder | None = None  # of an encoder: its learned columns alone
    predict: LabelBaseline | None = None
    modalities: tuple[Mapping[str, Any], ...] = ()  # the cards of what it was trained on
    config: Tree | None = None  # of the run that trained it
    run_url: str | None = None  # where a run's metrics are

    @property
    def taught(self) -> str:
        """In words, by which location encoders' embeddings; "" by none."""
        sources = [modality.get("source") or {} for modality in self.modalities]
        teachers = [s["encoder"] for s in sources if s.get("kind") == "encoder"]
        return f"taught by {', '.join(teachers)}: no independent peer of it" if teachers else ""


def roster(specs: Sequence[str], skip: Collection[str] = ()) -> tuple[Row, ...]:
    """Baselines but those in `skip`, then each different architecture of the encoders untrained,
    then the encoders: runs, checkpoints, exported or SatCLIP files, `geoclip`, `untrained`, or
    `module:function`.

    Raises UserError for a spec that is none of these and a baseline that does not exist.
    """
    known = [*LABEL_BASELINES, *ENCODER_BASELINES, UNTRAINED]
    if unknown := [name for name in skip if name not in known]:
        raise UserError(f"skip: there is no baseline `{unknown[0]}`; there are: {', '.join(known)}")
    fixed = [
        Row(name=name, kind="encoder baseline", encode=make())
        for name, make in ENCODER_BASELINES.items()
        if name not in skip
    ]
    named: list[Row] = []
    architectures: list[LocationEncoderConfig] = []
    for spec in dict.fromkeys(spec.rstrip("/") for spec in specs):
        if spec == GEOCLIP and GEOCLIP not in skip:
            continue  # it is among the baselines
        if spec == UNTRAINED:
            architectures.append(LocationEncoderConfig())
            continue
        row, location = _named(spec)
        named.append(row)
        if location is not None and UNTRAINED not in skip:
            architectures.append(build(LocationEncoderConfig, location, "location"))
    distinct = [a for i, a in enumerate(architectures) if a not in architectures[:i]]
    fresh = [
        Row(
            name=UNTRAINED if len(distinct) == 1 else f"{UNTRAINED} {number}",
            kind="encoder baseline",
            encode=baselines.untrained(location),
        )
        for number, location in enumerate(distinct, 1)
    ]
    return _shortened((*label_rows(skip), *fixed, *fresh, *named))


def families(rows: Sequence[Row], defaults: Mapping[str, Any]) -> dict[str, tuple[Row, ...]]:
    """Rows by what they were trained as: runs that differ in nothing but their seed are one, named
    by what their names begin with; every other row is its own. `defaults`, by dotted path, are
    those of settings that a run's raytrain did not know yet."""
    found: dict[str, list[Row]] = {}
    seeds: Counter[tuple[str, int]] = Counter()
    for row in rows:
        config = {k: v for k, v in (row.config or {}).items() if k not in ("seed", *NO_PART)}
        known = {k: v for k, v in defaults.items() if k.partition(".")[0] in config}
        recipe = json.dumps(known | flat(config), sort_keys=True)
        seed = (row.config or {}).get("seed", 0)
        key = f"{recipe} {seeds[recipe, seed]}" if config else row.name
        seeds[recipe, seed] += 1  # a checkpoint of the same run is no other seed
        found.setdefault(key, []).append(row)
    named = {}
    for members in found.values():
        name = members[0].name
        if len(members) > 1:
            names = [row.name for row in members]
            alike = itertools.takewhile(lambda c: len({*c}) == 1, zip(*names, strict=False))
            start = "".join(letters[0] for letters in alike).rstrip("-_/. ")
            name = f"{start or name} ({len(members)} seeds)"
        named[name] = tuple(members)
    return named


def _shortened(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows of runs named by their folder alone, where that tells them from all others."""
    short = [row.name.rpartition("/")[2] if row.run_url else row.name for row in rows]
    return tuple(
        replace(row, name=name) if short.count(name) == 1 else row
        for row, name in zip(rows, short, strict=True)
    )


def label_rows(skip: Collection[str] = ()) -> tuple[Row, ...]:
    """The baselines that copy labels, but those in `skip`."""
    return tuple(
        Row(name=name, kind="label baseline", predict=predict)
        for name, predict in LABEL_BASELINES.items()
        if name not in skip
    )


def encoder(spec: str) -> Encoder:
    """The encoder that a run, checkpoint, file, `geoclip` or `module:function` is. Raises
    UserError."""
    encode = _named(spec)[0].encode
    assert encode is not None
    return encode


def learned(spec: str) -> tuple[Encoder, Encoder | None]:
    """The learned columns of what `encoder` takes, which are what `raytrain.similar` compares, and
    those of the same architecture untrained where it is known. Raises UserError."""
    row, location = _named(spec)
    assert row.learned is not None
    if location is None:
        return row.learned, None
    config = build(LocationEncoderConfig, location, "location")
    alone = replace(config, skip=False, kernel=None, random_field=None)
    return row.learned, baselines.untrained(alone)


def _named(spec: str) -> tuple[Row, Tree | None]:
    """The row of one encoder, and the settings of its architecture where they are known."""
    module, colon, function = spec.partition(":")
    if colon and not function.startswith("//") and not Path(spec).exists():
        found = _function(module, function)
        return Row(name=spec, kind="encoder", encode=found, learned=found), None
    encoder = load(spec)
    if spec == GEOCLIP:
        return Row(name=spec, kind="encoder", encode=encoder.encode, learned=encoder.learned), None
    return Row(
        name=spec,
        kind="encoder",
        encode=encoder.encode,
        learned=encoder.learned,
        config=dict(encoder.config),
        modalities=tuple(encoder.config.get("cards", {}).values()),
        run_url=spec if storage.folders(spec, CHECKPOINT) else None,
    ), encoder.config.get("location")


def _function(module: str, name: str) -> Encoder:
    """`name` of a module on Python's path or in the current folder: (lon, lat) -> embedding."""
    sys.path.insert(0, "")
    try:
        if not all(map(str.isidentifier, module.split("."))):
            raise ModuleNotFoundError(name=module)
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"{module}:{name}: there is no module `{module}` here or on PYTHONPATH; an encoder is "
            "a run or checkpoint (path or URL), geoclip, untrained, or module:function"
        ) from None
    finally:
        sys.path.remove("")
    if not callable(found):
        raise UserError(f"{module}:{name}: the module has no function `{name}`")
    encode: Encoder = found
    return encode
