"""What to try next: Optuna's samplers as a search algorithm of Ray Tune."""

import json
import time
import warnings
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection as Direction
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from raytrain.tuning.record import Trial
from raytrain.tuning.space import Distribution, SearchConfig, SweepConfig, Values

REDRAWS = 200  # of a trial that was there before; then the space has no other


class Queue(Searcher):  # type: ignore[misc]
    """Trials that are known beforehand."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        super().__init__()
        self.waiting = deque(trials)
        self.exhausted = False
        self.given: dict[str, Trial] = {}  # by Tune's id

    def suggest(self, trial_id: str) -> Any:
        if not self.waiting:
            self.exhausted = True
            return Searcher.FINISHED
        trial = self.given[trial_id] = self.waiting.popleft()
        return {"name": trial.name, "values": trial.values, "seeds": [*trial.seeds]}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing is learned from it."""

    def save(self, checkpoint_path: str) -> None:
        """The trials' own records are what a sweep goes on from."""

    restore = save

    def __getstate__(self) -> dict[str, object]:
        return {}  # Tune writes down all that it is given


class Proposals(Queue):
    """Trials of a space: those of `earlier` that did not end, then new ones, up to sweep.trials.

    The search learns from all trials that ended. The first new trial has the values of
    `default_values`, where these are in the space. No trial is given twice.
    """

    def __init__(
        self, sweep: SweepConfig, folder: str, seed: int, earlier: Sequence[Trial], default: Values
    ) -> None:
        super().__init__(trial for trial in earlier if trial.state == "running")
        self.sweep, self.folder = sweep, folder
        self.seeds = tuple(range(seed, seed + sweep.seeds))
        self.default = default
        self.until = time.monotonic() + 60 * (sweep.minutes or float("inf"))
        self.seen = {_key(trial.values) for trial in earlier}
        self.next_number = max([-1, *(trial.number for trial in earlier)]) + 1
        self.grid = sweep.grid
        self.asked: dict[str, optuna.Trial] = {}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed_of_search = sweep.search.seed + self.next_number  # goes on, and does not repeat itself
        self.study = optuna.create_study(
            directions=[Direction.MAXIMIZE, *(Direction.MINIMIZE for _ in sweep.minimize)],
            sampler=_sampler(sweep.search, seed_of_search),
        )
        for trial in earlier:
            if trial.state != "running":
                self._teach(trial)

    def suggest(self, trial_id: str) -> Any:
        if not self.waiting and (found := self._new()) is not None:
            self.asked[trial_id], trial = found
            self.waiting.append(trial)
        return super().suggest(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        asked = self.asked.pop(trial_id, None)
        if asked is None:  # of an earlier start
            return
        if error or not result or "score" not in result:
            self.study.tell(asked, state=TrialState.FAIL)
        else:
            self.study.tell(asked, [result["score"], *(result[c] for c in self.sweep.minimize)])

    def _new(self) -> tuple[optuna.Trial, Trial] | None:
        """A trial that was not there before; None where the sweep shall have no more."""
        if self.next_number >= self.sweep.most_trials or time.monotonic() > self.until:
            return None
        for _ in range(REDRAWS):
            asked, values = self._draw()
            if _key(values) not in self.seen:
                break
            self.study.tell(asked, state=TrialState.FAIL)
        else:
            return None
        self.seen.add(_key(values))
        number, self.next_number = self.next_number, self.next_number + 1
        return asked, Trial(
            folder=self.folder,
            name=f"{number:04d}",
            number=number,
            values=values,
            seeds=self.seeds,
            default=values == self.default,
        )

    def _draw(self) -> tuple[optuna.Trial, Values]:
        space, fixed = self.sweep.space, {}
        if self.grid:
            fixed = self.grid[self.next_number % len(self.grid)]
        elif self.next_number == 0 and not self.seen:
            fixed = self.default
        if fixed:
            chosen = {path: _as_drawn(space[path], value) for path, value in fixed.items()}
            self.study.enqueue_trial(chosen)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # that its sampler is multivariate
            asked, values = self.study.ask(), Values()
            for path, distribution in space.items():
                if distribution.applies(values):
                    values[path] = _suggested(asked, path, distribution)
        return asked, values

    def _teach(self, trial: Trial) -> None:
        space = self.sweep.space
        figures = [trial.score, *(getattr(trial, cost) for cost in self.sweep.minimize)]
        known = trial.state != "failed" and None not in figures
        self.study.add_trial(
            create_trial(
                params={p: _as_drawn(space[p], v) for p, v in trial.values.items()},
                distributions={p: _distribution(space[p]) for p in trial.values},
                values=figures if known else None,
                state=TrialState.COMPLETE if known else TrialState.FAIL,
            )
        )


def default_values(space: Mapping[str, Distribution], base: Mapping[str, Any]) -> Values:
    """The trial that has the values of `base` (by dotted path); {} where the space does not hold
    it."""
    values: Values = {}
    for path, distribution in space.items():
        if not distribution.applies(values):
            continue
        value = base.get(path)
        if distribution.values:
            inside = value in distribution.values
        else:
            low, high = distribution.bounds[:2]
            inside = isinstance(value, int | float) and low <= value <= high
        if not inside:
            return {}
        values[path] = value
    return values


def _sampler(search: SearchConfig, seed: int) -> BaseSampler:
    if search.kind != "tpe":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(
            n_startup_trials=search.startup,
            multivariate=True,
            group=True,  # settings that vary together are learned together
            constant_liar=True,  # trials that still run are no news
            seed=seed,
        )


def _distribution(distribution: Distribution) -> BaseDistribution:
    """As Optuna knows it: values that can be counted out by their position."""
    if distribution.values:
        return CategoricalDistribution([*range(len(distribution.values))])
    low, high, *step = distribution.bounds
    if isinstance(low, int):
        return IntDistribution(low, int(high), step=int(step[0]))
    log = distribution.loguniform is not None
    return FloatDistribution(low, high, log=log, step=step[0] if step else None)


def _suggested(asked: optuna.Trial, path: str, distribution: Distribution) -> Any:
    if distribution.values:
        number = asked.suggest_categorical(path, [*range(len(distribution.values))])
        return distribution.values[number]
    low, high, *step = distribution.bounds
    if isinstance(low, int):
        return asked.suggest_int(path, low, int(high), step=int(step[0]))
    log = distribution.loguniform is not None
    return asked.suggest_float(path, low, high, log=log, step=step[0] if step else None)


def _as_drawn(distribution: Distribution, value: Any) -> Any:
    return distribution.values.index(value) if distribution.values else value


def _key(values: Values) -> str:
    return json.dumps(values, sort_keys=True)
