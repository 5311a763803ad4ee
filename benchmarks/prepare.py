"""Time and memory of `raytrain.prepare` for a table, and for one that is ten times as long.

    python benchmarks/prepare.py [--rows 1000000] [--columns 10] [--times 10] [--kinds csv parquet]
                                 [--folder FOLDER] [--output FILE]

The command is run as a user runs it, in a process of its own, and Ray starts and ends with it. What
is shown of memory is the most that was seen, five times a second: of the command itself, of the
largest worker, of all workers together, and of shared memory, of which Ray's object store consists.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from raytrain import geo
from raytrain.data.manifest import Manifest

CHUNK = 250_000  # rows made at a time, and a row group of Parquet
EVERY_S = 0.2


def make_table(file: Path, rows: int, columns: int) -> None:
    """Random places with numbers, as CSV or Parquet by the name of the file."""
    rng = np.random.default_rng(0)
    names = ["lon", "lat", *(f"n{column}" for column in range(columns))]
    schema = pa.schema([(name, pa.float64()) for name in names])
    kind = pq.ParquetWriter if file.suffix == ".parquet" else pyarrow.csv.CSVWriter
    with kind(file, schema) as writer:
        for first in range(0, rows, CHUNK):
            count = min(CHUNK, rows - first)
            places = geo.random_on_sphere(count, rng)
            numbers = rng.normal(size=(count, columns)).round(6)
            table = np.concatenate([places, numbers], axis=1)
            writer.write_table(pa.table([*table.T], schema=schema))


def measured(card: Path, root: Path) -> dict[str, float]:
    """Run the command: its seconds, and the most memory in MB that was seen of each kind."""
    most: dict[str, float] = {"driver": 0, "largest_worker": 0, "workers": 0, "shared": 0}
    began = time.perf_counter()
    command = [sys.executable, "-m", "raytrain.prepare", str(card), "--root", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            for name, size in memory_mb(psutil.Process(process.pid)).items():
                most[name] = max(most[name], round(size))
            time.sleep(EVERY_S)
        said = process.communicate()[0]
    if process.returncode:
        raise SystemExit(said)
    return {"seconds": round(time.perf_counter() - began, 1), **most}


def memory_mb(command: psutil.Process) -> dict[str, float]:
    """Resident memory of a command and of the workers that Ray started for it."""
    driver, sizes, shared = 0.0, [0.0], 0.0
    with suppress(psutil.NoSuchProcess):
        info = command.memory_info()
        driver = info.rss
        for child, title in workers(command):
            with suppress(psutil.NoSuchProcess):
                info = child.memory_info()
                shared = max(shared, info.shared)
                if title.startswith("ray::"):
                    sizes.append(info.rss - info.shared)
    found = {"driver": driver, "largest_worker": max(sizes), "workers": sum(sizes)}
    return {name: size / 1e6 for name, size in {**found, "shared": shared}.items()}


def workers(command: psutil.Process) -> Iterator[tuple[psutil.Process, str]]:
    """The processes that a command started, with their titles."""
    for child in command.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            yield child, " ".join(child.cmdline())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--kinds", nargs="*", default=["csv", "parquet"])
    parser.add_argument("--folder", type=Path, help="for what is made, and deleted")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    figures = []
    for kind in args.kinds:
        for rows in (args.rows, args.rows * args.times)[: 1 if args.times == 1 else 2]:
            with tempfile.TemporaryDirectory(dir=args.folder) as name:
                folder = Path(name)
                table = folder / f"table.{kind}"
                make_table(table, rows, args.columns)
                card = folder / "table.yaml"
                card.write_text(f"source: {{kind: table, file: table.{kind}}}\n")
                figure = {
                    "kind": kind,
                    "rows": rows,
                    "columns": args.columns,
                    "mb": round(table.stat().st_size / 1e6),
                    **measured(card, folder / "root"),
                }
                manifest = Manifest.load(str(folder / "root" / "table"))
                figure["shards"] = len(manifest.shards)
                assert manifest.samples("train") + manifest.samples("val") == rows
            print(json.dumps(figure), flush=True)
            figures.append(figure)
    if args.output:
        args.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
