"""SatCLIP's checkpoints as location encoders of ours (Klemmer et al. 2023, arXiv 2311.17179).

A checkpoint is Lightning's, in float64: a SIREN on spherical harmonics, and an image tower that is
not read. SatCLIP takes its harmonics at the antipode of a place, and in one of two conventions:

analytic       (-1)^l Y_lm, with m = 0 too large by pi; SatCLIP's default
closed-form    (-1)^(l + m) Y_lm

with Y_lm our orthonormal harmonics. These factors go into the weights of the first layer, so that
the encoder is one of ours, in float32 on harmonics computed in float64. It agrees with SatCLIP's
closed form, and at L = 10 with its analytic code, to 1e-5 of embeddings of deviation 1. At L = 40
the analytic code itself is wrong by up to 0.6 towards the poles and ours is exact: they agree to
1e-5 below 40° of latitude, 1e-3 below 50°, 1e-2 below 60°, and differ by 0.3 at the poles
(tests/encoders/test_satclip.py, with an untrained network).
"""

import io
import math
import pickle
from typing import Any

import torch
from torch import Tensor

from raytrain.encoders.location import LocationEncoder, LocationEncoderConfig
from raytrain.encoders.weights import WeightsError, load_exactly, read_bytes
from raytrain.settings import Tree, build, to_dict

NETWORK, FIRST = "model.location.nnet.", "layers.0.weight"
ONLY = {"le_type": "sphericalharmonics", "pe_type": "siren"}  # encoding and network that we have
LICENCE = "MIT, for the models that microsoft/satclip publishes; the file itself names none"


def load_satclip(url: str) -> tuple[LocationEncoder, Tree]:
    """The location encoder of a checkpoint, a path or URL, and what is known of it.

    Nothing in the file is run: objects that are not plain data become nothing, and are named under
    "left_out" beside the tensors that the location encoder has no use for. "harmonics" says which
    convention was undone and how it is known. Raises WeightsError for a file that is none.
    """
    stored, left_out = _read(url)
    state = stored.get("state_dict")
    tensors: dict[str, Tensor] = state if isinstance(state, dict) else {}
    network = {k.removeprefix(NETWORK): v for k, v in tensors.items() if k.startswith(NETWORK)}
    if FIRST not in network or network[FIRST].ndim != 2:
        raise WeightsError(
            f"{url} is no SatCLIP checkpoint: its state_dict has no matrix {NETWORK}{FIRST}"
        )
    hyper = stored.get("hyper_parameters")
    convention, known_from = _convention(hyper if isinstance(hyper, dict) else {}, url)
    width, columns = network[FIRST].shape
    degrees = math.isqrt(columns)
    if degrees**2 != columns:
        raise WeightsError(
            f"{url}: its first layer reads {columns} numbers, which is no square: SatCLIP's "
            "encodings other than spherical harmonics cannot be imported"
        )
    network[FIRST] = network[FIRST] * _factors(degrees, convention)
    ours = {
        k.replace("last_layer", "last").replace("layers", "hidden"): v for k, v in network.items()
    }
    hidden = [name for name in ours if name.startswith("hidden.") and name.endswith(".weight")]
    settings = {
        "positional": {"kind": "spherical_harmonics", "degrees": degrees},
        "network": {
            "kind": "siren",
            "width": width,
            "hidden_layers": len(hidden),
            "dropout": 0.5,  # SatCLIP's while it trains; it has no part in an embedding
        },
        "dim": len(ours.get("last.bias", ())),
        "skip": False,
    }
    config = build(LocationEncoderConfig, settings, url)
    encoder = config.build()
    load_exactly(encoder.network, ours, url)
    return encoder, {
        "name": url.rpartition("/")[2].removesuffix(".ckpt"),
        "source": "SatCLIP, arXiv 2311.17179",
        "licence": LICENCE,
        "location": to_dict(config),
        "harmonics": f"{convention}, {known_from}",
        "left_out": [*left_out, *_unused(tensors)],
    }


def _convention(hyper: dict[str, Any], url: str) -> tuple[str, str]:
    """SatCLIP's convention of harmonics, and how it is known."""
    for name, wanted in ONLY.items():
        if hyper.get(name, wanted) != wanted:
            raise WeightsError(
                f"{url} was trained with {name}={hyper[name]}; only {wanted} can be imported"
            )
    if "harmonics_calculation" not in hyper:
        return "analytic", "SatCLIP's default: the checkpoint does not say"
    convention = str(hyper["harmonics_calculation"])
    if convention not in ("analytic", "closed-form"):
        raise WeightsError(
            f"{url} was trained with harmonics_calculation={convention}; only analytic and "
            "closed-form can be imported"
        )
    return convention, "as the checkpoint says"


def _factors(degrees: int, convention: str) -> Tensor:
    """SatCLIP's harmonics [L²] over ours, in float64."""
    column = torch.arange(degrees**2)
    degree = column.double().sqrt().long()
    order = column - degree**2 - degree
    if convention == "closed-form":
        return 1.0 - 2.0 * ((degree + order) % 2).double()
    return (1.0 - 2.0 * (degree % 2).double()) * torch.where(order == 0, math.pi, 1.0)


class _LeftOut:
    """Stands for every class and function of a pickle that is not plain data: takes what these
    would take, and does nothing with it."""

    def __new__(cls, *_: object) -> "_LeftOut":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def _read(url: str) -> tuple[dict[str, Any], list[str]]:
    """The content of a checkpoint, and the names of the objects in it that were left out."""
    content = io.BytesIO(read_bytes(url))
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(content))
        content.seek(0)
        with torch.serialization.safe_globals([(_LeftOut, name) for name in names]):
            stored = torch.load(content, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{url} is damaged or no checkpoint that can be read without running it: {reason}"
        ) from None
    if not isinstance(stored, dict):
        raise WeightsError(f"{url} is no Lightning checkpoint, which is a dictionary")
    return stored, names


def _unused(tensors: dict[str, Tensor]) -> list[str]:
    """Tensors without a use here, counted by the first two parts of their names."""
    parts = [".".join(k.split(".")[:2]) for k in tensors if not k.startswith(NETWORK)]
    return [f"{part} ({parts.count(part)} tensors)" for part in dict.fromkeys(parts)]
