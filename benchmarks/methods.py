"""Do more modalities help? MELT, SALT and pair on equal terms, three training seeds each.

    python -m raytrain.prepare earth tasks
    python benchmarks/methods.py [--root earth] [--seeds 3] [--folder methods]

Every run takes 300 steps of 1,536 pairs: MELT 512 of each of three modalities, SALT and pair 1,536
of one. All else are the defaults. Then one evaluation of all runs beside all baselines, on 10°
blocks, with five splits. Runs that are complete are not repeated. About two minutes a run and ten
for the evaluation on two cores.
"""

import argparse
import subprocess
import sys

PAIRS, STEPS = 1536, 300
MODALITIES = ("satellite", "vegetation", "atmosphere")
VARIANTS = {
    "melt": ["method.kind=melt"],
    "salt": ["method.kind=salt"],
    **{f"pair-{name}": ["method.kind=pair", f"method.modality={name}"] for name in MODALITIES},
}


def run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", default="earth", help="data.root of the runs and the labels")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds")
    parser.add_argument("--folder", default="methods", help="where runs and the page go")
    options = parser.parse_args()
    runs = []
    for seed in range(options.seeds):
        for variant, overrides in VARIANTS.items():
            name = f"{variant}-{seed}"
            every = [f"training.steps={STEPS}", f"training.pairs={PAIRS}", "training.log_every=1"]
            where = [f"name={name}", f"storage={options.folder}", f"data.root={options.root}"]
            run("raytrain.pretrain", *where, *overrides, *every, f"seed={seed}")
            runs.append(f"{options.folder}/{name}")
    page = f"output={options.folder}/evaluation"
    run("raytrain.evaluate", *runs, f"root={options.root}", page)


if __name__ == "__main__":
    main()
