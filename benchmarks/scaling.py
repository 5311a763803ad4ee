"""A scaling sheet: step time on 1 to 512 GPUs, what breaks first at each size, and what answers it.

    python benchmarks/scaling.py [--measure cuda] [--output FOLDER] [--nic-gb-per-s 50] …
    python benchmarks/scaling.py --check        runs 1, 2 and 3 workers here; root, Linux

A step is predicted as the sum of what happens in turn, on every worker at once:

- launches: what a step takes however small its batch. encoders: forward, backward, optimizer, by
  the pairs of a worker. similarities: by a worker's rows times the whole batch's columns; those
  that come in tiles are computed twice (objective/losses.py).
- gather: of embeddings, all-gather forward and all-reduce backward (objective/collectives.py).
  gradients: DDP's all-reduce. In a ring of W workers each sends (W - 1) / W of all bytes for an
  all-gather, and twice that for an all-reduce; the slower of NVLink and a node's network card
  carries them. latency: of the messages, one after another. Nothing is taken to overlap.
- data: reading goes on beside all this; where it takes longer, the step waits for it.

Seconds of a step, a pair and a similarity are measured with --measure DEVICE, and by --check. Else
they are of one H200: a similarity's from its peak rates (6 x 256 flops at 67 TFLOP/s, and 32 bytes
at 4.8 TB/s), the others so that the figures of docs/benchmarks.md come out: of the default run
67,000 pairs a second at 1,536 pairs a step and 408,000 at 12,288. Parameters and bytes of
activations and shards are counted on the default model and on earth-mini. One GPU's memory holds
less than all of it: the sheet knows of parameters, activations, gathered embeddings and
similarities alone.
"""

import argparse
import itertools
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import wire
from scipy.optimize import nnls

from raytrain.evaluation import charts
from raytrain.objective.losses import TILE
from raytrain.training.job import Job

GPUS, PAIRS = (1, 8, 64, 512), (2_048, 16_384, 131_072, 1_048_576)
BUCKET = 25 * 2**20  # bytes of gradients in one of DDP's messages
AGREEMENT = 0.2
PAYLOAD = 1448 / 1514  # of what a token bucket counts of an Ethernet frame, TCP carries so much


@dataclass(frozen=True)
class Workload:
    """The model and data. Sizes in bytes, per pair where not of the whole."""

    modalities: int
    dim: int
    parameters: int
    activations: float
    shard_bytes: float
    negatives: str = "asymmetric"

    def similarities(self, rows: float, ranks: int) -> list[float]:
        """Elements of each softmax of a worker, for so many rows of every modality on each."""
        own, all_ = rows * ranks, rows * ranks * self.modalities
        columns = {"asymmetric": (all_, own), "batch": (all_, all_), "modality": (own, own)}
        return [rows * wide for wide in columns[self.negatives] * self.modalities]

    def computed(self, rows: float, ranks: int) -> float:
        """The sum of these, with those in tiles counted as what their second pass costs more."""
        return sum(n * (4 / 3 if n > TILE else 1) for n in self.similarities(rows, ranks))


@dataclass(frozen=True)
class Costs:
    """Seconds on one worker: of a step, and what is added for a pair and for a similarity."""

    step: float
    pair: float
    similarity: float


@dataclass(frozen=True)
class Cluster:
    """Bytes, seconds, bytes a second."""

    per_node: int  # workers
    memory: float
    within: float  # a worker's link inside the node, one way
    between: float  # a node's network card, one way
    hop_s: float
    storage: float  # a node reads shards from S3
    rows_per_s: float  # a worker's readers decode
    crowding: float = 1.0  # workers for each core, at least 1
    hops: Callable[[int], float] = math.log2


def predict(
    work: Workload, costs: Costs, cluster: Cluster, ranks: int, rows: float
) -> dict[str, float]:
    """Seconds of a step by part, of `rows` pairs of every modality on each of so many workers."""
    m, wire_share = work.modalities, (ranks - 1) / ranks
    pairs = m * rows * ranks
    one_node = ranks <= cluster.per_node
    speed = cluster.within if one_node else min(cluster.within, cluster.between)
    embedded = 2 * pairs * work.dim * 4
    messages = 2 * m + 2 * (2 * m + math.ceil(4 * work.parameters / BUCKET))
    parts = {
        "launches": costs.step * cluster.crowding,
        "encoders": costs.pair * m * rows * cluster.crowding,
        "similarities": costs.similarity * work.computed(rows, ranks) * cluster.crowding,
        "gather": 3 * wire_share * embedded / speed,
        "gradients": 2 * wire_share * 4 * work.parameters / speed,
        "latency": messages * cluster.hops(ranks) * cluster.hop_s,
    }
    nodes = math.ceil(ranks / cluster.per_node)
    reading = pairs * work.shard_bytes / (nodes * cluster.storage)
    decoding = m * rows / cluster.rows_per_s
    waited = max(reading, decoding) - sum(parts.values())
    return parts | {"data": max(0.0, waited)}


def memory(work: Workload, ranks: int, rows: float) -> dict[str, float]:
    """Bytes on a worker, by what they are for."""
    sizes = work.similarities(rows, ranks)
    kept = sum(4 * n for n in sizes if n <= TILE)
    return {
        "parameters": 4 * 5 * work.parameters,  # weights, gradients, DDP's copy, AdamW's two
        "activations": work.activations * work.modalities * rows,
        # Gathered, concatenated, the gradient of both, and a copy that is reduced.
        "gather": 5 * 2 * work.modalities * rows * ranks * work.dim * 4,
        "similarities": kept + 3 * 4 * min(max(sizes), TILE),
    }


def counted_workload(job: Job) -> Workload:
    """Of the job's model and shards; activations by autograd's own account, under bfloat16."""
    model, m = job.build_model(), len(job.streams)
    sizes = []
    for rows in (32, 96):
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            memory = tensor.untyped_storage()
            kept[memory.data_ptr()] = memory.nbytes()
            return tensor

        batch = wire.batch_of(job, rows, torch.device("cpu"))
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with torch.autocast("cpu", torch.bfloat16), hooks:
            outputs = model(batch)
        sizes.append(sum(kept.values()))
        del outputs
    manifests = [stream.manifest for stream in job.streams.values()]
    samples = sum(m.samples("train") + m.samples("val") for m in manifests)
    return Workload(
        modalities=m,
        dim=model.location.learned_dim,
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        activations=(sizes[1] - sizes[0]) / (64 * m),
        shard_bytes=sum(shard.bytes for man in manifests for shard in man.shards) / samples,
    )


def measured_costs(job: Job, work: Workload, device: torch.device) -> Costs:
    """Fitted to the steps of one worker at several sizes, by least squares of relative errors."""
    sizes = (32, 128, 512, 1024) if device.type == "cpu" else (64, 512, 4096, 16384)
    times = [wire.step_seconds(job, rows, device, 5) for rows in sizes]
    wanted = []
    for rows, seconds in zip(sizes, times, strict=True):
        counted = (1, work.modalities * rows, work.computed(rows, 1))
        wanted.append([count / seconds for count in counted])
    scale = np.max(wanted, axis=0)
    found, _ = nnls(np.array(wanted) / scale, np.ones(len(sizes)))
    return Costs(*(found / scale).tolist())


def line(work: Workload, costs: Costs, cluster: Cluster, ranks: int, pairs: int) -> dict[str, Any]:
    """One size of the sheet: the step, what breaks first, and what answers that."""
    rows = max(1, round(pairs / (work.modalities * ranks)))
    held = memory(work, ranks, rows)
    room = cluster.memory - sum(held.values()) + held["activations"]
    parts = max(1, math.ceil(held["activations"] / room)) if room > 0 else rows + 1
    held["activations"] /= parts
    seconds = predict(work, costs, cluster, ranks, rows)
    if parts > 1:  # embedded a second time, in parts (training/accumulate.py)
        seconds["encoders"] *= 4 / 3
        seconds["launches"] *= 4 / 3 * parts
    most = max(seconds, key=lambda name: seconds[name])
    if parts > rows:
        breaks, what = "does not fit", "a smaller `training.batch`"
    elif parts > 1:
        breaks, what = "memory", f"`training.accumulate={parts}`, with which the step is so long"
    else:
        breaks = f"{most}, {seconds[most] / sum(seconds.values()):.0%}"
        what = answer(work, costs, cluster, ranks, rows, most)
    return {
        "gpus": ranks,
        "pairs": rows * work.modalities * ranks,
        "step_s": sum(seconds.values()),
        "seconds": seconds,
        "memory": held,
        "breaks": breaks,
        "answer": what,
    }


def answer(
    work: Workload, costs: Costs, cluster: Cluster, ranks: int, rows: float, breaks: str
) -> str:
    """What shortens the part of a step that takes longest, and the step that it gives."""

    def step(changed: Workload) -> str:
        return f"{1000 * sum(predict(changed, costs, cluster, ranks, rows).values()):,.0f} ms"

    if breaks == "similarities":
        less = replace(work, negatives="modality")
        return f"`objective.negatives=modality`: {step(less)}; or more GPUs"
    if breaks == "gather":
        return f"`location.dim={work.dim // 2}`: {step(replace(work, dim=work.dim // 2))}"
    return {
        "launches": "a larger `training.batch` costs little",
        "encoders": "more GPUs",
        "gradients": "a larger `training.batch`: fewer steps",
        "latency": "a larger `training.batch`: fewer steps",
        "data": "shards on local disks; more CPUs beside `scaling.cpus_per_worker`",
    }[breaks]


def markdown(lines: list[dict[str, Any]]) -> str:
    heads = ("GPUs", "pairs a step", "step", "pairs/s", "breaks first", "memory", "answer")
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for item in lines:
        cells = (
            f"{item['gpus']}",
            f"{item['pairs']:,}",
            f"{1000 * item['step_s']:,.0f} ms",
            f"{item['pairs'] / item['step_s'] / 1e6:.2f} M",
            item["breaks"],
            f"{sum(item['memory'].values()) / 1e9:,.1f} GB",
            item["answer"],
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def plot(lines: list[dict[str, Any]]) -> str:
    """Step time against pairs a step, a line for each number of GPUs, as SVG."""
    width, height, left, top = 640, 360, 70, 30
    x = charts.logarithmic(item["pairs"] for item in lines)
    y = charts.logarithmic(item["step_s"] for item in lines)

    def at(pairs: float, seconds: float) -> tuple[float, float]:
        return left + x.at(pairs) * width / 100, top + (100 - y.at(seconds)) * height / 100

    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 90} '
        f'{top + height + 50}" font-family="sans-serif" font-size="13" role="img">',
        "<title>Predicted step time against pairs a step</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for tick in y.ticks:
        _, v = at(x.low, tick)
        drawn.append(f'<path d="M{left} {v:.1f}h{width}" stroke="#ddd"/>')
        drawn.append(f'<text x="{left - 8}" y="{v + 4:.1f}" text-anchor="end">{tick:g} s</text>')
    for tick in x.ticks:
        u, _ = at(tick, y.low)
        drawn.append(
            f'<text x="{u:.1f}" y="{top + height + 20}" text-anchor="middle">{tick:,.0f}</text>'
        )
    drawn.append(
        f'<text x="{left + width / 2}" y="{top + height + 42}" text-anchor="middle">'
        "pairs a step</text>"
    )
    for shade, (gpus, of) in enumerate(itertools.groupby(lines, lambda item: item["gpus"])):
        places = [at(item["pairs"], item["step_s"]) for item in of]
        colour = f"hsl(210 70% {70 - 15 * shade}%)"
        drawn.append(
            f'<polyline points="{charts.path(places)}" fill="none" stroke="{colour}" '
            'stroke-width="2.5"/>'
        )
        u, v = places[-1]
        name = "1 GPU" if gpus == 1 else f"{gpus} GPUs"
        drawn.append(f'<text x="{u + 8:.1f}" y="{v + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*drawn, "</svg>\n"])


def check(job: Job, work: Workload) -> list[dict[str, float]]:
    """Predicted and measured steps of 1, 2 and 3 workers of one thread, on hosts whose network is
    known. Each row names workers, rows of a modality on each, and the network's Mbit/s.

    What the workers lose to each other on this machine's cores is measured on as many that train
    at the same time, each for itself.
    """
    torch.set_num_threads(1)
    costs = measured_costs(job, work, torch.device("cpu"))
    apart = {ranks: wire.on_hosts(ranks, 256, 1000, 7, apart=True) for ranks in (1, 2, 3)}
    crowding = {ranks: seconds / apart[1] for ranks, seconds in apart.items()}
    print(f"measured: {costs}; sharing {os.cpu_count()} CPUs costs {crowding}")
    checked = []
    for mbit, rows, ranks in itertools.product((50, 200), (64, 256), (1, 2, 3)):
        cluster = Cluster(
            per_node=1, memory=0, within=math.inf, between=PAYLOAD * mbit * 1e6 / 8, hop_s=1e-4,
            storage=math.inf, rows_per_s=math.inf, crowding=crowding[ranks],
            hops=lambda workers: workers - 1,
        )  # fmt: skip
        parts = predict(work, costs, cluster, ranks, rows)
        predicted, measured = sum(parts.values()), wire.on_hosts(ranks, rows, mbit, 7)
        row = {
            "mbit_per_s": mbit,
            "workers": ranks,
            "pairs_of_each": work.modalities * rows,
            "predicted_s": round(predicted, 3),
            "of_it_network_s": round(parts["gather"] + parts["gradients"] + parts["latency"], 3),
            "measured_s": round(measured, 3),
            "ratio": round(predicted / measured, 2),
        }
        print(row, flush=True)
        checked.append(row)
    return checked


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="predict runs here, and run them")
    parser.add_argument("--measure", metavar="DEVICE", help="take its seconds: cuda or cpu")
    parser.add_argument("--output", type=Path, help="folder for scaling.md, .json and .svg")
    for name, default, words in (
        ("step-ms", 22.8, "of a step, however small"),
        ("pair-us", 0.1, "added by a pair"),
        ("similarity-ns", 0.03, "added by a similarity"),
        ("gpus-per-node", 8, "workers of a node"),
        ("memory-gb", 130, "of a GPU"),
        ("nvlink-gb-per-s", 300, "a GPU's, one way, as all-reduce sees it"),
        ("nic-gb-per-s", 50, "a node's network, one way: 400 Gbit/s"),
        ("hop-us", 15, "of a message between nodes"),
        ("s3-gb-per-s", 1, "a node reads from S3 with several requests"),
        ("shard-kb", None, "of a pair in the shards (counted on earth-mini)"),
        ("rows-per-s", 1e6, "the readers of a GPU decode"),
    ):  # fmt: skip
        shown = words if default is None else f"{words} ({default:g})"
        parser.add_argument(f"--{name}", type=float, default=default, help=shown)
    return parser.parse_args()


def main() -> int:
    given = arguments()
    job = wire.default_job()
    work = counted_workload(job)
    print(f"counted: {work}")
    if given.check:
        result: Any = check(job, work)
        if given.output:
            (given.output / "scaling-check.json").write_text(json.dumps(result, indent=1) + "\n")
        return int(any(abs(row["ratio"] - 1) > AGREEMENT for row in result))
    if given.shard_kb is not None:
        work = replace(work, shard_bytes=given.shard_kb * 1e3)
    costs = Costs(given.step_ms / 1e3, given.pair_us / 1e6, given.similarity_ns / 1e9)
    if given.measure:
        costs = measured_costs(job, work, torch.device(given.measure))
    cluster = Cluster(
        per_node=int(given.gpus_per_node), memory=given.memory_gb * 1e9,
        within=given.nvlink_gb_per_s * 1e9, between=given.nic_gb_per_s * 1e9,
        hop_s=given.hop_us / 1e6, storage=given.s3_gb_per_s * 1e9, rows_per_s=given.rows_per_s,
    )  # fmt: skip
    lines = [line(work, costs, cluster, g, p) for g, p in itertools.product(GPUS, PAIRS)]
    print(markdown(lines))
    if given.output:
        inputs = {k: v for k, v in asdict(cluster).items() if k != "hops"}
        sheet = {"workload": asdict(work), "costs": asdict(costs), "cluster": inputs}
        (given.output / "scaling.json").write_text(json.dumps(sheet | {"lines": lines}, indent=1))
        (given.output / "scaling.md").write_text(markdown(lines))
        (given.output / "scaling.svg").write_text(plot(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
