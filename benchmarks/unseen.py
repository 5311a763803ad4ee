"""Does an encoder know places that pretraining never saw anything of, or only those it saw?

    python -m raytrain.prepare tasks
    python benchmarks/unseen.py [ENCODER] [--budget 300]

About 5 % of the 10° blocks are left out of every modality (raytrain.geo.held_out). The errors of
probes of the encoder are compared with those of random fields, kriging, for which nothing was
trained: at places that pretraining could see, and in the blocks that it could not, near their edge
and deep inside. A probe never has a label of the block that it is tested on, in any of these.
"""

import argparse
from functools import cache

import numpy as np
from scipy.spatial import cKDTree

from raytrain import geo
from raytrain.data.cards import EARTH
from raytrain.encoders.random_field import RandomFieldConfig
from raytrain.evaluation import baselines, roster
from raytrain.evaluation.cards import DEVELOPMENT, load_labels
from raytrain.evaluation.roster import Row
from raytrain.evaluation.scoring import Cell, score_cell
from raytrain.evaluation.splits import split

BANDS_KM = (0.0, 1.0, 150.0, np.inf)  # to the nearest place that could be seen
NAMES = ("seen", "unseen, within 150 km of what was seen", "unseen, farther")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("encoder", nargs="?", default=EARTH)
    parser.add_argument("--budget", type=int, help="labels to train a probe on; all, if not given")
    parser.add_argument("--splits", type=int, default=10)
    options = parser.parse_args()
    kriging = baselines.from_module(RandomFieldConfig().build())
    rows = [
        Row(name="random fields", kind="encoder baseline", encode=kriging),
        Row(name=options.encoder, kind="encoder", encode=roster.encoder(options.encoder)),
    ]
    saved: dict[str, list[float]] = {name: [] for name in NAMES}
    for item in load_labels(DEVELOPMENT, EARTH):
        task = item.task
        plan = [split(task, seed=seed, budget=options.budget) for seed in range(options.splits)]
        tested = np.concatenate([part.test for part in plan])
        band = np.digitize(unseen_km(task.lonlat_deg)[tested], BANDS_KM) - 1
        errors = [
            np.concatenate(
                [o.error for o in score_cell(Cell(row, task, [("ridge", p) for p in plan]))]
            )
            for row in rows
        ]
        for number, name in enumerate(NAMES):
            without, trained = (float(error[band == number].mean()) for error in errors)
            places = len(np.unique(tested[band == number]))
            saved[name].append(1 - trained / without)
            print(f"{task.name:24} {name:42} {places:6,} places {1 - trained / without:+.1%}")
    print("less error than kriging, mean of the tasks:")
    for name, shares in saved.items():
        print(f"{name:42} {np.mean(shares):.1%}")


def unseen_km(lonlat_deg: geo.Array) -> geo.Array:
    """How far places [n, 2] are from the blocks that pretraining saw; 0 within these."""
    seen, tree = seen_places()
    _, nearest = tree.query(geo.unit_xyz(lonlat_deg))
    km = geo.great_circle_km(lonlat_deg, seen[nearest])
    return np.where(geo.held_out(lonlat_deg), km, 0.0)


@cache
def seen_places() -> tuple[geo.Array, cKDTree]:
    """Places of the blocks that pretraining saw, 16 km apart."""
    dense = geo.random_on_sphere(2_000_000, np.random.default_rng(0))
    seen = dense[~geo.held_out(dense)]
    return seen, cKDTree(geo.unit_xyz(seen))


if __name__ == "__main__":
    main()
