"""Do averaged weights know more than the last ones? (Izmailov et al. 2018, SWA)

    python -m raytrain.prepare earth tasks
    KEEP="training.checkpoint_every=100 training.keep_checkpoints=20"
    python -m raytrain.pretrain --config earth name=kept $KEEP    # optim.schedule=constant
    python benchmarks/averaging.py runs/kept

The last checkpoint of a run, and the means of the location encoder's weights over its last three
and over all: seven tasks with 300 labels, 10° blocks, five splits, three of which chose the recipe.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

import raytrain
from raytrain.data.cards import EARTH
from raytrain.encoders.pretrained import CHECKPOINT, PlaceEncoder
from raytrain.evaluation.cards import DEVELOPMENT, load_labels
from raytrain.evaluation.roster import Row
from raytrain.evaluation.scoring import score

BUDGET = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    checkpoints = sorted(options.run.glob(f"{CHECKPOINT}*"))
    chosen = {"last": checkpoints[-1:], "mean of three": checkpoints[-3:], "of all": checkpoints}
    rows = [Row(name=k, kind="encoder", encode=mean(v).encode) for k, v in chosen.items()]
    tasks = [item.task for item in load_labels(DEVELOPMENT, EARTH)]
    (scores,) = score(rows, tasks, budgets=[BUDGET])
    print(f"{len(checkpoints)} checkpoints of {options.run}, {BUDGET} labels")
    for row in scores.rows:
        print(f"{row:16} {scores.mean(row, BUDGET):.4f}")
    for found in scores.compare(scores.rows[1:], BUDGET):
        if found.b == "last":
            interval = f"{found.low:+.4f} to {found.high:+.4f}"
            print(f"{found.a:16} {found.difference:+.4f} ({interval}), p {found.p:.3f}")


def mean(checkpoints: Sequence[Path]) -> PlaceEncoder:
    """The encoder whose weights are the mean of those of checkpoints."""
    encoders = [raytrain.load(str(checkpoint)) for checkpoint in checkpoints]
    weights = [encoder.encoder.state_dict() for encoder in encoders]
    encoders[0].encoder.load_state_dict(
        {name: torch.stack([w[name] for w in weights]).mean(0) for name in weights[0]}
    )
    return encoders[0]


if __name__ == "__main__":
    main()
