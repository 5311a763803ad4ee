"""Weights as files: read without running anything in them, and fitted to a module exactly."""

import io
import json
import pickle
from collections.abc import Mapping

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from raytrain import storage, wheels
from raytrain.errors import UserError


class WeightsError(UserError):
    """Weights that cannot be read or do not belong to the module."""


def read_bytes(url: str) -> bytes:
    """The content of a path, of any URL that fsspec opens, or of wheel://PACKAGE/MEMBER.
    WeightsError where there is none."""
    if url.startswith(wheels.SCHEME):
        return wheels.read(url)
    try:
        return storage.read(url)
    except FileNotFoundError:
        raise WeightsError(f"there is no {url}") from None


def read_weights(url: str) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file, or a PyTorch file of nothing but tensors.

    `url` is a path or any URL that fsspec opens. A dict under "state_dict" or "model" is unwrapped.
    """
    return tensors(read_bytes(url), url)


def tensors(content: bytes, url: str) -> dict[str, Tensor]:
    """What `read_weights` returns, of bytes that are there already; `url` says what they are."""
    try:
        if url.endswith(".safetensors"):
            return dict(safetensors.torch.load(content))
        stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{url} is damaged or no safetensors file: {error}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsError(
            f"{url} is no file of plain tensors and was not run: {error}. "
            "Save the model's state_dict() with safetensors, and name that file"
        ) from None
    for key in ("state_dict", "model"):
        stored = stored.get(key, stored)
    return {name: value for name, value in stored.items() if isinstance(value, Tensor)}


def safetensors_metadata(content: bytes) -> dict[str, str]:
    """The metadata of a .safetensors file that `tensors` has read: its header is a JSON object
    behind its length, 8 bytes little-endian."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header.get("__metadata__", {}))


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Copy weights into the module that they fit, or raise WeightsError with the first misfit."""
    wanted = module.state_dict()
    for name, tensor in wanted.items():
        if name not in weights:
            raise WeightsError(
                f"{what}: no tensor {name} {list(tensor.shape)}, which this architecture needs; "
                f"the first of the {len(weights)} stored is {next(iter(weights), 'none')}"
            )
        if weights[name].shape != tensor.shape:
            raise WeightsError(
                f"{what}: tensor {name} is {list(weights[name].shape)}, "
                f"but this architecture has {list(tensor.shape)}"
            )
    for name in weights:
        if name not in wanted:
            raise WeightsError(
                f"{what}: tensor {name} {list(weights[name].shape)} is not in this architecture"
            )
    module.load_state_dict(dict(weights))
