"""Which location encoder? Every positional encoding and network, trained on equal terms.

    python benchmarks/encoders.py [--folder encoders] [--at-once 1] [--only NAME …]

Each is the default run on earth-mini, of 200 steps and not 300, with other settings of `location`
and nothing else changed: a recipe chosen for `harmonics 20 · siren`. Then one evaluation of all on
10° blocks, five splits, one training seed. Runs that are complete are not repeated. About a minute
and a half a run on two cores.

FOLDER/table.md has a row each: columns of the embedding, parameters, the time of a forward pass and
of forward and backward on 2,048 places over those of `harmonics 40 · siren` (medians of passes in
turn, one thread), the jump at the dateline and the larger one at a pole (1 is no seam), and the
mean score over seven tasks with 300 labels and with all, mean ± standard deviation over the splits.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raytrain.encoders.location import LocationEncoder, LocationEncoderConfig
from raytrain.geo import random_on_sphere
from raytrain.pretrain import read_config

STEPS = 200
PLACES, TURNS = 2048, 9
REFERENCE = "harmonics 40 · siren"
SIREN: list[str] = []
MLP, RESIDUAL_MLP = ["network.kind=mlp"], ["network.kind=mlp", "network.residual=true"]
FCNET = ["network.kind=fcnet"]
GEOCLIP = ["network.kind=branches", "network.network.activation=relu"]
GEOCLIP += ["network.network.width=512", "network.network.hidden_layers=3"]
DEEP_SIREN = ["network.residual=true", "network.hidden_layers=4"]


def harmonics(degrees: int) -> list[str]:
    return [f"positional.degrees={degrees}"]


def form(name: str) -> list[str]:
    return ["positional.kind=sphere2vec", f"positional.form={name}"]


WRAP, NERF, RBF = ["positional.kind=wrap"], ["positional.kind=nerf"], ["positional.kind=rbf"]
FOURIER = ["positional.kind=fourier"]
THREE_SCALES = [*FOURIER, "positional.sigmas=0.3,0.8,2"]
ON_A_MAP = [*FOURIER, "positional.projection=equal_earth", "positional.sigmas=1,16,256"]
HEALPIX, HASH = ["positional.kind=healpix"], ["positional.kind=hash_grid"]
VORONOI = ["positional.kind=voronoi"]
BOTH = ["positional={kind: concat, parts: [{kind: spherical_harmonics}, {kind: healpix}]}"]

ENCODERS = {
    "harmonics 10 · siren": [*harmonics(10), *SIREN],
    "harmonics 20 · siren": [*harmonics(20), *SIREN],
    REFERENCE: [*harmonics(40), *SIREN],
    "harmonics 20 · residual siren": [*harmonics(20), *DEEP_SIREN],
    "harmonics 20 · mlp": [*harmonics(20), *MLP],
    "harmonics 20 · residual mlp": [*harmonics(20), *RESIDUAL_MLP],
    "harmonics 20 · fcnet": [*harmonics(20), *FCNET],
    "direct · siren": ["positional.kind=direct", *SIREN],
    "wrap · siren": [*WRAP, *SIREN],
    "wrap · fcnet (SINR)": [*WRAP, *FCNET],
    "fourier · siren": [*FOURIER, *SIREN],
    "fourier · mlp": [*FOURIER, *MLP],
    "fourier, 3 scales · branches": [*THREE_SCALES, *GEOCLIP],
    "fourier on a map · branches (GeoCLIP)": [*ON_A_MAP, *GEOCLIP],
    "nerf · mlp": [*NERF, *MLP],
    "rbf · siren": [*RBF, *SIREN],
    "rbf · mlp": [*RBF, *MLP],
    "grid · residual mlp (Space2Vec)": [*form("grid"), *RESIDUAL_MLP],
    "theory · residual mlp (Space2Vec)": [*form("theory"), *RESIDUAL_MLP],
    "sphereC · residual mlp": [*form("sphereC"), *RESIDUAL_MLP],
    "sphereC+ · residual mlp (Sphere2Vec)": [*form("sphereC+"), *RESIDUAL_MLP],
    "sphereC+ · siren": [*form("sphereC+"), *SIREN],
    "sphereM · residual mlp": [*form("sphereM"), *RESIDUAL_MLP],
    "sphereM+ · residual mlp (Sphere2Vec)": [*form("sphereM+"), *RESIDUAL_MLP],
    "dfs · residual mlp (Sphere2Vec)": [*form("dfs"), *RESIDUAL_MLP],
    "healpix · mlp": [*HEALPIX, *MLP],
    "hash grid · mlp": [*HASH, *MLP],
    "voronoi · fcnet (TTE, no tokens)": [*VORONOI, *FCNET],
    "harmonics 20 and healpix · mlp": [*BOTH, *MLP],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", default="encoders", help="where runs and results go")
    parser.add_argument("--at-once", type=int, default=1, help="trainings at a time")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[*ENCODERS])
    options = parser.parse_args()
    folder, names = Path(options.folder), options.only or [*ENCODERS]

    def pretrain(name: str) -> Path:
        where = [f"name={slug(name)}", f"storage={folder}", f"training.steps={STEPS}"]
        run("raytrain.pretrain", *where, *settings(name))
        return folder / slug(name)

    with ThreadPoolExecutor(options.at_once) as pool:
        runs = list(pool.map(pretrain, names))
    page = folder / "evaluation"
    run("raytrain.evaluate", *map(str, runs), f"output={page}", "skip=untrained")
    scores = json.loads((page / "scores.json").read_text())
    table = markdown([row(name, path, scores) for name, path in zip(names, runs, strict=True)])
    (folder / "table.md").write_text(table)
    print(table)


def run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def slug(name: str) -> str:
    """A name of a folder that no two encoders share."""
    return "-".join("".join(c if c.isalnum() or c == "+" else " " for c in name).split())


def settings(name: str) -> list[str]:
    return [f"location.{override}" for override in ENCODERS[name]]


def config(name: str) -> LocationEncoderConfig:
    return read_config(None, settings(name)).location


def row(name: str, run_path: Path, scores: dict[str, Any]) -> dict[str, Any]:
    encoder, spec = config(name).build(), run_path.name
    forward, step = times(encoder)
    seams = scores["geometry"][spec]
    table = scores["tables"][0]["scores"][spec]
    return {
        "name": name,
        "dim": encoder.dim,
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "forward": forward,
        "step": step,
        "dateline": seams["dateline_jump"],
        "pole": max(seams["north_pole_jump"], seams["south_pole_jump"]),
        **{budget: table[budget]["mean"] for budget in ("300 labels", "all labels")},
    }


def times(encoder: LocationEncoder) -> tuple[float, float]:
    """Times of a forward pass, and of one with a backward pass, over the reference's."""
    torch.set_num_threads(1)
    places = torch.from_numpy(random_on_sphere(PLACES, np.random.default_rng(0)))
    reference = config(REFERENCE).build()

    def seconds(model: LocationEncoder, backward: bool) -> float:
        start = time.perf_counter()
        loss = model(places)[:, : model.learned_dim].square().mean()
        if backward:
            loss.backward()
        return time.perf_counter() - start

    ratios = []
    for backward in (False, True):
        pairs = [[seconds(m, backward) for m in (encoder, reference)] for _ in range(TURNS)]
        ours, theirs = map(statistics.median, zip(*pairs[1:], strict=True))
        ratios.append(ours / theirs)
    return ratios[0], ratios[1]


def markdown(rows: list[dict[str, Any]]) -> str:
    heads = "encoder", "columns", "parameters", "forward", "step", "dateline", "pole"
    lines = [f"| {' | '.join([*heads, '300 labels', 'all labels'])} |", "|---" * 9 + "|"]
    for r in sorted(rows, key=lambda r: -r["300 labels"]["mean"]):
        numbers = [r["name"], str(r["dim"]), f"{r['parameters'] / 1e6:.2f} M"]
        numbers += [f"{r[key]:.2f}" for key in ("forward", "step")]
        numbers += [f"{r[key]:.1f}" for key in ("dateline", "pole")]
        scores = [r[budget] for budget in ("300 labels", "all labels")]
        numbers += [f"{s['mean']:.3f} ± {s['std']:.3f}".replace("0.", ".") for s in scores]
        lines.append(f"| {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
