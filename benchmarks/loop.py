"""The loop under Ray against the same loop without Ray, on the same batches, in turn.

    python benchmarks/loop.py [--steps 60] [--repeats 3] [--output loop.json] [path=value …]

The bare loop reads the same rows by a thread of its own, two batches ahead. Both leave out the
first steps, in which streams open. Figures: seconds a step, their ratio (bare / Ray; 1 is no cost),
and the share of a step that Ray's loop waits for data; medians over the repeats.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from raytrain.data import preparation
from raytrain.data.reader import ByThread, Reader
from raytrain.pretrain import read_config
from raytrain.training import checkpoint, launch
from raytrain.training.job import Job, chosen_cards, make_job
from raytrain.training.loop import train

SKIP = 10  # first steps that are not counted


def figures(records: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds a step and the share of it spent waiting for data, without the first steps."""
    steps = [record for record in records if "loss" in record]
    counted = [record for record in steps if record["step"] > SKIP]
    first = next(record for record in steps if record["step"] == SKIP)
    elapsed = counted[-1]["time_s"] - first["time_s"]
    return {
        "step_s": elapsed / (counted[-1]["step"] - SKIP),
        "data_wait": statistics.fmean(record["data_wait"] for record in counted),
        "last_loss": counted[-1]["loss"],
    }


def bare(job: Job, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    records: list[dict[str, Any]] = []
    cpu = torch.device("cpu")
    streams = {
        name: Reader(s, partial(ByThread, s, job.rows(name), cpu), 1, 0.0, lambda *_: None)
        for name, s in job.streams.items()
    }
    train(job, streams, cpu, None, lambda record: bool(records.append(record)))
    return figures(records)


def under_ray(job: Job) -> dict[str, float]:
    records: list[dict[str, Any]] = []
    checkpoint.resume_point(job.run_url, job.resolved, overwrite=False)
    launch.launch(job, use_gpu=False, on_records=records.extend)
    return figures(records)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON of all figures")
    parser.add_argument("overrides", nargs="*", metavar="path=value")
    options = parser.parse_intermixed_args()
    threads = 1
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        fixed = [f"training.steps={options.steps}", f"storage={folder}", "training.log_every=10"]
        fixed += [f"scaling.threads_per_worker={threads}", "training.checkpoint_every=1000000"]
        config = read_config(None, [*fixed, "training.validate_every=1000000", *options.overrides])
        cards = chosen_cards(config)
        urls = preparation.ready(cards.values(), config.data.root)
        launch.connect(config.scaling)
        for repeat in range(options.repeats):
            jobs = [
                make_job(replace(config, name=f"{kind}-{repeat}"), urls, cards, 1)
                for kind in ("bare", "ray")
            ]
            row = {"bare": bare(jobs[0], threads), "ray": under_ray(jobs[1])}
            assert row["bare"]["last_loss"] == row["ray"]["last_loss"], "the batches differ"
            rows.append(row)
            print(json.dumps(row))
    result = {
        "ratio": statistics.median(r["bare"]["step_s"] / r["ray"]["step_s"] for r in rows),
        "data_wait": statistics.median(r["ray"]["data_wait"] for r in rows),
        "repeats": rows,
    }
    print(f"bare / Ray {result['ratio']:.3f}, waiting for data {result['data_wait']:.1%}")
    if options.output:
        options.output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
