"""What ranks tell each other: who they are, and rows with their gradients."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def world() -> tuple[int, int]:
    """(rank, number of ranks); (0, 1) when nothing is distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather_rows(rows: Float[Tensor, "b d"]) -> Float[Tensor, "B d"]:
    """The rows of every rank, in the order of ranks; every rank gives as many.

    Differentiable: the gradient of a row is the sum of what all ranks did with it, so that with
    gradients averaged over ranks, as DDP does, the result equals one device with the whole batch
    when every rank's loss is its own rows' mean.
    """
    if world()[1] == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        _, ranks = world()
        gathered = rows.new_empty((ranks * len(rows), *rows.shape[1:]))
        dist.all_gather_into_tensor(gathered, rows.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        rank, ranks = world()
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)  # gloo has no reduce-scatter
        return total.chunk(ranks)[rank]


def sum_over_ranks(values: Tensor) -> Tensor:
    """Elementwise sum of a tensor over all ranks (no gradient)."""
    total = values.detach().clone()
    if world()[1] > 1:
        dist.all_reduce(total)
    return total
