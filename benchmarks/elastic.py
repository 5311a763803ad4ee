"""A run on 3, then 2, then 3 nodes, against the same run on 3 throughout.

    python benchmarks/elastic.py [--steps 200] [--seeds 3] [--folder elastic] [--output FILE]

The nodes are raylets of this machine, of two CPUs each. After a third of the steps a node is lost,
without notice; after half of them another comes. Figures, by seed: workers and rows that each took
of every stream, the loss of the last ten steps, held-out retrieval, and probes.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from raytrain.training import checkpoint

SETTINGS = [
    "training.batch=384", "training.checkpoint_every=20", "training.log_every=1",
    "scaling.workers=3", "scaling.cpus_per_worker=1.5", "scaling.threads_per_worker=1",
    "scaling.min_workers=1", "scaling.grow_seconds=5", "tracking.uri=null",
]  # fmt: skip


def run(cluster: Cluster, folder: Path, name: str, steps: int, seed: int, disturbed: bool) -> None:
    """One run of the command; where it is `disturbed`, a node is lost and another comes."""
    where = [f"name={name}", f"storage={folder}", f"training.steps={steps}", f"seed={seed}"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "raytrain.pretrain", *where, *SETTINGS],
        env={**os.environ, "RAY_ADDRESS": cluster.address},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    loses, shrunk = disturbed, False
    for line in process.stdout:
        print(line, end="", flush=True)
        found = re.match(r"step (\d+)/", line)
        step = int(found[1]) if found else 0
        if loses and step > steps / 3:
            loses = False
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        shrunk |= "with 2 in place of 3" in line
        if shrunk and step > steps / 2:
            shrunk = False
            cluster.add_node(num_cpus=2)
    if process.wait():
        sys.exit(f"{name} failed")


def figures(url: Path) -> dict[str, Any]:
    """What came of a run."""
    end = checkpoint.latest(str(url))
    assert end is not None
    records = [json.loads(line) for line in (url / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    retrieval = [v for k, v in records[-1].items() if "observation_to_location@10/" in k]
    probes = json.loads((url / "probes.json").read_text())
    return {
        "workers_and_rows": next(iter(end.positions.values())),
        "last_losses": round(statistics.fmean(losses[-10:]), 4),
        "retrieval_at_10": [round(value, 4) for value in retrieval],
        "probes": probes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("elastic"))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    folder, found = options.folder.absolute(), dict[str, Any]()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(3):
            cluster.add_node(num_cpus=2)
        for seed in range(options.seeds):
            for kind in ("fixed", "elastic"):
                name = f"{kind}-{seed}"
                run(cluster, folder, name, options.steps, seed, disturbed=kind == "elastic")
                found[name] = figures(folder / name)
    finally:
        cluster.shutdown()
    text = json.dumps(found, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
