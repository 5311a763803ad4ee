"""raytrain: pretrain location encoders against several unpaired modalities with Ray."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raytrain.encoders.pretrained import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` when it is first used, so that `import raytrain` costs nothing."""
    if name != "load":
        raise AttributeError(f"module 'raytrain' has no attribute {name!r}")
    from raytrain.encoders.pretrained import load

    return load
