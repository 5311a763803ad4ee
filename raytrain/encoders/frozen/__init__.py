"""Frozen encoders: observations of one modality to features that are computed once."""

from typing import Literal

from raytrain.encoders.frozen.encoder import FrozenEncoder, InputConfig
from raytrain.encoders.frozen.onnx_files import OnnxEncoder
from raytrain.encoders.frozen.sentences import MiniLM, SentenceEncoder
from raytrain.encoders.frozen.timm_images import EfficientNetLite0, TimmEncoder
from raytrain.encoders.modality import FieldSpec
from raytrain.errors import UserError

__all__ = [
    "AUTO",
    "FrozenConfig",
    "FrozenEncoder",
    "InputConfig",
    "chosen",
]

FrozenConfig = TimmEncoder | SentenceEncoder | OnnxEncoder | EfficientNetLite0 | MiniLM

AUTO: Literal["auto"] = "auto"
"""The encoder by what is observed: efficientnet-lite0 for images, minilm for texts."""


def chosen(features: FrozenConfig | Literal["auto"], field: FieldSpec) -> FrozenConfig:
    """The encoder of a field's observations that settings or AUTO name. Raises UserError where AUTO
    finds neither images nor texts."""
    if features != AUTO:
        return features
    if field.is_text:
        return MiniLM()
    if field.is_image:
        return EfficientNetLite0()
    raise UserError(
        f"the observations are vectors {list(field.shape)}, which a tower reads as they are; leave "
        "`features` out, or name an encoder of kind onnx"
    )
