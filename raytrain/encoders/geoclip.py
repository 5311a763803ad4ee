"""GeoCLIP's published location encoder, a peer to compare with (Vivanco Cepeda et al. 2023, arXiv
2309.16020; weights MIT). Our own code; the weights come from the pinned wheel, 40 MB."""

import re

import torch

from raytrain import wheels
from raytrain.encoders.location import LocationEncoder, LocationEncoderConfig
from raytrain.encoders.networks import BranchesConfig, MLPConfig
from raytrain.encoders.positional import FourierConfig
from raytrain.encoders.weights import load_exactly, tensors
from raytrain.settings import Tree, to_dict

NAME = "geoclip"
WEIGHTS = "geoclip/model/weights/location_encoder_weights.pth"
CONFIG = LocationEncoderConfig(
    positional=FourierConfig(projection="equal_earth", sigmas=(1.0, 16.0, 256.0), frequencies=256),
    network=BranchesConfig(network=MLPConfig(width=1024, hidden_layers=3, activation="relu")),
    dim=512,
    skip=False,
)
"""The sum of one network for each of three scales. Float32 throughout, as published; a seam at the
dateline, and poles that are lines: one place has a different embedding from each longitude."""


def load_geoclip() -> tuple[LocationEncoder, Tree]:
    """The encoder with its published weights, and what is known of it; fetches the wheel on first
    use. Raises WheelError."""
    stored = tensors(wheels.read_member(NAME, WEIGHTS), f"wheel://{NAME}/{WEIGHTS}")
    scales = sorted(name for name in stored if name.endswith(".capsule.0.b"))
    weights = {"positional.b": torch.stack([stored.pop(name) for name in scales])}
    encoder = CONFIG.build()
    load_exactly(encoder, weights | {_ours(k): v for k, v in stored.items()}, "GeoCLIP")
    known = {"name": NAME, "source": "arXiv 2309.16020", "licence": "MIT"}
    return encoder.requires_grad_(False), {**known, "location": to_dict(CONFIG)}


def _ours(name: str) -> str:
    """Our name of a stored tensor. Of a capsule's layers every second one is a ReLU, from 1 on."""

    def renamed(match: re.Match[str]) -> str:
        branch, layer, kind = match.groups()
        where = "last" if layer == "head.0" else f"hidden.{int(layer.rpartition('.')[2]) // 2}"
        return f"network.branches.{branch}.{where}.{kind}"

    return re.sub(r"LocEnc(\d)\.(capsule\.\d|head\.0)\.(weight|bias)", renamed, name)
