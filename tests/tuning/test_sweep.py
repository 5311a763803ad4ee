"""What stops trials early."""

from types import SimpleNamespace

from ray.tune.schedulers import TrialScheduler

from raytrain.settings import build
from raytrain.tuning.record import Trial
from raytrain.tuning.space import SweepConfig
from raytrain.tuning.sweep import scheduler


def sweep(kind: str) -> SweepConfig:
    return build(SweepConfig, {"space": {"a": {"choice": [1]}}, "scheduler": {"kind": kind}})


def decision(judge: TrialScheduler, name: str, step: int, score: float) -> str:
    trial = SimpleNamespace(trial_id=name)
    judge.on_trial_add(None, trial)
    return str(judge.on_trial_result(None, trial, {"step": step, "score": score}))


def test_the_worse_half_is_stopped_also_against_trials_of_an_earlier_start() -> None:
    earlier = [
        Trial(
            folder="", name=f"{n:04d}", number=n, values={}, seeds=(0,), state="finished",
            curve=[(10, 0.1 * n), (20, 0.2 * n)],
        )
        for n in range(5)
    ]  # fmt: skip
    assert decision(scheduler(sweep("asha"), 10, []), "new", 10, 0.05) == "CONTINUE"
    assert decision(scheduler(sweep("asha"), 10, earlier), "new", 10, 0.05) == "STOP"
    assert decision(scheduler(sweep("asha"), 10, earlier), "new", 10, 0.35) == "CONTINUE"
    assert decision(scheduler(sweep("asha"), 10, earlier), "new", 9, 0.05) == "CONTINUE"
    assert decision(scheduler(sweep("none"), 10, earlier), "new", 10, 0.05) == "CONTINUE"
