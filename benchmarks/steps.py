"""From the paper's recipe to that of `earth` without kernel and grids: which step matters?

    python -m raytrain.prepare earth tasks
    python -m raytrain.prepare earth --root few --places 20000
    python benchmarks/steps.py [--folder steps] [--seeds 0]

Each arm has the settings of those before it, too. All see the same three modalities in 600 steps
of 3 x 512 pairs, so that the paper's learning rate and epochs, made for larger batches and longer
training, are no part of it. Runs that are complete are not repeated. Then one evaluation on 10°
blocks, on other splits than any recipe was chosen by.
"""

import argparse
from pathlib import Path

from without_ray import evaluate, pretrain

from raytrain.data.cards import EARTH

SAME = ["training.epochs=null", "training.steps=600", "training.batch=512"]
SKIP = "skip=label-kNN,inverse distance,unit xyz,random Fourier,untrained harmonics,geoclip"
STEPS = {
    "paper": ["data.root=few", "optim.lr=1e-3"],
    "scale": ["objective.logit_scale.init=5", "objective.logit_scale.learned=false"],
    "regression": ["objective.kind=both"],
    "optimizer": [
        "optim.lr=5e-4",
        "optim.schedule=cosine",
        "optim.warmup_steps=50",
        "optim.grad_clip=1",
    ],
    "places": [f"data.root={EARTH}"],
    "width": ["location.network.width=1024", "location.dim=768"],
    "fields": ["location.random_field={}"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", default="steps", help="where runs and page go")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of training")
    options = parser.parse_args()
    folder = Path(options.folder).resolve()
    runs, settings = [], list(SAME)
    for number, (step, changed) in enumerate(STEPS.items()):
        settings += changed
        for seed in options.seeds:
            where = [f"name={number}-{step}-{seed}", f"storage={folder}", f"seed={seed}"]
            runs.append(pretrain([*where, *settings], "paper"))
    evaluate(runs, folder, "first_seed=5", SKIP)


if __name__ == "__main__":
    main()
