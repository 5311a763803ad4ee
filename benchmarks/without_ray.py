"""Runs that train in this process, since Ray takes longer to start than a short one lasts, and the
evaluation of them all."""

import sys
from functools import partial
from pathlib import Path

import torch

import raytrain.evaluate
from raytrain.data.cards import EARTH
from raytrain.data.preparation import ready
from raytrain.data.reader import ByThread, Reader
from raytrain.pretrain import read_config
from raytrain.training import checkpoint
from raytrain.training.job import chosen_cards, make_job
from raytrain.training.loop import train

# The recipe of `earth` before it had a kernel and grids: what its choices are compared with.
PLAIN = [
    "location.positional={kind: spherical_harmonics}",
    "location.kernel=null",
    "location.random_field.degrees=30",
    "objective.image_target=grid",
]


def pretrain(overrides: list[str], recipe: str | None = None) -> str:
    """Train a run from its last checkpoint to its end, on a GPU where there is one, and return its
    folder. The losses are those of `python -m raytrain.pretrain`."""
    config = read_config(recipe, overrides)
    cards = chosen_cards(config)
    job = make_job(config, ready(cards.values(), config.data.root), cards, workers=1)
    start = checkpoint.resume_point(job.run_url, job.resolved, overwrite=False)
    if start is None or start.step < job.total_steps():
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        readers = {
            name: Reader(
                stream,
                partial(ByThread, stream, job.rows(name), device),
                world=1,
                max_skipped_share=config.data.max_skipped_share,
                on_skipped=print,
            )
            for name, stream in job.streams_from(start.positions if start else {}).items()
        }
        outcome = train(job, readers, device, start)
        print(config.name, {k: round(v, 3) for k, v in outcome["validation"].items()}, flush=True)
    return job.run_url


def evaluate(runs: list[str], folder: Path, *settings: str) -> None:
    """`python -m raytrain.evaluate` with the labels of earth; the page goes into the folder."""
    where = [f"root={EARTH}", f"output={folder}/evaluation"]
    if status := raytrain.evaluate.main([*runs, *where, *settings]):
        sys.exit(status)
