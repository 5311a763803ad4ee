"""One, two, three or four modalities, under the recipe of the encoder in the box and the paper's.

    python -m raytrain.prepare earth tasks
    python -m raytrain.featurize text --root earth
    python benchmarks/modalities.py earth|plain [--folder modalities] [--seeds 0 1 2] [--nested]
    python -m raytrain.prepare earth --root fewer --places 50000
    python -m raytrain.featurize text --root fewer
    python benchmarks/modalities.py paper --root fewer

MELT on every subset of four modalities. Under the recipe of `earth`, and as it was before it had a
kernel and grids (`plain`), a step has 1,536 pairs, shared by the modalities that are there; under
the paper's 2,048 of each, fifty times over the longest. Runs that are complete are not repeated.
Then one evaluation on 10° blocks, on other splits than any recipe was chosen by; with --nested of
the subsets that grow in the order above. It trains on a GPU, where there is one.
"""

import argparse
from itertools import combinations
from pathlib import Path

from without_ray import PLAIN, evaluate, pretrain

from raytrain.data.cards import EARTH

MODALITIES = ("satellite", "vegetation", "atmosphere", "text")
SUBSETS = [subset for k in range(1, 5) for subset in combinations(MODALITIES, k)]
NESTED = [MODALITIES[:k] for k in range(1, 5)]
EQUAL = "training.pairs=1536"
RECIPES = {  # by name the recipe that raytrain has, and what is changed of it
    "earth": (EARTH, [EQUAL]),
    "plain": (EARTH, [EQUAL, *PLAIN]),
    "paper": ("paper", []),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", choices=[*RECIPES])
    parser.add_argument("--root", default=EARTH, help="data.root of the runs")
    parser.add_argument("--folder", default="modalities", help="where runs and page go")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of training")
    parser.add_argument("--nested", action="store_true", help="a subset of each size, not all")
    options = parser.parse_args()
    folder = Path(options.folder).resolve() / options.recipe
    runs = [
        train(folder, options.recipe, options.root, subset, seed)
        for subset in (NESTED if options.nested else SUBSETS)
        for seed in options.seeds
    ]
    evaluate(runs, folder, "first_seed=5")


def train(folder: Path, recipe: str, root: str, subset: tuple[str, ...], seed: int) -> str:
    """Train a run, unless it is there; returns its folder."""
    where = [f"name={'+'.join(subset)}-{seed}", f"storage={folder}", f"seed={seed}"]
    what = [f"data.root={root}", f"data.modalities={','.join(subset)}"]
    name, changes = RECIPES[recipe]
    return pretrain([*where, *what, *changes], name)


if __name__ == "__main__":
    main()
