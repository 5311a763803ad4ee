"""Steps of the default run, timed: of one worker, or of several on hosts with their own network.

Hosts are network namespaces of this machine, joined by a bridge; what each sends passes a token
bucket (tc tbf) of a known rate. Needs root. Used by benchmarks/scaling.py.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raytrain.batch import Batch, Pairs
from raytrain.data import preparation
from raytrain.pretrain import read_config
from raytrain.training.accumulate import backward
from raytrain.training.job import Job, chosen_cards, make_job
from raytrain.training.optim import build_optimizer

PORT, NETWORK = 29400, "10.213.7"
WARM, PATIENCE_S = 2, 300


def default_job(overrides: tuple[str, ...] = ()) -> Job:
    """The default run on earth-mini, whose shards are made where they are not there."""
    config = read_config(None, ["name=scaling", *overrides])
    cards = chosen_cards(config)
    return make_job(config, preparation.ready(cards.values(), config.data.root), cards, 1)


def batch_of(job: Job, rows: int, device: torch.device) -> Batch:
    """Real pairs, so many of each modality."""
    batch = {}
    for name, stream in job.streams.items():
        columns = next(stream.batches(rows))
        lonlat, observation = columns["lonlat"], columns["observation"]
        on_device = (torch.from_numpy(c).to(device) for c in (lonlat, observation))
        batch[name] = Pairs(*on_device)
    return batch


def step_seconds(job: Job, rows: int, device: torch.device, repeats: int) -> float:
    """Median time of a step of this rank, with so many pairs of each modality, as the loop takes
    it: forward, backward, clipping, AdamW. Reading is left out."""
    model = job.build_model().to(device)
    optimizer, batch = build_optimizer(model, job.config.optim), batch_of(job, rows, device)
    parallel = (
        model
        if not dist.is_initialized()
        else DistributedDataParallel(model, broadcast_buffers=False)
    )
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    times = []
    for step in range(WARM + repeats):
        if dist.is_initialized():
            dist.barrier()
        began = time.perf_counter()
        backward(parallel, batch, 1, dtype, step)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[WARM:])


def on_hosts(
    workers: int, rows: int, mbit_per_s: float, repeats: int, apart: bool = False
) -> float:
    """Seconds a step of so many workers of one thread, each on a host of its own: of one run, or,
    `apart`, of a run of its own each at the same time, which shows what sharing the cores costs."""
    task = {"workers": workers, "rows": rows, "repeats": repeats, "apart": apart}
    quiet = {"GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    with hosts(workers, mbit_per_s) as names:
        processes = []
        for rank, name in enumerate(names):
            python = [sys.executable, "-W", "ignore", __file__, json.dumps({"rank": rank, **task})]
            processes.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", name, *python],
                    env=os.environ | quiet,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        try:
            said = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
    return max(float(words.split()[-1]) for words in said)


@contextmanager
def hosts(count: int, mbit_per_s: float) -> Iterator[list[str]]:
    """Names of network namespaces that reach each other, each sending at most at this rate."""
    prefix = f"rt{os.getpid()}"
    switch, names = f"{prefix}s", [f"{prefix}h{i}" for i in range(count)]
    try:
        _ip(f"netns add {switch}")
        _ip(f"-n {switch} link add br0 type bridge")
        _ip(f"-n {switch} link set br0 up")
        for number, name in enumerate(names):
            _ip(f"netns add {name}")
            _ip(f"-n {name} link add eth0 type veth peer name p{number} netns {switch}")
            _ip(f"-n {switch} link set p{number} master br0 up")
            _ip(f"-n {name} addr add {NETWORK}.{number + 1}/24 dev eth0")
            for device in ("lo", "eth0"):
                _ip(f"-n {name} link set {device} up")
            limit = f"tbf rate {mbit_per_s}mbit burst 64kb latency 400ms"
            _run(f"tc -n {name} qdisc add dev eth0 root {limit}")
        yield names
    finally:
        for name in (*names, switch):
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


def _ip(words: str) -> None:
    _run(f"ip {words}")


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)


def worker(task: dict[str, Any]) -> None:
    """One rank on its host; prints the seconds of a step."""
    torch.set_num_threads(1)
    job = default_job()
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://{NETWORK}.1:{PORT}",
        rank=task["rank"],
        world_size=task["workers"],
        timeout=timedelta(seconds=PATIENCE_S),
    )
    dist.barrier()
    if task["apart"]:
        dist.destroy_process_group()
    print(step_seconds(job, task["rows"], torch.device("cpu"), task["repeats"]))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    worker(json.loads(sys.argv[1]))
