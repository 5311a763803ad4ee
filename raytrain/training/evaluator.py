"""Probes during training, in the driver: no worker waits for them."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import fmean

import safetensors.torch

from raytrain import sealed
from raytrain.data.cards import Card
from raytrain.encoders.location import LocationEncoder
from raytrain.encoders.pretrained import PlaceEncoder, save_location_encoder
from raytrain.evaluation.cards import Labelled, leaks, load_labels
from raytrain.evaluation.probes import Encoder
from raytrain.evaluation.roster import Row
from raytrain.evaluation.scores import named
from raytrain.evaluation.scoring import score
from raytrain.evaluation.tasks import Task
from raytrain.settings import Tree, redacted, to_dict
from raytrain.training.board import Record
from raytrain.training.config import EvaluatorConfig

BEST = "best"


def clean_tasks(
    config: EvaluatorConfig, modalities: Sequence[Card]
) -> tuple[list[Labelled], list[str]]:
    """The tasks of a run with their labels, and the names of those that one of its modalities gives
    away, which are left out. Raises TaskError for a task that does not exist or cannot be used."""
    labelled = load_labels(config.tasks)
    leaked = leaks([to_dict(card) for card in modalities], [item.card for item in labelled])
    clean = [item for item in labelled if item.task.name not in leaked]
    return clean, sorted(leaked)


class Evaluator:
    """Scores encoders that training sends, one after another, in a thread of its own. The one that
    scored best on all tasks together is kept in RUN/best, which raytrain.load reads."""

    def __init__(
        self, config: EvaluatorConfig, tasks: Sequence[Labelled], run_url: str, resolved: Tree
    ) -> None:
        self.config, self.tasks = config, [item.task for item in tasks]
        self.best_url, self.resolved = f"{run_url}/{BEST}", redacted(resolved)
        self._thread = ThreadPoolExecutor(1, "evaluator")
        self._under_way: list[Future[Record]] = []

    def submit(self, step: int, encoder: LocationEncoder, weights: bytes) -> None:
        """Score an encoder with these weights (safetensors) on the tasks that are due at `step`."""
        self._under_way.append(self._thread.submit(self._evaluate, step, encoder, weights))

    def take(self, wait: bool = False) -> list[Record]:
        """Records {"step", …} of `probe_means` that are ready, or all with `wait`."""
        ready = [future for future in self._under_way if wait or future.done()]
        self._under_way = [future for future in self._under_way if future not in ready]
        return [future.result() for future in ready]

    def _evaluate(self, step: int, encoder: LocationEncoder, weights: bytes) -> Record:
        encoder.load_state_dict(safetensors.torch.load(weights))
        due = [task for task in self.tasks if task.name in self.config.due(step)]
        if not due:
            return {"step": step}
        probes = probe_means(PlaceEncoder(encoder, {}).encode, due, self.config.seeds)
        if len(due) == len(self.tasks):
            self._keep_best(step, mean_probe(probes), encoder)
        return {"step": step, **probes}

    def _keep_best(self, step: int, score: float, encoder: LocationEncoder) -> None:
        before, fault = sealed.inspect(self.best_url)
        if fault is not None or score > before["score"]:
            about = {"step": step, "score": score}
            save_location_encoder(self.best_url, self.resolved, encoder, about)


def mean_probe(probes: Record) -> float:
    """Mean over label budgets of the mean over tasks."""
    return fmean(score for name, score in probes.items() if name.startswith("probe/mean/"))


def probe_means(encode: Encoder, tasks: Sequence[Task], splits: int) -> Record:
    """{"probe/TASK/BUDGET": score} of a frozen encoder on 10° blocks, mean over the splits; TASK is
    also `mean`, over all tasks."""
    row = Row(name="encoder", kind="encoder", encode=encode)
    (scores,) = score([row], tasks, seeds=splits)
    return {
        f"probe/{task or 'mean'}/{named(budget)}": scores.mean(row.name, budget, task)
        for budget in scores.budgets
        for task in (*scores.tasks, None)
    }
