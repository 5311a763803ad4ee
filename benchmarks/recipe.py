"""What each choice in the recipe of the encoder in the box is worth: one setting changed at a time,
of the recipe without kernel and grids; and then these, one after another.

    python -m raytrain.prepare earth tasks
    python benchmarks/recipe.py [--folder recipe] [--only ARM …] [--seeds 0 1]

Then one evaluation with 300 labels on 10° blocks, on five splits; three of them chose the recipe.
Runs that are complete are not repeated. Shards of fewer places, of patches at other scales, and of
GeoCLIP's embedding of 200,000 places as a fourth modality, are made on first use. It trains on a
GPU, where there is one.
"""

import argparse
from pathlib import Path

from without_ray import PLAIN, evaluate, pretrain

from raytrain.data.cards import EARTH, card_names, load_card
from raytrain.data.preparation import prepare
from raytrain.data.sources.rasters import RasterSource

TEACHER = Path(__file__).with_name("geoclip.yaml")
SCALES = [str(card) for card in sorted(Path(__file__).with_name("scales").glob("*.yaml"))]
THREE = "satellite,vegetation,atmosphere"
SCALE = "objective.logit_scale"
KERNEL = ["location.kernel={}", "objective.image_target=statistics"]

ARMS = {
    "plain": [],
    # how long, and in what batches
    "steps-150": ["training.steps=150"],
    "steps-300": ["training.steps=300"],
    "steps-1200": ["training.steps=1200"],
    "steps-2400": ["training.steps=2400"],
    "batch-128": ["training.batch=128"],
    "batch-2048": ["training.batch=2048"],
    "batch-2048-steps-1200": ["training.batch=2048", "training.steps=1200"],
    # distinct places of each modality
    "places-10000": ["data.root={folder}/10000"],
    "places-100000": ["data.root={folder}/100000"],
    # scales of patches: three in place of two
    "scales-1-4-16": [
        "data.root={folder}/scales",
        f"data.modalities={','.join([*SCALES, 'atmosphere'])}",
    ],
    # the objective
    "contrast": ["objective.kind=contrast"],
    "regression": ["objective.kind=regression"],
    "negatives-modality": ["objective.negatives=modality"],
    "negatives-batch": ["objective.negatives=batch"],
    "scale-2.5": [f"{SCALE}.init=2.5"],
    "scale-10": [f"{SCALE}.init=10"],
    "scale-learned": [f"{SCALE}.learned=true"],
    "soft-300": ["objective.near.kind=soft", "objective.near.km=300"],
    "salt": ["method.kind=salt", "training.pairs=1536"],
    # the location encoder
    "dim-256": ["location.dim=256"],
    "dim-1024": ["location.dim=1024"],
    "width-512": ["location.network.width=512"],
    "width-2048": ["location.network.width=2048"],
    "deep": ["location.network.hidden_layers=4"],
    "degrees-10": ["location.positional.degrees=10"],
    "degrees-40": ["location.positional.degrees=40"],
    "fourier": ["location.positional.kind=fourier"],
    "healpix": ["location.positional.kind=healpix"],
    # what is handed on beside what is learned
    "beside-nothing": ["location.random_field=null"],
    "beside-harmonics": ["location.random_field=null", "location.skip=true"],
    # a fourth modality; GeoCLIP is then no independent peer any more
    "with-geoclip": [f"data.modalities={THREE},{TEACHER}"],
    "with-geoclip-steps-1200": [
        f"data.modalities={THREE},{TEACHER}",
        "training.steps=1200",
    ],
    # a kernel between what is expected: means over a grid of an image, or statistics; and grids
    "kernel-means": ["location.kernel={}"],
    "kernel": KERNEL,
    EARTH: [],  # as the recipe is now
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", default="recipe", help="where shards, runs and page go")
    parser.add_argument("--only", nargs="+", metavar="ARM", choices=[*ARMS], default=[*ARMS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="of training")
    options = parser.parse_args()
    folder = Path(options.folder).resolve()
    make_shards(folder)
    runs = [train(folder, arm, seed) for seed in options.seeds for arm in options.only]
    evaluate(runs, folder, "budgets=300", "skip=untrained")


def train(folder: Path, arm: str, seed: int) -> str:
    """Train an arm, unless it is there; returns the run's folder."""
    where = [f"name={arm}-{seed}", f"storage={folder}", f"seed={seed}"]
    settings = [setting.replace("{folder}", str(folder)) for setting in ARMS[arm]]
    before = [] if arm == EARTH else PLAIN
    return pretrain([*where, *before, *settings], EARTH)


def make_shards(folder: Path) -> None:
    """Of fewer places, and of GeoCLIP's embedding, unless they are there."""
    cards = [load_card(name) for name in card_names()]
    rasters = [card for card in cards if isinstance(card.source, RasterSource)]
    for places in (10_000, 100_000):
        for card in rasters:
            prepare(card, f"{folder}/{places}", rasters, places=places, collection=EARTH)
    for name in [*SCALES, "atmosphere"]:
        prepare(load_card(name), f"{folder}/scales", rasters, collection=EARTH)
    prepare(load_card(str(TEACHER)), EARTH)


if __name__ == "__main__":
    main()
