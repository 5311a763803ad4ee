"""Optimizer and learning-rate schedule."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW. Weight decay acts on matrices only, not on biases, norms or the logit scale.

    The learning rate rises linearly over `warmup_steps` and then stays (`constant`) or falls to 0
    at the last step along half a cosine. Gradients are clipped to norm `grad_clip` (null: not).
    """

    lr: float = 5e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 50
    grad_clip: float | None = 1.0


def build_optimizer(model: nn.Module, config: OptimConfig) -> AdamW:
    """AdamW over the parameters that learn, in two groups: with decay and without."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([g for g in groups if g["params"]], lr=config.lr, betas=config.betas)


def build_schedule(
    optimizer: torch.optim.Optimizer, config: OptimConfig, steps: int
) -> LambdaLR:
    """The factor on the learning rate, a function of the step alone."""

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
        if config.schedule == "constant":
            return warm
        done = max(0, step - config.warmup_steps) / max(1, steps - config.warmup_steps)
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return LambdaLR(optimizer, factor)
