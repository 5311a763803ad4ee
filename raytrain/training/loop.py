"""The training loop: one for every method, on one device or under DDP, with or without Ray."""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raytrain.batch import Pairs
from raytrain.data.visits import Position, further
from raytrain.encoders.pretrained import location_weights
from raytrain.objective.collectives import world
from raytrain.objective.model import Model, Outputs, mean_over_ranks
from raytrain.settings import redacted
from raytrain.training import checkpoint
from raytrain.training.accumulate import backward
from raytrain.training.board import Record
from raytrain.training.checkpoint import Checkpoint
from raytrain.training.job import Job
from raytrain.training.meter import Meter
from raytrain.training.optim import build_optimizer, learning_rate
from raytrain.training.saver import Saver
from raytrain.training.validation import Validation


def train(
    job: Job,
    streams: Mapping[str, Iterator[Pairs]],
    device: torch.device,
    start: Checkpoint | None = None,
    report: Callable[[Record], bool] = lambda _: False,
    in_danger: Callable[[], bool] = lambda: False,
    may_save: Callable[[int], bool] = lambda step: True,
) -> Record:
    """Train from `start` (None: from the first step) to the end of the schedule.

    `streams` begin at the positions of `start`. On rank 0 `report` gets a record every log_every
    steps and answers whether to stop; the run then ends early with a checkpoint, as it does at its
    end. After a step of which `in_danger` is true there is a checkpoint too. `may_save` is asked
    in another thread, before the checkpoint of a step is written. Returns the last validation and
    the step that was reached.
    """
    config, steps = job.config, job.total_steps()
    every, (rank, ranks) = config.training, world()
    parts = math.ceil(every.accumulate * job.workers / ranks)  # fewer workers have more rows each
    model = job.build_model().to(device)
    optimizer = build_optimizer(model, config.optim)
    first, positions = 0, dict[str, Position]()
    if start is not None:
        checkpoint.restore(start, model, optimizer)
        first, positions = start.step, dict(start.positions)
    saver = Saver(
        job.run_url,
        redacted(job.resolved),
        every.keep_checkpoints,
        say=lambda problem: report({"notice": problem}),
        may_save=may_save,
    )
    parallel = _parallel(model, device, some_unused=config.method.kind == "salt")
    validation, outcome = Validation(job, device), {}
    dtype = _dtype(config.training.precision, device)
    meter, wish, number = Meter(), False, first
    for number, step in enumerate(islice(job.schedule(), first, None), first + 1):
        with meter.waiting():
            batch = {name: next(streams[name]) for name in step.modalities}
        seed = ((config.seed * 1_000_003 + number) * ranks + rank) * parts
        loss, outputs = backward(parallel, batch, parts, dtype, seed)
        norm = _clip(model, config.optim.grad_clip)
        rate = learning_rate(config.optim, number, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        model.settle()
        for name, pairs in batch.items():
            rows = len(pairs.lonlat_deg)
            positions[name] = further(positions.get(name, ()), ranks, rows)
            meter.pairs += rows * ranks
        ending = number == steps
        if ending or number == first + 1 or number % every.log_every == 0:
            means = mean_over_ranks(
                loss.parts | batch_accuracy(outputs) | {"stop": norm.new_tensor(float(wish))}
            )
            ending |= means.pop("stop") > 0  # on every rank at the same step
            scalars = {"grad_norm": norm.item(), **logit_scales(model, outputs)}
            record = {"step": number, "epoch": step.epoch, "lr": rate, **means, **scalars}
            wish = report(record | meter.read()) if rank == 0 else False
        if rank == 0 and (ending or number % every.validate_every == 0):
            outcome = validation(model)
            report({"step": number, **outcome})
        if rank == 0 and config.evaluate.due(number):
            report({"step": number, "encoder": location_weights(model.location)})
        if rank == 0 and (ending or in_danger() or number % every.checkpoint_every == 0):
            saver.save(checkpoint.snapshot(model, optimizer, number, positions))
        if ending:
            break
    saver.finish()
    return {"step": number, "validation": outcome}


@torch.no_grad()
def batch_accuracy(outputs: Outputs) -> dict[str, Tensor]:
    """Share of this rank's observations whose own place is the nearest of the rank's places."""
    found = {}
    for name, pairs in outputs.pairs.items():
        if pairs.observation.shape[1]:
            nearest = (pairs.observation @ pairs.location.T).argmax(1)
            own = torch.arange(len(nearest), device=nearest.device)
            found[f"batch_accuracy/{name}"] = (nearest == own).float().mean()
    return found


def logit_scales(model: Model, outputs: Outputs) -> dict[str, float]:
    """The factor on similarities that the step was taken with, by modality where they differ."""
    scales = dict(zip(outputs.pairs, outputs.logit_scale.tolist(), strict=True))
    if model.objective.logit_scale.per_modality:
        return {f"logit_scale/{name}": scale for name, scale in scales.items()}
    return {"logit_scale": next(iter(scales.values()))}


def _parallel(
    model: Model, device: torch.device, some_unused: bool
) -> Model | DistributedDataParallel:
    if world()[1] == 1:
        return model
    return DistributedDataParallel(
        model,
        device_ids=[device] if device.type == "cuda" else None,
        broadcast_buffers=False,
        find_unused_parameters=some_unused,
    )


def _clip(model: Model, limit: float | None) -> Tensor:
    return nn.utils.clip_grad_norm_(model.parameters(), float("inf") if limit is None else limit)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
