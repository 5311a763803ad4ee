"""Optimizer and learning rate."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import AdamW


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


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The rate of step 1 … steps: a function of the step alone, so that it needs no state."""
    warm = min(1.0, step / max(1, config.warmup_steps))
    if config.schedule == "constant" or step <= config.warmup_steps:
        return config.lr * warm
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * done))
