"""Places a second of `raytrain.embed` beside those of its encoder alone, and the memory it needs.

    python benchmarks/embed.py [--places 1000000] [--dtype float32] [--output FILE] [path=value …]

Bare: a process for every CPU, of one thread, each calling `encode` again and again on places that
lie in memory, as many at a time as the command takes; nothing is read, converted, kept or written.
Embed: what the command does with a Parquet file of so many places, once Ray's workers run, whose
start takes some seconds whatever the size. Bare comes before and after it, and counts as the mean
of both, since a machine is not always as fast. CPU time for a place, of all processes together,
is what can be compared on a machine that has other things to do. Memory, at every quarter of the
places: what the command and all processes that it started have resident (shared pages, of which
Ray's object store consists, are counted once, as such).
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import get_args

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from raytrain import geo
from raytrain.bulk.places import Grid, Table
from raytrain.bulk.write import ROWS, Dtype, open_folder, write_embeddings
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import save_location_encoder
from raytrain.evaluation import roster
from raytrain.settings import apply_overrides, build, to_dict
from raytrain.training.config import ScalingConfig
from raytrain.training.launch import connect

BARE_S = 20.0
CHUNK = 1_000_000  # places made at a time


def bare(run: str) -> tuple[float, float]:
    """Places/s of all CPUs together, and µs of CPU time for a place."""
    cpus = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(cpus) as pool:
        paces, costs = zip(*pool.map(_bare, [run] * cpus, chunksize=1), strict=True)
    return sum(paces), sum(costs) / cpus


def _bare(run: str) -> tuple[float, float]:
    import torch

    torch.set_num_threads(1)
    encode = roster.encoder(run)
    lon, lat = geo.random_on_sphere(ROWS, np.random.default_rng(0)).T.copy()
    for _ in range(10):
        encode(lon, lat)
    began, cpu, calls = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < began + BARE_S:
        encode(lon, lat)
        calls += 1
    places = calls * ROWS
    return places / (time.perf_counter() - began), (time.process_time() - cpu) / places * 1e6


def cpu_s(title: str = "") -> float:
    """CPU time of this process and of those that it started and that still run; with a `title`, of
    those that have it in theirs."""
    me, total = psutil.Process(), 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            if title in " ".join(process.cmdline()):
                times = process.cpu_times()
                total += times.user + times.system
    return total


class Memory:
    """Samples of memory, and the most of them by quarter of the work."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.quarters: list[dict[str, int]] = []

    def __call__(self, rows: int) -> None:
        self.done += rows
        if self.done * 4 >= self.total * (len(self.quarters) + 1):
            self.quarters.append(memory_mb())


def memory_mb() -> dict[str, int]:
    """Resident memory of this process, of Ray's workers, and of shared memory, in MB."""
    me = psutil.Process()
    own = me.memory_info()
    workers = shared = 0
    for child in me.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            info = child.memory_info()
            shared = max(shared, info.shared)  # the raylet maps all that is used of the store
            workers += info.rss - info.shared
    sizes = {"driver": own.rss, "workers": workers, "object_store": shared}
    return {name: round(size / 1e6) for name, size in sizes.items()}


def make_places(file: Path, places: int) -> None:
    """Random places with a number, as Parquet of one row group for every million."""
    rng = np.random.default_rng(0)
    fields = [("number", pa.int64()), ("lon", pa.float64()), ("lat", pa.float64())]
    with pq.ParquetWriter(file, pa.schema(fields)) as writer:
        for first in range(0, places, CHUNK):
            numbers = np.arange(first, min(first + CHUNK, places))
            lon, lat = geo.random_on_sphere(len(numbers), rng).T
            writer.write_table(pa.table({"number": numbers, "lon": lon, "lat": lat}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--places", type=int, default=1_000_000)
    parser.add_argument("--dtype", choices=get_args(Dtype), default="float32")
    parser.add_argument("--folder", type=Path, help="for 2.7 KB a place, then deleted")
    parser.add_argument("--output", type=Path)
    parser.add_argument("location", nargs="*", metavar="path=value", help="as skip=false")
    args = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        config = build(LocationEncoderConfig, apply_overrides({}, args.location))
        save_location_encoder(f"{folder}/run", {"location": to_dict(config)}, config.build())
        make_places(Path(folder, "places.parquet"), args.places)
        connect(ScalingConfig())
        encode = roster.encoder(run := f"{folder}/run")
        grid = Grid(0.5)  # a part for every worker
        warm = open_folder(run, encode, grid, f"{folder}/warm", "float16", False)
        write_embeddings(encode, grid, warm)
        before = bare(run)
        table = Table(f"{folder}/places.parquet")
        output = open_folder(run, encode, table, f"{folder}/out", args.dtype, False)
        memory, cpu = Memory(args.places), cpu_s()
        written = write_embeddings(encode, table, output, memory)
        cost = (cpu_s() - cpu) / written.rows * 1e6
        size = sum(file.stat().st_size for file in Path(folder, "out").iterdir())
        after = bare(run)
    (bare_pace, bare_cost), pace = np.mean([before, after], axis=0), written.rows / written.seconds
    figures = {
        "places": written.rows,
        "dim": written.dim,
        "dtype": args.dtype,
        "seconds": round(written.seconds, 1),
        "bare_places_per_s": [round(pace) for pace, _ in (before, after)],
        "embed_places_per_s": round(pace),
        "ratio": round(pace / bare_pace, 3),
        "cpu_us_per_place": {"bare": round(bare_cost, 1), "embed": round(cost, 1)},
        "gb_written": round(size / 1e9, 2),
        "mb_at_each_quarter": memory.quarters,
    }
    print(json.dumps(figures, indent=1))
    if args.output:
        args.output.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
