"""A Gaussian kernel between what is expected at places, as columns of an embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class KernelConfig:
    """`columns` random Fourier features (Rahimi and Recht 2007) of the observations that an encoder
    expects at a place: those that its regression heads predict, standardised. `scale` is the
    kernel's inverse bandwidth, for squared distances that are a mean over the targets: places are
    alike within about 1 / `scale` deviations. Targets have equal weights, so that a modality of
    many, such as a text's features, outweighs one of few.

    A ridge on them is a kernel regression on what is to be seen at a place. The learned columns
    say the same linearly, each direction as loudly as training happened to make it.
    """

    columns: int = 800
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.columns < 1 or not self.scale > 0:
            raise ValueError(
                f"columns is {self.columns}, scale {self.scale:g}; both must be above 0"
            )

    def build(self, learned_dim: int) -> "ExpectationKernel":
        return ExpectationKernel(self, learned_dim)


class ExpectationKernel(nn.Module):
    """Learned columns to columns sqrt(2) cos(W f(x) + b), of mean square 1, where f are the heads.

    Heads are linear, so W f is one matrix, which `expect` makes and the weights hold. Before that
    it is random, as if there were random heads. W and b are the same for all, whatever the seed.
    """

    weight: Tensor
    phase: Tensor

    def __init__(self, config: KernelConfig, learned_dim: int) -> None:
        super().__init__()
        self.dim, self.scale = config.columns, config.scale
        mixing, phase = _draws(self.dim, learned_dim, torch.device("cpu"))
        self.register_buffer("weight", self.scale * mixing / learned_dim**0.5)
        self.register_buffer("phase", phase.clone())

    def forward(self, learned: Float[Tensor, "n d"]) -> Float[Tensor, "n dim"]:
        return 2**0.5 * (learned @ self.weight.T + self.phase).cos()

    @torch.no_grad()
    def expect(self, heads: Sequence[nn.Linear]) -> None:
        """Make it the kernel between what these heads, at least one, predict."""
        slopes = torch.cat([head.weight for head in heads])
        targets = len(slopes)
        mixing, phase = _draws(self.dim, targets, slopes.device)
        mixing = self.scale * mixing / targets**0.5
        self.weight.copy_(mixing @ slopes)
        self.phase.copy_(phase + mixing @ torch.cat([head.bias for head in heads]))


@cache
def _draws(
    columns: int, width: int, device: torch.device
) -> tuple[Float[Tensor, "columns width"], Float[Tensor, " columns"]]:
    """Standard normal numbers and angles, the same for all; for reading only."""
    generator = torch.Generator().manual_seed(0)
    phase = 2 * torch.pi * torch.rand(columns, generator=generator)
    mixing = torch.randn(columns, width, generator=generator)
    return mixing.to(device), phase.to(device)
