"""The model that is pretrained: one location encoder, a tower and a head for each modality."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raytrain.batch import Batch
from raytrain.encoders.location import LocationEncoder
from raytrain.encoders.modality import ImageTarget, Tower
from raytrain.encoders.positional.direct import unit_xyz
from raytrain.objective.collectives import sum_over_ranks
from raytrain.objective.losses import (
    Direction,
    Embedded,
    Negatives,
    contrast,
    regression,
    weighted_mean,
)
from raytrain.objective.near import NearConfig


@dataclass(frozen=True, kw_only=True)
class LogitScaleConfig:
    """The factor on cosine similarities (1 / temperature): a high one sharpens the contrast.

    With `per_modality` each modality has one of its own, from `init_of` by its name, else `init`.
    """

    init: float = 5.0
    learned: bool = False
    max: float = 100.0
    per_modality: bool = False
    init_of: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path, init in {
            "": self.init,
            **{f"_of.{n}": x for n, x in self.init_of.items()},
        }.items():
            if not 0 < init <= self.max:
                raise ValueError(f"logit_scale.init{path} {init} must lie in (0, max = {self.max}]")
        if self.init_of and not self.per_modality:
            raise ValueError("logit_scale.init_of needs logit_scale.per_modality=true")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is minimised: `contrast`, `regression`, or `both`, their sum with `regression_weight`.

    Contrast sees the embeddings at unit length; regression reads the location embedding as it is,
    by one linear head a modality, of images their means over a coarse `grid` or their `statistics`
    (Tower.target). `weights` scales a modality's share in both (default 1); `negatives` and
    `direction` are those of objective.losses.contrast, `near` says what becomes of negatives that
    are near.
    """

    kind: Literal["contrast", "regression", "both"] = "both"
    negatives: Negatives = "asymmetric"
    direction: Direction = "both"
    near: NearConfig = field(default_factory=NearConfig)
    logit_scale: LogitScaleConfig = field(default_factory=LogitScaleConfig)
    image_target: ImageTarget = "grid"
    regression_weight: float = 3.0
    weights: dict[str, float] = field(default_factory=dict)


class Loss(NamedTuple):
    """The value to minimise and its parts by name, all scalars; each is this rank's share."""

    total: Float[Tensor, ""]
    parts: dict[str, Float[Tensor, ""]]


class Outputs(NamedTuple):
    """All that the loss reads of the model: a pure function of these gives the loss."""

    pairs: dict[str, Embedded]
    logit_scale: Float[Tensor, " m"]  # of each modality, in the order of `pairs`


class Model(nn.Module):
    """Embeds a batch; the loss is a function of the outputs, so that batches can be accumulated.

    Under `contrast` there are no heads, under `regression` the towers only make targets.
    """

    def __init__(
        self, location: LocationEncoder, towers: Mapping[str, Tower], objective: ObjectiveConfig
    ) -> None:
        super().__init__()
        self.location, self.towers, self.objective = location, nn.ModuleDict(towers), objective
        self.heads = nn.ModuleDict()
        if objective.kind != "contrast":
            for name, tower in towers.items():
                targets = tower.target_dim(objective.image_target)
                self.heads[name] = nn.Linear(location.learned_dim, targets)
        if objective.kind == "regression":
            self.towers.requires_grad_(False)
        scale = objective.logit_scale
        learned = scale.learned and objective.kind != "regression"

        def log(init: float) -> nn.Parameter:
            return nn.Parameter(torch.tensor(math.log(init)), requires_grad=learned)

        own = {name: log(scale.init_of.get(name, scale.init)) for name in towers}
        self.log_logit_scale = nn.ParameterDict(own) if scale.per_modality else log(scale.init)
        self.settle()

    def forward(self, batch: Batch) -> Outputs:
        pairs = {name: self._embed(name, *batch[name]) for name in batch}
        return Outputs(pairs, torch.stack([self._log_logit_scale(name) for name in pairs]).exp())

    def _log_logit_scale(self, name: str) -> Tensor:
        scale = self.log_logit_scale
        return scale if isinstance(scale, nn.Parameter) else scale[name]

    def _embed(self, name: str, lonlat_deg: Tensor, observation: Tensor) -> Embedded:
        tower = self.towers[name]
        assert isinstance(tower, Tower)
        location = self.location.learned(lonlat_deg)
        none = location.new_empty((len(location), 0))
        seen, prediction, target = none, none, none
        if self.objective.kind != "regression":
            seen = unit(tower(observation))
        if self.objective.kind != "contrast":
            prediction = self.heads[name](location)
            target = tower.target(observation, self.objective.image_target)
        xyz = unit_xyz(lonlat_deg).float()
        return Embedded(xyz, unit(location), seen, prediction.float(), target.float())

    def loss(self, outputs: Outputs) -> Loss:
        """The objective on embedded pairs, with the negatives of every rank."""
        config, parts = self.objective, dict[str, Tensor]()
        total = outputs.logit_scale.new_zeros(())
        if config.kind != "regression":
            scale = outputs.logit_scale
            terms = contrast(outputs.pairs, scale, config.negatives, config.direction, config.near)
            total = total + weighted_mean(terms, config.weights)
            parts |= {f"contrast/{name}": term.detach() for name, term in terms.items()}
        if config.kind != "contrast":
            terms = regression(outputs.pairs)
            total = total + config.regression_weight * weighted_mean(terms, config.weights)
            parts |= {f"regression/{name}": term.detach() for name, term in terms.items()}
        return Loss(total, {"loss": total.detach(), **parts})

    @torch.no_grad()
    def settle(self) -> None:
        """Keep learned scales at most `max`, and the location encoder's kernel that of what the
        heads predict; call after each optimizer step."""
        for name in self.towers:
            self._log_logit_scale(name).clamp_(max=math.log(self.objective.logit_scale.max))
        if self.location.kernel:
            heads = [head for head in self.heads.values() if isinstance(head, nn.Linear)]
            self.location.kernel.expect(heads)


def unit(rows: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Rows scaled to unit length, in float32."""
    return F.normalize(rows.float(), dim=-1)


def mean_over_ranks(parts: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars averaged over ranks, in one message."""
    ones = next(iter(parts.values())).new_ones(1)
    total = sum_over_ranks(torch.cat([torch.stack([*parts.values()]).float(), ones]))
    return dict(zip(parts, (total[:-1] / total[-1]).tolist(), strict=True))
