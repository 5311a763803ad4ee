"""The trials of a sweep by Ray Tune: how many at a time, who stops early, who begins again."""

import logging
import math
import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from raytrain import storage
from raytrain.tuning.proposals import Queue
from raytrain.tuning.record import Trial
from raytrain.tuning.space import SweepConfig
from raytrain.tuning.trial import Plan, run_trial

RETRIES = 1  # of a trial whose process was lost
FOLDER = "ray-tune"  # for what Tune itself writes; nothing is read from there
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed has no score
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}

OnTrial = Callable[[Trial], None]


def at_once(plan: Plan) -> int:
    """How many trials run side by side: as many as the cluster has room for now."""
    there: dict[str, float] = ray.cluster_resources()
    scaling = plan.scaling
    workers = scaling.workers or 1
    room = there.get("CPU", 0.0) / (workers * scaling.cpus_per_worker)
    if plan.gpu:
        room = min(room, there.get("GPU", 0.0) / (workers if workers > 1 else plan.sweep.gpu_share))
    found = max(1, math.floor(room + 1e-9))
    return min(found, plan.sweep.max_concurrent or found)


def scheduler(sweep: SweepConfig, first_steps: int, earlier: Sequence[Trial]) -> TrialScheduler:
    """What stops trials early, first after so many steps. It knows what trials of an `earlier`
    start had scored."""
    if sweep.scheduler.kind == "none":
        return FIFOScheduler()
    asha = ASHAScheduler(
        time_attr="step",
        metric="score",
        mode="max",
        grace_period=first_steps,
        reduction_factor=sweep.scheduler.factor,
        max_t=10**9,  # a trial knows its own end
    )
    for trial in earlier:
        known = SimpleNamespace(trial_id=trial.name)
        asha.on_trial_add(None, known)
        for step, score in trial.curve:
            asha.on_trial_result(None, known, {"step": step, "score": score})
    return asha


def run(
    plan: Plan,
    queue: Queue,
    side_by_side: int,
    on_trial: OnTrial,
    scheduler: TrialScheduler | None = None,
) -> bool:
    """Run the trials of `queue` to their ends, and tell whether all came to theirs; `on_trial`
    hears of each at every change.

    A trial whose process dies is started again RETRIES times, from its last checkpoint, and then
    has failed; the others go on. On Ctrl-C it returns with trials that are still `running`.
    """
    os.environ.update(SETTINGS)
    # Keys of S3 reach trials as they reach all of Ray's processes. Tune would hand them on once
    # more, in a way that ends in Ray's logs.
    class_cache.ENV_VARS_TO_PROPAGATE -= {
        name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")
    }
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's error is in its record
    resources = {"CPU": plan.scaling.cpus_per_worker}
    if plan.gpu:
        resources["GPU"] = plan.sweep.gpu_share
    if (plan.scaling.workers or 1) > 1:  # they are Ray Train's, which asks for them itself
        resources = {"CPU": 0.01}  # it may not be nothing
    trainable = tune.with_resources(tune.with_parameters(run_trial, plan=plan), resources)
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=queue,
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=side_by_side,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=FOLDER,
            storage_path=plan.folder,
            verbose=0,
            callbacks=[_Told(queue, on_trial)],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    ).fit()
    storage.remove_folder(f"{plan.folder}/{FOLDER}")
    return queue.exhausted and all(trial.state != "running" for trial in queue.given.values())


class _Told(tune.Callback):  # type: ignore[misc]
    """Keeps the records of trials up to date as Tune tells of them."""

    def __init__(self, queue: Queue, on_trial: OnTrial) -> None:
        self.queue, self.on_trial = queue, on_trial

    def __getstate__(self) -> dict[str, object]:
        return {}  # Tune writes down all that it is given

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        self._change(trial)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        self._change(trial, lambda record: record.take(result))

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        def again(record: Trial) -> None:
            record.attempts += 1

        self._change(trial, again)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        def end(record: Trial) -> None:
            if record.state == "running":
                record.state = "finished" if record.steps == record.steps_wanted else "stopped"

        self._change(trial, end)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        def fail(record: Trial) -> None:
            record.state, record.error = "failed", _why(trial)

        self._change(trial, fail)

    def _change(self, trial: Any, change: Callable[[Trial], None] = lambda record: None) -> None:
        record = self.queue.given[trial.trial_id]
        change(record)
        self.on_trial(record)


def _why(trial: Any) -> str:
    """The last line of what ended a trial."""
    error = trial.get_pickled_error() or trial.get_error()
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return f"{type(cause).__name__}: {lines[-1]}"[:300]
