"""What the user sees while a sweep runs: a live table of the best trials, plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from raytrain.tuning.record import ENDED, Trial
from raytrain.tuning.space import Values, label

SHOWN = 8
WORDS = 70


class Board:
    """Shows trials as they change; a context manager."""

    def __init__(self, console: Console, name: str, trials: Iterable[Trial], wanted: int) -> None:
        self.console, self.name, self.wanted = console, name, wanted
        self.trials = {trial.name: trial for trial in trials}
        self._before = sum(trial.state in ENDED for trial in self.trials.values())
        self._told = {trial.name for trial in self.trials.values() if trial.state in ENDED}
        self._began = time.monotonic()
        self._live = Live(console=console, refresh_per_second=2, get_renderable=self._table)

    def __enter__(self) -> "Board":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def show(self, trial: Trial) -> None:
        """A trial that has changed."""
        self.trials[trial.name] = trial
        if trial.state in ENDED and trial.name not in self._told:
            self._told.add(trial.name)
            if not self.console.is_terminal:
                line = (
                    f"{self.summary()} · trial {trial.name} {outcome(trial)}: {words(trial.values)}"
                )
                self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def summary(self) -> str:
        """Where the sweep stands, in a line."""
        states = Counter[str](trial.state for trial in self.trials.values())
        ended = sum(states[state] for state in ENDED)
        told = ", ".join(
            f"{states[state]} {state}" for state in (*ENDED, "running") if states[state]
        )
        return f"{ended} of {self.wanted} ended ({told or 'none began'}){self._left(ended)}"

    def _left(self, ended: int) -> str:
        new = ended - self._before
        if new < 1 or ended >= self.wanted:
            return ""
        seconds = (time.monotonic() - self._began) / new * (self.wanted - ended)
        return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", {seconds:.0f} s left"

    def _table(self) -> Table:
        table = Table(title=f"{self.name}: {self.summary()}", title_justify="left")
        for head in ("trial", "state", "score", "step", "seconds", "values"):
            table.add_column(head, justify="left" if head in ("state", "values") else "right")
        running = [t for t in self.trials.values() if t.state == "running"]
        ended = [t for t in self.trials.values() if t.state != "running" and t.score is not None]
        best = sorted(ended, key=lambda trial: -(trial.score or 0.0))[:SHOWN]
        for trial in (*best, *running):
            score = "" if trial.score is None else f"{trial.score:.3f}"
            seconds = "" if trial.seconds is None else f"{trial.seconds:.0f}"
            step = f"{trial.steps}/{trial.steps_wanted or '–'}"
            table.add_row(trial.name, trial.state, score, step, seconds, words(trial.values))
        return table


def outcome(trial: Trial) -> str:
    """How a trial ended."""
    if trial.state == "failed":
        return f"failed ({trial.error})"
    score = "" if trial.score is None else f" with {trial.score:.3f}"
    return f"{trial.state} after {trial.steps} steps{score}"


def words(values: Values) -> str:
    """The values of a trial, each by the last parts of its path."""
    told = ", ".join(f"{short(path)}={label(value)}" for path, value in values.items())
    return told or "as the default"


def short(path: str) -> str:
    """A path without its first part."""
    return path.partition(".")[2] or path
