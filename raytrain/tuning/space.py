"""A sweep's settings: which settings of a run vary and how, and what a good run is."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from raytrain.evaluation.cards import DEVELOPMENT
from raytrain.settings import SettingsError, Tree, build, flat, load_yaml, to_dict, with_paths
from raytrain.storage import spaces_dir
from raytrain.training.config import RunConfig

Values = dict[str, Any]
"""What a trial sets: dotted paths of a run's settings and their values."""

DISTRIBUTIONS = ("choice", "grid", "uniform", "loguniform", "quniform")


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Where the values of a setting come from: exactly one of the first five.

    `choice` is one of these values; of `grid` all are tried, in every combination with other grids;
    `uniform` and `loguniform` lie between two bounds, `quniform` on [low, high, step]. With `when`
    the setting varies only where other settings of the space, named before it, have one of the
    values given for them; elsewhere it keeps its default.
    """

    choice: tuple[Any, ...] = ()
    grid: tuple[Any, ...] = ()
    uniform: tuple[float, float] | None = None
    loguniform: tuple[float, float] | None = None
    quniform: tuple[float, float, float] | None = None
    when: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = [name for name in DISTRIBUTIONS if getattr(self, name)]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of {', '.join(DISTRIBUTIONS)}; found {found}")
        if not self.values:
            low, high, *step = self.bounds
            if not low < high or (self.loguniform and low <= 0) or any(s <= 0 for s in step):
                raise ValueError(f"{given[0]} {[*self.bounds]} is no range from low to high")

    @property
    def values(self) -> tuple[Any, ...]:
        """All values, where they can be counted out; () for a range."""
        return self.choice or self.grid

    @property
    def bounds(self) -> tuple[int | float, ...]:
        """Low, high and perhaps a step; whole numbers where all of them are."""
        bounds = self.uniform or self.loguniform or self.quniform or ()
        whole = self.quniform is not None and all(float(b).is_integer() for b in bounds)
        return tuple(int(b) for b in bounds) if whole else bounds

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that are worth checking before a sweep."""
        return self.values or self.bounds[:2]

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Whether the setting varies in a trial that has these values so far."""
        return all(path in values and values[path] in wanted(w) for path, w in self.when.items())


def wanted(condition: Any) -> list[Any]:
    """The values that a condition names: one, or a list of some."""
    return condition if isinstance(condition, list) else [condition]


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How values are drawn: at `random`, or by `tpe`, which learns from the trials that have ended
    (Optuna's multivariate tree-structured Parzen estimator, after `startup` random trials). With
    `grid` every choice is a grid."""

    kind: Literal["tpe", "random", "grid"] = "tpe"
    seed: int = 0
    startup: int = 8


@dataclass(frozen=True, kw_only=True)
class ASHAConfig:
    """Asynchronous successive halving (Li et al. 2020): at evaluate.every steps, and at every
    `factor` times as many, only the best 1/factor of the trials that came so far goes on."""

    kind: Literal["asha"] = "asha"
    factor: float = 2.0

    def __post_init__(self) -> None:
        if self.factor <= 1:
            raise ValueError(f"factor is {self.factor}; give more than 1")


@dataclass(frozen=True, kw_only=True)
class NoSchedulerConfig:
    """Every trial runs to its end."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class FinalistsConfig:
    """The `count` best trials and the default configuration, trained again with `seeds` seeds that
    the sweep did not use, and compared on `tasks` that it did not choose by (null: those of the
    seven development tasks that are not among evaluate.tasks), whose labels come from `root`,
    beside all baselines but those of `skip`. `count: 0` leaves all this out."""

    count: int = 1
    seeds: int = 3
    tasks: tuple[str, ...] | None = None
    root: str = "earth-mini"
    skip: tuple[str, ...] = ("geoclip",)  # it would be fetched


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A sweep: the file in tune_spaces/, and `tune.…` on the command line.

    `space` has a distribution by dotted path of a run's setting; `settings` are what all its runs
    have in common, over those of a `recipe`. A trial trains `seeds` runs, and the scheduler judges
    it by the first. What is maximised is the mean score of probes on evaluate.tasks, over label
    budgets (`probes`), or held-out retrieval @10, over modalities (`retrieval`); with `minimize`
    the search looks for a front between it and costs. No new trial starts after `minutes`;
    `trials: null` is the whole grid. A trial takes what `scaling` says of its run, one worker
    unless more are asked for; trials of one worker may share a GPU, `gpu_share` each.
    """

    about: str = ""
    space: dict[str, Distribution]
    recipe: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    search: SearchConfig = field(default_factory=SearchConfig)
    scheduler: ASHAConfig | NoSchedulerConfig = field(default_factory=ASHAConfig)
    maximize: Literal["probes", "retrieval"] = "probes"
    minimize: tuple[Literal["seconds", "parameters"], ...] = ()
    trials: int | None = 20
    minutes: float | None = None
    seeds: int = 1
    gpu_share: float = 1.0
    max_concurrent: int | None = None
    finalists: FinalistsConfig = field(default_factory=FinalistsConfig)

    def __post_init__(self) -> None:
        if not self.space:
            raise ValueError("space is empty; give at least one setting and its distribution")
        for number, what in ((self.trials, "trials"), (self.seeds, "seeds")):
            if number is not None and number < 1:
                raise ValueError(f"{what} is {number}; give 1 or more")
        if not 0 < self.gpu_share <= 1:
            raise ValueError(f"gpu_share is {self.gpu_share}; give more than 0, up to 1")
        if self.minimize and self.scheduler.kind != "none":
            raise ValueError("a front of several objectives needs scheduler: {kind: none}")
        if self.trials is None and {*self.grids} != {*self.space}:
            raise ValueError("trials: null is the whole grid, and not all of the space is a grid")

    @property
    def grids(self) -> tuple[str, ...]:
        """The settings of which all values are tried."""
        everything = self.search.kind == "grid"
        return tuple(path for path, d in self.space.items() if d.grid or (everything and d.values))

    @property
    def grid(self) -> list[Values]:
        """Every combination of the settings that are grids, in order; [] where none is."""
        found: list[Values] = [{}] if self.grids else []
        for path in self.grids:
            d = self.space[path]
            found = [
                values | ({path: value} if d.applies(values) else {})
                for values in found
                for value in (d.values if d.applies(values) else (None,))
            ]
        return found

    @property
    def most_trials(self) -> int:
        """Trials that are to be run, if time allows."""
        return self.trials or len(self.grid)


def objective_words(sweep: SweepConfig, tasks: Sequence[str], splits: int) -> str:
    """What trials are judged by."""
    if sweep.maximize == "retrieval":
        return "held-out retrieval @10, mean over modalities"
    return (
        f"ridge probes of {', '.join(task.replace('_', ' ') for task in tasks)} on held-out 10° "
        f"blocks, mean of {splits} splits and both label budgets"
    )


def load_sweep(name_or_path: str, changes: Values) -> tuple[str, SweepConfig]:
    """A sweep's name and settings, by the name of a file in tune_spaces/ or a path; `changes` by
    dotted path come on top. Raises SettingsError."""
    path = Path(name_or_path)
    if not path.suffix:
        path = spaces_dir() / f"{name_or_path}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in spaces_dir().glob("*.yaml")))
            raise SettingsError(
                f"there is no space `{name_or_path}`; there are: {known}, or give a YAML file"
            )
    values = with_paths(load_yaml(path), changes)
    return path.stem, build(SweepConfig, values, path.name)


def trial_tree(base: Tree, values: Values) -> Tree:
    """`base` with a trial's values. Where a trial takes another kind of a component than the base,
    the base's settings of that component do not hold."""
    known = flat(to_dict(build(RunConfig, base)))
    kinds = {path: known[path] for path in values if path.endswith(".kind") and known.get(path)}
    return with_paths(with_paths(base, kinds), values)


def run_config(base: Tree, values: Values) -> RunConfig:
    """The run that a trial is. Raises SettingsError."""
    return build(RunConfig, trial_tree(base, values))


def check_space(
    space: Mapping[str, Distribution], base: Tree
) -> Iterator[tuple[Values, RunConfig]]:
    """A trial for every value of every setting, as settings of a run: if all of them are fine, so
    is the space. Raises SettingsError, which names the setting and the value."""
    paths = [*space]
    for number, (path, distribution) in enumerate(space.items()):
        for other, values in distribution.when.items():
            if other not in paths[:number]:
                where = "stands behind it" if other in space else "is not in the space"
                raise SettingsError(
                    f"space.{path}: its condition is on `{other}`, which {where}; name it before"
                )
            possible = space[other].values
            if strange := [v for v in wanted(values) if possible and v not in possible]:
                raise SettingsError(
                    f"space.{path}: its condition is on {other} = {strange[0]}, "
                    "which the space never takes"
                )
        for value in distribution.ends:
            values = _example(space, {**_parents(space, path), path: value})
            try:
                yield values, run_config(base, values)
            except SettingsError as error:
                raise SettingsError(f"space.{path}, {label(value)}: {error}") from None


def label(value: Any) -> str:
    """A value in words, the same for equal values."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def new_tasks(sweep: SweepConfig, chosen_by: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks that finalists are compared on. Raises SettingsError for one that was chosen by."""
    if sweep.finalists.tasks is None:
        return tuple(task for task in DEVELOPMENT if task not in chosen_by)
    if both := sorted({*sweep.finalists.tasks} & {*chosen_by}):
        raise SettingsError(
            f"finalists.tasks: {both[0]} is also among evaluate.tasks, by which the sweep chooses; "
            "a comparison on it would flatter the best trial"
        )
    return sweep.finalists.tasks


def _parents(space: Mapping[str, Distribution], path: str) -> Values:
    """Values with which the setting varies."""
    values: Values = {}
    for other, condition in space[path].when.items():
        values |= {**_parents(space, other), other: wanted(condition)[0]}
    return values


def _example(space: Mapping[str, Distribution], fixed: Values) -> Values:
    """A whole trial with these values, and the first one of every other setting."""
    values: Values = {}
    for path, distribution in space.items():
        if path in fixed:
            values[path] = fixed[path]
        elif distribution.applies(values):
            values[path] = distribution.ends[0]
    return values
