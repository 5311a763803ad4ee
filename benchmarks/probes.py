"""What a run's embedding knows, beside everything that it has to beat.

    python benchmarks/probes.py RUN [RUN ...] [--tasks FILE.npz] [--seeds 5] [--holdout 10]
        [--output probes.json]

Ridge probes on spatial blocks (or rows at random, or continents), with all labels and with 300. A
row each for the runs, for every run's encoder untrained, and for the baselines. About a minute and
a half on one core for the baselines, ten seconds for a run. The run `geoclip` is the published one.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import raytrain
from raytrain.data.cards import load_card
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import GEOCLIP
from raytrain.errors import UserError
from raytrain.evaluation import baselines
from raytrain.evaluation.probes import Encoder
from raytrain.evaluation.scoring import score
from raytrain.evaluation.splits import Holdout
from raytrain.evaluation.tasks import load_tasks
from raytrain.settings import build
from raytrain.storage import datasets_dir

MINI = datasets_dir() / "earth-mini" / "tasks.npz"


def encoders_of(runs: list[str]) -> tuple[dict[str, Encoder], dict[str, set[str]]]:
    """Baselines, then runs, each architecture of theirs also untrained; and the tasks whose labels
    the modalities of a run contain."""
    rows: dict[str, Encoder] = {
        "unit xyz": baselines.unit_xyz,
        "random Fourier": baselines.random_fourier(),
        "untrained harmonics": baselines.harmonics(20),
    }
    leaks: dict[str, set[str]] = {}
    seen: list[Any] = []
    for run in runs:
        encoder = raytrain.load(run)
        if encoder.config is GEOCLIP:
            rows["GeoCLIP"] = encoder.encode
            continue
        location = encoder.config["location"]
        if location not in seen:
            seen.append(location)
            suffix = "" if len(seen) == 1 else f" {len(seen)}"
            config = build(LocationEncoderConfig, location, "location")
            rows[f"untrained encoder{suffix}"] = baselines.untrained(config)
        name = run.rstrip("/")
        rows[name] = encoder.encode
        cards = [load_card(modality) for modality in encoder.config["data"]["modalities"]]
        if leaked := {task for card in cards for task in card.leaks}:
            leaks[name] = leaked
    return rows, leaks


def holdout(text: str) -> Holdout:
    if text == "random" or text == "continent":
        return text
    return float(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folder or URL of a run")
    parser.add_argument("--tasks", type=Path, default=MINI, help="default: those of earth-mini")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--holdout", type=holdout, default=10.0, help="degrees of blocks, random or continent"
    )
    parser.add_argument("--output", type=Path, default=Path("probes.json"))
    args = parser.parse_args()
    started = time.perf_counter()
    try:
        rows, leaks = encoders_of(args.runs)
        tasks = load_tasks(args.tasks)
        scores = score(rows, tasks, holdout=args.holdout, seeds=args.seeds, leaks=leaks)
    except UserError as error:
        sys.exit(f"error: {error}")
    seconds = time.perf_counter() - started
    print(scores.text())
    result = {"tasks": args.tasks.name, "seconds": round(seconds, 1), **scores.to_dict()}
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{seconds:.0f} s, written to {args.output}")


if __name__ == "__main__":
    main()
