"""Forward and backward of one step, whole or in parts that share the whole batch's negatives."""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raytrain.batch import Batch, Pairs
from raytrain.objective.losses import Embedded
from raytrain.objective.model import Loss, Model, Outputs


def backward(
    parallel: Model | DistributedDataParallel,
    batch: Batch,
    parts: int,
    dtype: torch.dtype,
    seed: int,
) -> tuple[Loss, Outputs]:
    """Accumulate the gradients of one step's loss on the parameters; returns loss and outputs.

    `parallel` is a Model or its DistributedDataParallel. With `parts` > 1 the batch is embedded in
    parts: first without a graph, to get the loss and its gradient by each embedding, then again
    part by part to carry that gradient to the parameters (GradCache, Gao et al. 2021, arXiv
    2101.06983). So memory shrinks and the negatives do not. `seed` makes both passes draw the same
    dropout, and a resumed run the same as an uninterrupted one.
    """
    model = parallel.module if isinstance(parallel, DistributedDataParallel) else parallel
    assert isinstance(model, Model)
    if parts == 1:
        outputs = _embed(parallel, batch, dtype, seed)
        loss = model.loss(outputs)
        torch.autograd.backward(loss.total)
        return loss, outputs
    pieces = [*_split(batch, parts)]
    with torch.no_grad():
        cached = [_embed(model, piece, dtype, seed + i) for i, piece in enumerate(pieces)]
    for outputs in cached:
        for tensor in _tensors(outputs):
            tensor.requires_grad_()
    whole = _join(cached)
    loss = model.loss(whole)
    torch.autograd.backward(loss.total)
    for i, (piece, leaf) in enumerate(zip(pieces, cached, strict=True)):
        last = i == len(pieces) - 1
        later = isinstance(parallel, DistributedDataParallel) and not last
        with parallel.no_sync() if later else nullcontext():  # type: ignore[operator]
            tensors = _tensors(_embed(parallel, piece, dtype, seed + i))
            grads = [tensor.grad for tensor in _tensors(leaf)]
            learned = [(t, g) for t, g in zip(tensors, grads, strict=True) if t.requires_grad]
            torch.autograd.backward([t for t, _ in learned], [g for _, g in learned])
    return loss, whole


def _embed(model: nn.Module, batch: Batch, dtype: torch.dtype, seed: int) -> Outputs:
    torch.manual_seed(seed)
    device = next(iter(batch.values())).lonlat_deg.device
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        outputs: Outputs = model(batch)
    return outputs


def _split(batch: Batch, parts: int) -> Iterator[Batch]:
    """Each part gets nearly as many pairs of every modality, at least one."""
    smallest = min(len(pairs.lonlat_deg) for pairs in batch.values())
    count = min(parts, smallest)
    for i in range(count):
        yield {name: _rows(pairs, i, count) for name, pairs in batch.items()}


def _rows(pairs: Pairs, i: int, count: int) -> Pairs:
    start, stop = [*pairwise(len(pairs.lonlat_deg) * k // count for k in range(count + 1))][i]
    return Pairs(pairs.lonlat_deg[start:stop], pairs.observation[start:stop])


def _tensors(outputs: Outputs) -> list[Tensor]:
    pairs = outputs.pairs.values()
    embedded = [t for p in pairs for t in (p.location, p.observation, p.prediction)]
    return [*embedded, outputs.logit_scale]


def _join(outputs: list[Outputs]) -> Outputs:
    """The outputs of the whole batch; gradients flow back to those of the parts."""
    pairs = {
        name: Embedded(
            *(
                torch.cat([getattr(part.pairs[name], field) for part in outputs])
                for field in ("xyz", "location", "observation", "prediction", "target")
            )
        )
        for name in outputs[0].pairs
    }
    return Outputs(pairs, torch.stack([part.logit_scale for part in outputs]).mean(0))
