"""raytrain: pretrain location encoders against several unpaired modalities with Ray."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raytrain.encoders.pretrained import load
    from raytrain.evaluation.similarity import similar

__version__ = "0.1.0"
__all__ = ["__version__", "load", "similar"]

_HOME = {"load": "raytrain.encoders.pretrained", "similar": "raytrain.evaluation.similarity"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is first used, so that `import raytrain` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'raytrain' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
