"""What is known of a trial: kept as JSON from its start on, so that a sweep goes on from there."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from raytrain import storage
from raytrain.tuning.space import SweepConfig, Values

FOLDER, FILE = "tune", "trial.json"  # in the folder of the trial's run

State = Literal["running", "finished", "stopped", "failed"]
DEFAULT = "default"
ENDED = ("finished", "stopped", "failed")


@dataclass(kw_only=True)
class Trial:
    """A trial: the run `name` in `folder` (and NAME-1, … of further seeds), with what it scored.

    `curve` holds (step, score) of the first seed. `stopped` is by the scheduler; what it scored up
    to then is its score. `seconds` are those of training alone, for all of its steps; it began at
    `began_s`, and what the trial told last came at `told_s` (Unix time).
    """

    folder: str
    name: str
    number: int
    values: Values
    seeds: tuple[int, ...]
    default: bool = False
    state: State = "running"
    curve: list[tuple[int, float]] = field(default_factory=list)
    score: float | None = None
    seed_scores: list[float] = field(default_factory=list)
    steps: int = 0
    steps_wanted: int = 0
    seconds: float | None = None
    began_s: float | None = None
    told_s: float | None = None
    parameters: int | None = None
    dim: int | None = None
    skipped: int = 0  # samples that could not be used
    error: str | None = None
    attempts: int = 1

    @property
    def url(self) -> str:
        """Where its run is."""
        return f"{self.folder}/{self.name}"

    @property
    def records_url(self) -> str:
        """Where what the sweep knows of it is."""
        return f"{self.url}/{FOLDER}"

    def take(self, result: dict[str, Any]) -> None:
        """What the trial reported; see trial.run_trial."""
        if "failed" in result:
            self.state, self.error = "failed", str(result["failed"])
            return
        for key in ("score", "seconds", "began_s", "parameters", "dim", "steps_wanted", "skipped"):
            setattr(self, key, result[key])
        self.told_s = time.time()
        self.steps, self.seed_scores = result["step"], [*result["seed_scores"]]
        self.curve = [point for point in self.curve if point[0] < self.steps]
        self.curve.append((self.steps, result["first_score"]))

    def save(self) -> None:
        """Keep it."""
        content = json.dumps(asdict(self), indent=1).encode()
        storage.write(f"{self.records_url}/{FILE}", content)


def load_trials(folder: str) -> list[Trial]:
    """All trials in a folder or URL, by number."""
    found = []
    for name in storage.folders(folder, ""):
        if storage.size(where := f"{folder}/{name}/{FOLDER}/{FILE}") is not None:
            values = json.loads(storage.read(where))
            values["curve"] = [(step, score) for step, score in values["curve"]]
            found.append(Trial(**{**values, "folder": folder, "seeds": tuple(values["seeds"])}))
    return sorted(found, key=lambda trial: trial.number)


def best_first(trials: Iterable[Trial]) -> list[Trial]:
    """Trials that came to their end, the highest score first."""
    finished = [t for t in trials if t.state == "finished" and t.score is not None]
    return sorted(finished, key=lambda trial: -(trial.score or 0.0))


def front(trials: Sequence[Trial], cost: Literal["seconds", "parameters"]) -> list[int]:
    """Numbers of the finished trials that no other beats in score and cost, the cheapest first."""
    numbers: list[int] = []
    highest = float("-inf")
    finished = [t for t in best_first(trials) if getattr(t, cost) is not None]
    for trial in sorted(finished, key=lambda t: (getattr(t, cost), -(t.score or 0.0))):
        if trial.score is not None and trial.score > highest:
            highest = trial.score
            numbers.append(trial.number)
    return numbers


def finalists(sweep: SweepConfig, trials: Sequence[Trial], seed: int) -> dict[str, list[Trial]]:
    """The best trials and the default configuration by name, each with seeds that the search, which
    began at `seed`, did not use."""
    best = [trial for trial in best_first(trials) if not trial.default][: sweep.finalists.count]
    if not best:
        return {}
    found = {f"trial-{trial.number}": trial.values for trial in best} | {DEFAULT: {}}
    first = seed + sweep.seeds
    fresh = range(first, first + sweep.finalists.seeds)
    return {
        name: [
            Trial(folder="", name=f"{name}-{s}", number=k, values=values, seeds=(s,))
            for k, s in enumerate(fresh)
        ]
        for name, values in found.items()
    }
