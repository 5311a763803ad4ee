"""What a sweep costs beside its trainings, and what the scheduler saves.

    python benchmarks/tune.py overhead [--folder sweeps] [--trials 16] [--steps 60]
    python benchmarks/tune.py scheduler [--folder sweeps] [--trials 16] [--steps 240] [path=value …]

overhead: a sweep of short trials by `python -m raytrain.tune`, from the moment its first trial
trains to the end of its last, beside the same trainings by nothing but the loop, in as many
processes of one thread as the sweep ran at a time. ratio = wall / (sum of bare times / processes).

scheduler: the same trials, drawn at random with one seed, with and without successive halving:
training steps that were spent, and the score of the best trial after all of its steps.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

SPACE = "location_encoder"
RANDOM = ["tune.search.kind=random", "tune.minutes=null", "tune.finalists.count=0"]


def sweep(folder: Path, name: str, *arguments: str) -> dict[str, Any]:
    """Run a sweep, or go on with it; what its results.json holds."""
    where = [f"storage={folder}", f"name={name}", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
    command = [sys.executable, "-m", "raytrain.tune", "--space", SPACE, *where, *arguments]
    subprocess.run(command, check=True)
    results: dict[str, Any] = json.loads((folder / name / "results.json").read_text())
    return results


def train_bare(task: tuple[dict[str, Any], str, list[str]]) -> float:
    """Seconds of one trial's training by the loop alone, without Ray."""
    import torch

    from raytrain.data import preparation
    from raytrain.data.reader import ByThread, Reader
    from raytrain.settings import apply_overrides, with_paths
    from raytrain.training import checkpoint
    from raytrain.training.job import chosen_cards, make_job
    from raytrain.training.loop import train
    from raytrain.tuning.space import run_config

    values, run, overrides = task
    torch.set_num_threads(1)
    base = with_paths({}, {"name": Path(run).name, "storage": str(Path(run).parent)})
    config = run_config(apply_overrides(base, [*overrides, "data.verify=false"]), values)
    cards = chosen_cards(config)
    job = make_job(config, preparation.ready(cards.values(), config.data.root), cards, 1)
    checkpoint.resume_point(job.run_url, job.resolved, overwrite=True)
    cpu, began = torch.device("cpu"), time.perf_counter()
    readers = {
        name: Reader(s, partial(ByThread, s, job.rows(name), cpu), 1, 0.0, lambda *_: None)
        for name, s in job.streams.items()
    }
    train(job, readers, cpu)
    return time.perf_counter() - began


def overhead(folder: Path, trials: int, steps: int) -> dict[str, Any]:
    settings = [f"training.steps={steps}", f"evaluate.every={steps}"]
    settings += ["evaluate.tasks=air_temperature", "evaluate.seeds=1"]
    arguments = [*RANDOM, "tune.scheduler.kind=none", f"--trials={trials}", *settings]
    results = sweep(folder, "overhead", *arguments)
    ended = [trial for trial in results["trials"] if trial["state"] == "finished"]
    wall = max(t["told_s"] for t in ended) - min(t["began_s"] for t in ended)
    at_once = os.cpu_count() or 1
    tasks = [(t["values"], str(folder / "bare" / str(t["number"])), settings) for t in ended]
    with multiprocessing.get_context("spawn").Pool(at_once) as pool:
        bare = pool.map(train_bare, tasks, chunksize=1)
    return {
        "trials": len(ended),
        "at_once": at_once,
        "wall_s": round(wall, 1),
        "bare_s": [round(seconds, 1) for seconds in bare],
        "trainings_in_the_sweep_s": [round(t["seconds"], 1) for t in ended],
        "ratio": round(wall / (sum(bare) / at_once), 2),
        "mb_read": round(results["data"]["bytes"] / 1e6),
    }


def scheduler(folder: Path, trials: int, steps: int, overrides: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ("none", "asha"):
        settings = [f"training.steps={steps}", f"tune.scheduler.kind={kind}", *RANDOM, *overrides]
        results = sweep(folder, f"scheduler-{kind}", f"--trials={trials}", *settings)
        best = next(t for t in results["trials"] if t["number"] == results["best"])
        found[kind] = {
            "steps": sum(t["steps"] for t in results["trials"]),
            "best_trial": best["number"],
            "best_score": round(best["score"], 4),
            "seconds": round(results["seconds"]),
        }
    found["fewer_steps"] = round(found["none"]["steps"] / found["asha"]["steps"], 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("part", choices=["overhead", "scheduler"])
    parser.add_argument("--folder", type=Path, default=Path("sweeps"))
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--steps", type=int)
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="as training.batch=128")
    options = parser.parse_intermixed_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.part == "overhead":
        figures = overhead(options.folder, options.trials, options.steps or 60)
    else:
        figures = scheduler(options.folder, options.trials, options.steps or 240, options.overrides)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
