"""From a command line to a sweep that can start: read, checked, at one with an earlier start."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from raytrain import storage
from raytrain.data import preparation
from raytrain.data.cards import Card
from raytrain.data.streams import Stream
from raytrain.errors import UserError
from raytrain.evaluation.tasks import Task
from raytrain.settings import (
    SettingsError,
    Tree,
    apply_overrides,
    build,
    differences,
    flat,
    redacted,
    to_dict,
    with_paths,
)
from raytrain.training.config import RunConfig, load_recipe
from raytrain.training.evaluator import clean_tasks
from raytrain.training.job import chosen_cards, make_job
from raytrain.tuning.space import SweepConfig, Values, check_space, load_sweep, new_tasks

PREFIX, FILE = "tune.", "sweep.json"
MAY_CHANGE = (
    "tune.about", "tune.trials", "tune.minutes", "tune.max_concurrent", "tune.gpu_share",
    "tune.finalists.", "overwrite", "scaling.", "tracking.",
)  # fmt: skip
NOT_IN_A_SPACE = ("name", "storage", "overwrite", "seed", "scaling.", "tracking.", "evaluate.")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A sweep that has been read: its own settings, those of its runs as given (`base`) and as they
    are by default (`config`), and where everything is kept."""

    name: str
    sweep: SweepConfig
    base: Tree
    config: RunConfig

    @property
    def url(self) -> str:
        return storage.absolute(f"{self.config.storage.rstrip('/')}/{self.config.name}")

    @property
    def resolved(self) -> Tree:
        """All settings of the sweep and of the runs that it makes."""
        settings: Tree = redacted({"tune": to_dict(self.sweep), **to_dict(self.config)})
        return settings


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check of all values found: the streams that trials read, by the URL of their shards;
    the tasks by which they are judged, and the names of those that some modality gives away."""

    streams: dict[str, Stream]
    tasks: tuple[Task, ...]
    leaked: tuple[str, ...]


def read_setup(space: str, changes: Values, overrides: Sequence[str]) -> Setup:
    """`changes` are settings of the sweep by path; `overrides` are written path=value, those of the
    sweep with `tune.` before them. Raises SettingsError."""
    own = [o.removeprefix(PREFIX) for o in overrides if o.startswith(PREFIX)]
    given = flat(apply_overrides({}, own)) | changes
    name, sweep = load_sweep(space, given)
    base = load_recipe(sweep.recipe) if sweep.recipe else {}
    base = with_paths(base, flat(sweep.settings))
    base = apply_overrides(base, [o for o in overrides if not o.startswith(PREFIX)])
    config = build(RunConfig, base)
    config = replace(config, name=config.name or f"tune-{name}")
    for path in sweep.space:
        if path.startswith(NOT_IN_A_SPACE):
            raise SettingsError(f"space.{path} is the sweep's own; set it for all runs instead")
    if sweep.scheduler.kind != "none" and config.evaluate.every is None:
        raise SettingsError(
            "a scheduler needs scores while runs train: set evaluate.every to so many steps, or "
            "tune.scheduler.kind=none"
        )
    new_tasks(sweep, config.evaluate.names)
    return Setup(name=name, sweep=sweep, base=base, config=config)


def check(setup: Setup) -> Checked:
    """Try every value of the space as far as it goes without training. Raises UserError, which
    names the setting and the value."""
    streams: dict[str, Stream] = {}
    cards: dict[str, Card] = {}
    configs = [({}, setup.config), *check_space(setup.sweep.space, setup.base)]
    seen: list[Any] = []
    for values, config in configs:
        reads = (config.data, config.method, config.training, config.objective.weights)
        if reads in seen:
            continue
        seen.append(reads)
        try:
            chosen = chosen_cards(config)
            urls = preparation.ready(chosen.values(), config.data.root)
            named = replace(config, name=setup.config.name)
            job = make_job(named, urls, chosen, config.scaling.workers or 1)
        except UserError as error:
            told = ", ".join(f"{path}={value}" for path, value in values.items())
            raise UserError(f"{error} (in a trial with {told})" if told else str(error)) from None
        cards |= chosen
        streams |= {stream.url: stream for stream in job.streams.values()}
    labelled, leaked = clean_tasks(setup.config.evaluate, [*cards.values()])
    if not labelled:
        raise UserError(
            "every task of evaluate.tasks is given away by a modality of the sweep; name others"
        )
    tasks = tuple(item.task for item in labelled)
    return Checked(streams=streams, tasks=tasks, leaked=tuple(leaked))


def open_sweep(setup: Setup) -> bool:
    """Make the sweep's folder, or find that it was begun; tells which. Raises UserError where it
    was begun with other settings than those that may change."""
    url = setup.url
    if setup.config.overwrite:
        storage.remove_folder(url)
    begun = storage.size(f"{url}/{FILE}") is not None
    before = _fixed(_read(f"{url}/{FILE}")) if begun else {}
    if begun and (changed := differences(before, _fixed(setup.resolved))):
        raise UserError(
            f"{url} is a sweep with other settings ({changed}). Take them back to go on with "
            "it, choose another name=…, or start it anew with overwrite=true"
        )
    storage.write(f"{url}/{FILE}", json.dumps(setup.resolved, indent=1).encode())
    return begun


def is_complete(setup: Setup, results: str) -> bool:
    """Whether the sweep came to its end with these very settings: its results, in the file of this
    name, say so."""
    url = f"{setup.url}/{results}"
    wanted = json.loads(json.dumps(setup.resolved["tune"]))
    return storage.size(url) is not None and _read(url)["settings"]["tune"] == wanted


def _read(url: str) -> Tree:
    content: Tree = json.loads(storage.read(url))
    return content


def _fixed(resolved: Tree) -> dict[str, Any]:
    plain = json.loads(json.dumps(resolved))
    return {k: v for k, v in flat(plain).items() if not k.startswith(MAY_CHANGE)}
