"""A trial: one or more runs, scored while they train, as a function that Ray Tune runs.

A run of one worker trains here, in the process of the trial, on shards that all trials of a node
share: Ray Train would take longer to start than a short trial lasts. Runs of several workers are
launched as `pretrain` launches them.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

import safetensors.torch
import torch
from ray import tune

import raytrain
from raytrain.data import preparation
from raytrain.data.kept import Kept
from raytrain.data.reader import ByThread, Reader
from raytrain.encoders.pretrained import PlaceEncoder
from raytrain.errors import UserError
from raytrain.evaluation.tasks import Task
from raytrain.settings import Tree
from raytrain.training import checkpoint, launch
from raytrain.training.board import Record
from raytrain.training.config import RunConfig, ScalingConfig, TrackingConfig
from raytrain.training.evaluator import mean_probe, probe_means
from raytrain.training.job import Job, chosen_cards, make_job
from raytrain.training.loop import train
from raytrain.training.tracking import Tracker
from raytrain.training.validation import Validation
from raytrain.tuning.space import SweepConfig, Values, run_config

LAST_WORDS_S = 60  # that workers of a trial that is stopped have for a checkpoint
RETRIEVAL = "val_observation_to_location@10/"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all trials of a sweep have in common. Picklable."""

    base: Tree
    sweep: SweepConfig
    scaling: ScalingConfig
    folder: str  # of their runs
    tasks: tuple[Task, ...]  # that the probes are scored on
    kept: Kept
    gpu: bool

    def config(self, values: Values, seed: int = 0, name: str = "") -> RunConfig:
        """A run of a trial."""
        config = run_config(self.base, values)
        training = config.training
        if self.sweep.maximize == "retrieval" and (every := config.evaluate.every):
            training = replace(training, validate_every=every)
        return replace(
            config,
            training=training,
            name=name,
            storage=self.folder,
            overwrite=False,
            seed=seed,
            scaling=self.scaling,
            tracking=TrackingConfig(uri=None),  # of MLflow's runs the sweep takes care
        )


def run_trial(assignment: dict[str, Any], plan: Plan) -> None:
    """The trainable. `assignment` has the name, values and seeds of a record.Trial.

    Reports to Tune {"step", "score", …} at every evaluate.every steps of the first seed and once at
    the end of all, or {"failed": message} where the values make no run that can be trained. Goes on
    from the checkpoints of an earlier start.
    """
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", str(LAST_WORDS_S))
    runs: list[Scored] = []
    try:
        for number, seed in enumerate(assignment["seeds"]):
            name = assignment["name"] + (f"-{number}" if number else "")
            job = prepare_job(plan.config(assignment["values"], seed, name), plan.kept)
            runs.append(Scored(job, plan, report=None if number else tune.report))
            runs[-1].train()
    except UserError as error:
        tune.report({"failed": str(error)})
        return
    scores = [run.score for run in runs]
    tune.report({**runs[0].figures(), "score": fmean(scores), "seed_scores": scores})


def prepare_job(config: RunConfig, kept: Kept) -> Job:
    """The job of a run, whose shards are taken from `kept` where they are there."""
    cards = chosen_cards(config)
    urls = preparation.ready(cards.values(), config.data.root)
    job = make_job(config, urls, cards, workers=config.scaling.workers or 1)
    return replace(job, streams={n: replace(s, kept=kept) for n, s in job.streams.items()})


class Scored:
    """A run that is scored while it trains; `report` hears of every score but the last."""

    def __init__(self, job: Job, plan: Plan, report: Callable[[Record], Any] | None) -> None:
        self.job, self.plan, self.report = job, plan, report
        self.steps, self.step, self.score = job.total_steps(), 0, math.nan
        self.location = job.config.location.build()
        self.began, self.began_s = time.perf_counter(), time.time()
        self.seconds = self.scoring_s = 0.0  # of training and beside it, since this start
        self.first, self.skipped = 0, 0
        config = job.config
        self.tracker = Tracker(config.tracking, job.run_url, str(config.name), job.resolved)

    def train(self) -> None:
        """To the end, from the last checkpoint on."""
        job = self.job
        start = checkpoint.resume_point(job.run_url, job.resolved, overwrite=False)
        self.first = start.step if start else 0
        if self.first < self.steps:
            self.began, self.began_s = time.perf_counter(), time.time()
            if job.workers > 1:
                launch.launch(job, self.plan.gpu, self.hear_all)
            else:
                self._train_here(start)
            self.seconds = time.perf_counter() - self.began - self.scoring_s
        self.tracker.metrics.flush()
        self.step = self.steps
        self.score = self._final_score()

    def hear_all(self, records: list[Record]) -> None:
        for record in records:
            self.hear(record)

    def hear(self, record: Record) -> bool:
        """A record of the loop. Tune may end the trial in here, by SystemExit."""
        began = time.perf_counter()
        self.seconds = began - self.began - self.scoring_s
        if not math.isfinite(record.get("loss", 0.0)):
            raise UserError(f"the loss was {record['loss']} at step {record['step']}")
        self.skipped += sum(sum(n.values()) for n in record.get("skipped", {}).values())
        score = self._scored(record)
        if "step" in record:
            self.tracker.log(record)
        if "checkpoint" in record:
            self.tracker.metrics.keep()
        if score is not None and self.report is not None:
            self.step, self.score = record["step"], score
            self.tracker.metrics.flush()
            self.report(self.figures())
        self.scoring_s += time.perf_counter() - began
        return False

    def _scored(self, record: Record) -> float | None:
        """The score that a record of the loop gives; probes of the encoder in it take its place."""
        weights = record.pop("encoder", None)
        if self.report is None or record.get("step", self.steps) == self.steps:
            return None  # the last score is that of the checkpoint
        if self.plan.sweep.maximize == "retrieval":
            found = any(key.startswith(RETRIEVAL) for key in record)
            return mean_retrieval(record) if found else None
        if weights is None:
            return None
        self.location.load_state_dict(safetensors.torch.load(weights))
        probes = self._probes(PlaceEncoder(self.location, {}))
        record |= probes
        return mean_probe(probes)

    def figures(self) -> Record:
        """Of the run so far; `score` is of its last evaluation."""
        steps = max(1, self.step - self.first)
        return {
            "step": self.step,
            "steps_wanted": self.steps,
            "score": self.score,
            "first_score": self.score,
            "seed_scores": [self.score],
            "seconds": self.seconds * self.step / steps,
            "began_s": self.began_s,
            "parameters": sum(p.numel() for p in self.location.parameters()),
            "dim": self.location.dim,
            "skipped": self.skipped,
        }

    def _train_here(self, start: checkpoint.Checkpoint | None) -> None:
        job = self.job
        torch.set_num_threads(max(1, int(job.config.scaling.cpus_per_worker)))
        device = torch.device("cuda" if self.plan.gpu else "cpu")
        streams = job.streams_from(start.positions if start else {})
        readers = {
            name: Reader(
                stream,
                partial(ByThread, stream, job.rows(name), device),
                world=1,
                max_skipped_share=job.config.data.max_skipped_share,
                on_skipped=lambda name, shards: self.hear_all([{"skipped": {name: shards}}]),
            )
            for name, stream in streams.items()
        }
        train(job, readers, device, start, self.hear, may_save=self._may_save)

    def _may_save(self, step: int) -> bool:
        self.tracker.metrics.keep()
        return True

    def _probes(self, encoder: PlaceEncoder) -> Record:
        return probe_means(encoder.encode, self.plan.tasks, self.job.config.evaluate.seeds)

    def _final_score(self) -> float:
        """Of the last checkpoint."""
        if self.plan.sweep.maximize == "probes":
            return mean_probe(self._probes(raytrain.load(self.job.run_url)))
        model, last = self.job.build_model(), checkpoint.latest(self.job.run_url)
        assert last is not None
        checkpoint.restore(last, model, optimizer=None)
        return mean_retrieval(Validation(self.job, torch.device("cpu"))(model))


def mean_retrieval(validation: Record) -> float:
    """Mean over modalities of the share of held-out observations whose place is in the first 10."""
    found = [share for name, share in validation.items() if name.startswith(RETRIEVAL)]
    if not found:
        raise UserError("tune.maximize=retrieval needs a run with contrast (objective.kind)")
    return fmean(found)
