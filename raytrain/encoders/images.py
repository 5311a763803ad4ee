"""Image networks of the towers: a small one of our own, and any of timm's."""

import difflib
import hashlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from raytrain.encoders.weights import WeightsError, load_exactly, read_bytes, tensors
from raytrain.errors import UserError


class SmallCNN(nn.Sequential):
    """Patches of the tile, then stages that halve the size and double the channels, the mean over
    what is left, and one linear layer. GroupNorm: no row depends on the rest of the batch."""

    def __init__(self, in_chans: int, patch_px: int, width: int, stages: int, dim: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(in_chans, width, patch_px, stride=patch_px)]
        for channels in (width * 2**stage for stage in range(1, stages)):
            layers += [nn.GroupNorm(1, channels // 2), nn.GELU()]
            layers += [nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)]
        channels = width * 2 ** (stages - 1)
        layers += [nn.GroupNorm(1, channels), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*layers, nn.Linear(channels, dim))


class TimmBackbone(nn.Module):
    """A network of timm's without its classifier; images are resized if it takes one size only.

    With `in_order` stored tensors are taken in their order, whatever their names."""

    def __init__(
        self,
        name: str,
        shape: Sequence[int],
        weights: str | None,
        frozen: bool,
        in_order: bool = False,
    ) -> None:
        super().__init__()
        self.frozen, self.weights_sha256 = frozen, ""
        model = _create(name, shape[0])
        self.model: nn.Module = model
        published: dict[str, Any] = dict(model.pretrained_cfg)  # what timm knows of the network
        size = tuple(published["input_size"][-2:])
        self.input_px = size if published["fixed_input_size"] else None
        if weights is not None:
            content = read_bytes(weights)
            self.weights_sha256 = hashlib.sha256(content).hexdigest()
            stored = tensors(content, weights)
            if in_order:
                stored = _renamed(stored, name, weights)
            _adapt(stored, self.model.state_dict(), published)
            load_exactly(self.model, stored, f"timm tower {name}, {weights}")
        self.requires_grad_(not frozen).eval()
        with torch.no_grad():
            self.dim = self.forward(torch.zeros(1, *shape)).shape[1]
        self.train()

    def train(self, mode: bool = True) -> "TimmBackbone":
        return super().train(mode and not self.frozen)

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b features"]:
        if self.input_px is not None and image.shape[-2:] != self.input_px:
            image = F.interpolate(image, self.input_px, mode="bilinear", antialias=True)
        features: Tensor = self.model(image)
        return features


def published_config(name: str) -> dict[str, Any]:
    """What timm knows of a network: input_size, interpolation, mean and std (of RGB in 0 to 1)."""
    _check(name)
    import timm

    return dict(timm.get_pretrained_cfg(name).to_dict())


def _create(name: str, in_chans: int) -> Any:
    """A network by timm's name with random weights; nothing is ever downloaded."""
    _check(name)
    import timm

    return timm.create_model(name, pretrained=False, num_classes=0, in_chans=in_chans)


def _check(name: str) -> None:
    """Raise UserError where timm has no network of this name."""
    import timm

    if ":" in name:
        raise UserError(
            f"timm tower {name}: names with ':' would be fetched from a hub; give the plain "
            "architecture as `name` and its file as `weights`"
        )
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise UserError(
            f"timm has no network {name!r}; nearest: {', '.join(near) or 'none'} "
            "(all: timm.list_models())"
        )


def _renamed(stored: dict[str, Tensor], name: str, weights: str) -> dict[str, Tensor]:
    """Tensors of another implementation of the network, by timm's names: they have the same order,
    and fit one by one."""
    import timm

    wanted = timm.create_model(name, pretrained=False).state_dict()
    if [t.shape for t in stored.values()] != [t.shape for t in wanted.values()]:
        raise WeightsError(f"{weights}: its tensors in their order are not those of {name}")
    return dict(zip(wanted, stored.values(), strict=True))


def _adapt(stored: dict[str, Tensor], wanted: dict[str, Tensor], published: dict[str, Any]) -> None:
    """Leave the classifier out of stored weights, and fit a first layer for RGB to the channels."""
    from timm.models import adapt_input_conv

    for head in _names(published.get("classifier")):
        stored.pop(f"{head}.weight", None)
        stored.pop(f"{head}.bias", None)
    for first in (f"{layer}.weight" for layer in _names(published.get("first_conv"))):
        if first in stored and stored[first].shape[1] != wanted[first].shape[1]:
            stored[first] = adapt_input_conv(wanted[first].shape[1], stored[first])


def _names(value: str | Sequence[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())
