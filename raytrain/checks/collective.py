"""All-reduce across the workers that a run would have, started by Ray Train as the run's are."""

import secrets
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

import ray
import ray.train
import torch
import torch.distributed as dist
from ray.exceptions import GetTimeoutError, RayTaskError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raytrain import storage
from raytrain.checks.finding import Finding, reason
from raytrain.errors import UserError
from raytrain.training.config import RunConfig, ScalingConfig
from raytrain.training.launch import worker_group

NAME = "all-reduce"
LARGE, SMALL = 2**26, 4  # bytes: gradients of a large network, and one number
REPEATS = 5
SLOW_BYTES_PER_S = {"nccl": 1e9, "gloo": 1e8}  # what networks of 10 and 1 Gbit/s give, about
MEET_S = 60  # for ranks to find each other
PATIENCE_S = MEET_S + 90.0  # and for processes to start on every node
REMEDY = (
    "open all ports between the nodes; NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME on every node name "
    "the network card to take, NCCL_DEBUG=INFO says more"
)


class Seconds(NamedTuple):
    """Of an all-reduce of LARGE and of SMALL bytes, medians."""

    large: float
    small: float


def reduce_findings(config: RunConfig, workers: int, use_gpu: bool) -> Iterator[Finding]:
    """Bandwidth and latency of all-reduce among so many workers; red where they do not meet."""
    if workers == 1 and not use_gpu:
        yield Finding(NAME, "green", "not needed: one worker")
        return
    backend = "nccl" if use_gpu else "gloo"
    try:
        ranks, seconds = _bounded_fit(config, workers, use_gpu)
    except GetTimeoutError:
        words = f"{workers} workers have not met by {backend} in {PATIENCE_S:g} s"
        yield Finding(NAME, "red", words, REMEDY)
    except RayTaskError as error:
        yield Finding(NAME, "red", f"by {backend}: {reason(error.cause)}", REMEDY)
    else:
        yield _judged(backend, ranks, seconds)


def _judged(backend: str, ranks: int, seconds: Seconds) -> Finding:
    if ranks == 1:
        return Finding(NAME, "green", f"{backend} runs on the one GPU")
    # Each rank sends and receives 2 (n - 1) / n of the bytes, whatever the algorithm.
    speed = 2 * (ranks - 1) / ranks * LARGE / seconds.large
    words = (
        f"{backend} among {ranks} workers: {speed / 1e9:.2f} GB/s each way, "
        f"{seconds.small * 1e6:,.0f} µs for {SMALL} bytes"
    )
    if speed < SLOW_BYTES_PER_S[backend]:
        return Finding(NAME, "yellow", words, REMEDY)
    return Finding(NAME, "green", words)


def _bounded_fit(config: RunConfig, workers: int, use_gpu: bool) -> tuple[int, Seconds]:
    """The number of ranks and what rank 0 measured. By a task, whose end ends its workers too.
    Raises Ray's GetTimeoutError or RayTaskError, and leaves nothing in the storage."""
    root, name = storage.absolute(config.storage), f".doctor-{secrets.token_hex(4)}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    fit = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(_fit)
    running = fit.remote(root, name, config.scaling, workers, use_gpu)
    try:
        measured: tuple[int, Seconds] = ray.get(running, timeout=PATIENCE_S)
        return measured
    except GetTimeoutError:
        ray.cancel(running, force=True)
        raise
    finally:
        storage.remove_folder(storage.join(root, name))


def _fit(
    root: str, name: str, scaling: ScalingConfig, workers: int, use_gpu: bool
) -> tuple[int, Seconds]:
    trainer = TorchTrainer(
        _measure,
        torch_config=TorchConfig(timeout_s=MEET_S),
        scaling_config=worker_group(scaling, workers, use_gpu),
        run_config=ray.train.RunConfig(name=name, storage_path=root),
    )
    try:
        measured: tuple[int, Seconds] = trainer.fit().return_value
        return measured
    except ray.train.WorkerGroupError as error:
        reasons = {reason(failure) for failure in error.worker_failures.values()}
        raise UserError("; ".join(sorted(reasons))) from None
    except ray.train.ControllerError as error:
        raise UserError(reason(error.controller_failure)) from None


def _measure() -> tuple[int, Seconds]:
    """On every rank."""
    return dist.get_world_size(), Seconds(_seconds(LARGE), _seconds(SMALL))


def _seconds(size: int) -> float:
    device, times = get_device(), []
    for _ in range(1 + REPEATS):  # the first one connects
        values = torch.ones(size // 4, device=device)
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(values)
        total = values[-1].item()  # waits for the GPU
        times.append(time.perf_counter() - began)
        if total != dist.get_world_size():
            raise UserError(f"ones of {dist.get_world_size()} ranks add up to {total}")
    return statistics.median(times[1:])
