"""What the user sees while training runs: a live bar on a terminal, plain lines elsewhere."""

import time
from collections import defaultdict
from types import TracebackType
from typing import Any

import psutil
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Record = dict[str, Any]

LINE_EVERY_S = 5.0


class Display:
    """Shows records of the loop as they come; a context manager. Counts skipped samples."""

    def __init__(self, console: Console, steps: int, first: int) -> None:
        self.console, self.steps, self.step = console, steps, first
        self.skipped: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._last_line = 0.0
        self._begun: tuple[int, float] | None = None  # first step that was shown, and its time
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[line]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=steps, completed=first, epoch="–", line="")

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, record: Record) -> None:
        """One record: of the loop, a validation, probes, samples that were skipped, or a notice."""
        if "notice" in record:
            self.say(escape(record["notice"]))
        elif "skipped" in record:
            self._count_skipped(record["skipped"])
        elif "loss" in record:
            self._show_step(record)
        elif any(key.startswith("probe/") for key in record):
            self.console.print(probe_line(record), highlight=False)
        else:
            self.console.print(validation_line(record), highlight=False)

    def say(self, message: str) -> None:
        """A line above the bar, however long."""
        self.console.print(message, highlight=False, soft_wrap=True)

    def _show_step(self, record: Record) -> None:
        self.step = record["step"]
        line = step_line(record)
        self._progress.update(self._task, completed=self.step, epoch=record["epoch"], line=line)
        now = time.monotonic()
        if self._begun is None:
            self._begun = self.step, now
            self.say(f"first step {since_command():.0f} s after the command")
        due = now - self._last_line > LINE_EVERY_S or self.step == self.steps
        if due and not self.console.is_terminal:
            self._last_line = now
            first, began = self._begun
            left = (now - began) / max(1, self.step - first) * (self.steps - self.step)
            until = f" · {left:.0f} s left" if self.step > first else ""
            self.say(f"step {self.step}/{self.steps} · epoch {record['epoch']} · {line}{until}")

    def _count_skipped(self, skipped: dict[str, dict[str, int]]) -> None:
        for modality, shards in skipped.items():
            for shard, count in shards.items():
                if shard not in self.skipped[modality]:
                    self.say(f"[yellow]{modality}: samples of {shard} could not be used[/yellow]")
                self.skipped[modality][shard] += count


def since_command() -> float:
    """Seconds since this process was started."""
    return time.time() - psutil.Process().create_time()


def step_line(record: Record) -> str:
    """The figures of a step in one line."""
    found = [v for k, v in record.items() if k.startswith("batch_accuracy/")]
    accuracy = f"in-batch @1 {sum(found) / len(found):.1%} · " if found else ""
    scales = [f"{v:.1f}" for k, v in record.items() if k.startswith("logit_scale")]
    return (
        f"loss {record['loss']:.3f} · {accuracy}scale {' / '.join(scales)} · "
        f"{record['pairs_per_s']:,.0f} pairs/s · {record['data_wait']:.0%} waiting for data"
    )


def probe_line(record: Record) -> str:
    """Probes of all tasks and label budgets in one line."""
    scores: dict[str, dict[str, str]] = {}
    for key, value in record.items():
        if key != "step":
            _, task, budget = key.split("/")
            scores.setdefault(task, {})[budget] = f"{value:.3f}"
    budgets = " / ".join(next(iter(scores.values())))
    told = ", ".join(f"{task} {' / '.join(by.values())}" for task, by in scores.items())
    return f"step {record['step']}: held-out blocks, probes with {budgets}: {told}"


def validation_line(record: Record) -> str:
    """Held-out retrieval of all modalities in one line."""
    start = "val_observation_to_location@10/"
    found = [f"{k.removeprefix(start)} {v:.1%}" for k, v in record.items() if k.startswith(start)]
    return f"step {record['step']}: held-out blocks, place of an observation in the first 10: " + (
        ", ".join(found) or "no contrast, no retrieval"
    )
