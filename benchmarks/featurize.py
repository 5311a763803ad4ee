"""Rows a second of `raytrain.featurize` beside those of its encoder alone, in turns.

    python benchmarks/featurize.py images [--rows 16384] [--repeats 3] [path=value …]
    python benchmarks/featurize.py texts [--rows 8192]

Images are satellite patches of earth-mini by efficientnet-lite0 (their first three channels,
enlarged to 64 px), texts its place names by minilm; path=value are other settings of the encoder.

Bare: a process for every CPU, of one torch thread, each encoding rows that lie in memory, as many
at a time as the command takes. Featurize: what the command does with shards of these rows, from the
first quarter on, since the start of its actors takes as long whatever the size. The
figures are medians over the repeats, and their ratio. CPU time for a row, of the actors and of all
processes together, is what can be compared on a machine that has other things to do; of the others
it is shown in cores, since Ray's own processes take their share whether rows come or not.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from embed import cpu_s

from raytrain.bulk.features import IMAGE_BATCHES, TEXT_BATCHES, Pool, open_features, write_features
from raytrain.data.cards import load_card
from raytrain.data.features import Features, configured, features_of
from raytrain.data.preparation import prepare
from raytrain.data.shards import read_shard
from raytrain.settings import apply_overrides, to_dict
from raytrain.training.config import ScalingConfig
from raytrain.training.launch import connect

BARE_S = 20.0
ACTOR = "_Encode"  # in the titles of their processes
CARDS = {"images": "features/satellite", "texts": "text"}


def bare(features: Features) -> dict[str, float]:
    """Rows/s of all CPUs together, and ms of CPU time for a row."""
    cpus = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(cpus) as pool:
        paces, costs = zip(*pool.map(_bare, [features] * cpus, chunksize=1), strict=True)
    return {"rows_per_s": sum(paces), "cpu_ms": sum(costs) / cpus}


def _bare(features: Features) -> tuple[float, float]:
    import torch

    torch.set_num_threads(1)
    encoder = features.encoder.build(features.spec)
    is_text = features.spec.is_text
    rows = encoder.batch * (TEXT_BATCHES if is_text else IMAGE_BATCHES)
    shard = features.manifest.shards[0]
    fields = {features.field: features.read}
    columns, _ = read_shard(features.url, shard, fields, features.manifest.layout)
    column = columns[features.field]
    pieces = [column[first : first + rows] for first in range(0, len(column), rows)]
    if is_text:
        pieces = [piece.tolist() for piece in pieces]
    encoder.encode(pieces[0][: encoder.batch])
    began, cpu, done = time.perf_counter(), time.process_time(), 0
    for piece in itertools.cycle(pieces):
        encoder.encode(piece)
        done += len(piece)
        if time.perf_counter() > began + BARE_S:
            break
    return done / (time.perf_counter() - began), (time.process_time() - cpu) / done * 1e3


class Clock:
    """Rows, time and CPU times when a quarter of the rows was encoded, and when the last were."""

    def __init__(self, rows: int) -> None:
        self.rows, self.seen = rows, list[tuple[int, float, float, float]]()

    def __call__(self, rows: int) -> None:
        if rows >= self.rows / 4 and (not self.seen or rows == self.rows):
            self.seen.append((rows, time.perf_counter(), cpu_s(), cpu_s(ACTOR)))

    def figures(self, ended: float) -> dict[str, float]:
        """Rows/s until all was written; until the last was encoded, ms of CPU time for a row of the
        actors and of all processes, and how many cores the others took."""
        (first, began, *cpu), (last, encoded, *cpu_end) = self.seen
        rows, (total, actors) = last - first, (b - a for a, b in zip(cpu, cpu_end, strict=True))
        return {
            "rows_per_s": rows / (ended - began),
            "cpu_ms": actors / rows * 1e3,
            "all_cpu_ms": total / rows * 1e3,
            "other_cores": (total - actors) / (encoded - began),
        }


def featurized(features: Features) -> dict[str, float]:
    """What the command does, in figures."""
    clock = Clock(sum(shard.samples for shard in features.manifest.shards))
    write_features(open_features(features, overwrite=True), Pool(), clock)
    return clock.figures(time.perf_counter())


def make_features(kind: str, folder: str, rows: int, settings: list[str]) -> Features:
    """Features to be made of so many rows, or whole shards of about as many."""
    card = load_card(CARDS[kind])
    made = prepare(card, folder, places=rows, collection="earth-mini")
    encoder = configured(apply_overrides(to_dict(card.features), settings))
    features = features_of(made.url, encoder)
    shards = features.manifest.shards_of("train")
    few = shards[: max(1, rows // max(shard.samples for shard in shards))]
    return replace(features, manifest=replace(features.manifest, shards=few))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("kind", choices=CARDS)
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("settings", nargs="*", metavar="path=value", help="of the encoder")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        features = make_features(options.kind, folder, options.rows, options.settings)
        connect(ScalingConfig())
        rounds: list[dict[str, Any]] = []
        for _ in range(options.repeats):
            figures = {"bare": bare(features), "featurize": featurized(features)}
            rounds.append(figures)
            print(json.dumps(figures), flush=True)
    medians = {
        name: {key: statistics.median(r[name][key] for r in rounds) for key in rounds[0][name]}
        for name in rounds[0]
    }
    alone, made = medians["bare"], medians["featurize"]
    result = {
        "medians": medians,
        "ratio": round(made["rows_per_s"] / alone["rows_per_s"], 3),
        "ratio_of_cpu": round(alone["cpu_ms"] / made["cpu_ms"], 3),
        "ratio_of_all_cpu": round(alone["cpu_ms"] / made["all_cpu_ms"], 3),
        "rounds": rounds,
    }
    print(json.dumps(result, indent=1))
    if options.output:
        options.output.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
