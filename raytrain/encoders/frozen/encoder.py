"""What a frozen encoder is, and how images and vectors become its input."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from raytrain.encoders.modality import FieldSpec
from raytrain.errors import UserError
from raytrain.settings import Tree

Observations = NDArray[Any] | list[str]


class FrozenEncoder(ABC):
    """An encoder that is ready: to features [dim] of observations, in batches of `batch`.

    `about` is what determines them: preprocessing as it was resolved, sha256 of the weights,
    versions of libraries. A row's features may depend on its batch in their last bit.
    """

    dim: int
    batch: int
    about: Tree

    def encode(self, observations: Observations) -> NDArray[np.float16]:
        """Features [n, dim] of n images [n, c, h, w], vectors [n, columns] or texts, as they are in
        the shards. Raises UserError where a feature is not finite or too large for float16."""
        features = torch.empty(len(observations), self.dim, dtype=torch.float16)
        order = self.order(observations)
        for first in range(0, len(order), self.batch):
            rows = order[first : first + self.batch]
            with torch.inference_mode():
                values = self.forward(_taken(observations, rows)).cpu()
            largest = float(values.abs().max())
            if not largest <= torch.finfo(torch.float16).max:  # nan is neither
                raise UserError(f"a feature is {largest:g}, which float16 does not hold")
            features[torch.from_numpy(rows)] = values.to(torch.float16)
        return features.numpy()

    def order(self, observations: Observations) -> NDArray[np.int64]:
        """The order in which rows fill batches."""
        return np.arange(len(observations))

    @abstractmethod
    def forward(self, observations: Observations) -> Tensor:
        """Features [n, dim] float32 of one batch."""


def _taken(observations: Observations, rows: NDArray[np.int64]) -> Observations:
    if isinstance(observations, list):
        return [observations[row] for row in rows]
    return observations[rows[0] : rows[-1] + 1]


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """How images and vectors are read.

    `channels` (or columns) picks some, in this order. Images are resized to `image_px` (null: what
    the network was made for). Values are standardised by `mean` and `std`, one a channel or one for
    all, in the units of the shards. Where these are not given, pixels of uint8 take the network's
    own (of RGB, repeated for more bands, averaged for one), and other values the shards' mean and
    deviation. `views` > 1 adds views of each image to its first, the image as it is: mirrored at
    random and cut at random to `view_crop` of its side.
    """

    channels: tuple[int, ...] = ()
    image_px: int | None = None
    resample: Literal["bicubic", "bilinear"] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    views: int = 1
    view_crop: float = 0.875
    batch: int = 64
    licence: str = ""
    credit: str = ""

    def __post_init__(self) -> None:
        if min(self.batch, self.views, self.image_px or 1) < 1 or not 0 < self.view_crop <= 1:
            raise ValueError("batch, views and image_px are at least 1, view_crop is in (0, 1]")
        if len(self.mean) != len(self.std) or min(self.std, default=1.0) <= 0:
            raise ValueError("mean and std have the same length, and no deviation is 0")


class Preprocessing(nn.Module):
    """Channels, standardisation and size of images [b, c, h, w] or vectors [b, columns]."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        config: InputConfig,
        field: FieldSpec,
        size: tuple[int, int] | None = None,
        resample: str = "bicubic",
        published: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> None:
        """`size`, `resample` and `published` mean and std (of RGB in 0 to 1) are the network's."""
        super().__init__()
        check_input(config, field)
        channels = config.channels or tuple(range(field.shape[0]))
        if bad := [c for c in channels if not 0 <= c < field.shape[0]]:
            raise UserError(
                f"channels={list(channels)}: there is no channel {bad[0]}, the observations have "
                f"{field.shape[0]} (the first is 0)"
            )
        self.channels = channels
        self.size: tuple[int, int] | None = None
        if field.is_image:
            px = (config.image_px, config.image_px) if config.image_px else None
            self.size = px or size or (field.shape[1], field.shape[2])
        self.resample = config.resample or resample
        mean, std = _standardisation(config, field, channels, published)
        per_channel = (-1, *[1] * (len(field.shape) - 1))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(per_channel))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(per_channel))

    @property
    def field(self) -> FieldSpec:
        """The shape of what comes out."""
        return FieldSpec(shape=(len(self.channels), *(self.size or ())))

    @property
    def about(self) -> Tree:
        """The settings as they were resolved."""
        images = {"size": list(self.size), "resample": self.resample} if self.size else {}
        mean, std = ([round(float(v), 6) for v in t.flatten()] for t in (self.mean, self.std))
        return {"channels": list(self.channels), **images, "mean": mean, "std": std}

    def forward(self, observation: Tensor) -> Tensor:
        if self.channels != tuple(range(observation.shape[1])):
            observation = observation[:, self.channels]
        values = (observation.to(torch.float32) - self.mean) / self.std
        if self.size is not None and values.shape[2:] != self.size:
            values = F.interpolate(values, self.size, mode=self.resample, antialias=True)
        return values


def check_input(config: InputConfig, field: FieldSpec) -> None:
    """Raise UserError where the observations are none for this kind of encoder."""
    kind = getattr(config, "kind", "")
    if field.is_text:
        raise UserError(f"{kind} reads images, and these are texts; try --encoder minilm")
    if not field.is_image and kind != "onnx":
        raise UserError(
            f"{kind} reads images [channels, height, width], and these are vectors "
            f"{list(field.shape)}: a tower reads them as they are, or an encoder of kind onnx"
        )
    if config.views > 1 and not field.is_image:
        raise UserError("views are of images; leave `views` out")


def _standardisation(
    config: InputConfig,
    field: FieldSpec,
    channels: tuple[int, ...],
    published: tuple[Sequence[float], Sequence[float]] | None,
) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel."""
    count = len(channels)
    if config.mean:
        if len(config.mean) not in (1, count):
            raise UserError(
                f"mean and std have {len(config.mean)} values for {count} channels; give one for "
                "each, or choose `channels`"
            )
        return [*np.resize(config.mean, count)], [*np.resize(config.std, count)]
    if published is not None and field.dtype == "uint8":
        rgb = [np.multiply(values, 255) for values in published]
        mean, std = ([values.mean()] if count == 1 else values for values in rgb)
        return [*np.resize(mean, count)], [*np.resize(std, count)]
    if published is not None and field.mean is not None and field.std is not None:
        std = [field.std[c] if field.std[c] > 0 else 1.0 for c in channels]
        return [field.mean[c] for c in channels], std
    return [0.0] * count, [1.0] * count
