"""GeoCLIP's published location encoder, a peer to compare with (Vivanco Cepeda et al. 2023, arXiv
2309.16020; weights MIT). Our own code; the weights come from the pinned wheel, 40 MB."""

import math

import torch
from jaxtyping import Float32, Float64
from torch import Tensor, nn

from raytrain import wheels
from raytrain.encoders.weights import load_exactly, tensors
from raytrain.geo import EQUAL_EARTH

WHEEL, WEIGHTS = "geoclip", "geoclip/model/weights/location_encoder_weights.pth"
SCALE = 66.50336  # and a division by 180: GeoCLIP's unit of the projection


class GeoCLIP(nn.Module):
    """Places, (lon, lat) in degrees, to 512 columns, not of unit length: the sum of one network for
    each of three scales, whose Fourier frequencies have sigma 1, 16 and 256.

    Float32 throughout, as published. It reads a flat map, so it has a seam at the dateline, and at
    the poles, which are lines there: one place has a different embedding from each longitude.
    """

    dim = learned_dim = 512

    def __init__(self) -> None:
        super().__init__()
        self.capsules = nn.ModuleList(_capsule(self.dim) for _ in range(3))

    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float32[Tensor, "n dim"]:
        flat = equal_earth(lonlat_deg.float())
        return torch.stack([capsule(flat) for capsule in self.capsules]).sum(0)


class FourierFeatures(nn.Module):
    """cos and sin of 2π b·v, with the published random matrix b (Tancik et al. 2020)."""

    b: Tensor

    def __init__(self, features: int = 256) -> None:
        super().__init__()
        self.register_buffer("b", torch.zeros(features, 2))

    def forward(self, v: Float32[Tensor, "n 2"]) -> Float32[Tensor, "n features"]:
        phase = 2 * math.pi * v @ self.b.T
        return torch.cat([phase.cos(), phase.sin()], dim=1)


def equal_earth(lonlat_deg: Float32[Tensor, "n 2"]) -> Float32[Tensor, "n 2"]:
    """Equal Earth coordinates (x east, y north) in GeoCLIP's unit: |x| <= 1.00, |y| <= 0.49.

    In the published order of operations: a phase has up to 1,000 turns, so every rounding shows.
    """
    a1, a2, a3, a4 = EQUAL_EARTH
    lon, lat = torch.deg2rad(lonlat_deg).unbind(1)
    theta = torch.asin(math.sqrt(3) / 2 * lat.sin())
    slope = 9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1
    x = 2 * math.sqrt(3) * lon * theta.cos() / (3 * slope)
    y = a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta
    return torch.stack([x, y], dim=1) * SCALE / 180


def load_geoclip() -> GeoCLIP:
    """The encoder with its published weights; fetches the wheel on first use. Raises WheelError."""
    stored = tensors(wheels.read_member(WHEEL, WEIGHTS), f"wheel://{WHEEL}/{WEIGHTS}")
    encoder = GeoCLIP()
    load_exactly(encoder, {_ours(name): value for name, value in stored.items()}, "GeoCLIP")
    return encoder.eval().requires_grad_(False)


def _capsule(dim: int, width: int = 1024) -> nn.Sequential:
    fourier = FourierFeatures()
    hidden = [nn.Linear(2 * len(fourier.b), width), nn.Linear(width, width)]
    hidden += [nn.Linear(width, width)]
    layers = [layer for linear in hidden for layer in (linear, nn.ReLU())]
    return nn.Sequential(fourier, *layers, nn.Linear(width, dim))


def _ours(name: str) -> str:
    """Our name of a stored tensor: LocEnc0.capsule.1.bias -> capsules.0.1.bias; the head is 7."""
    return name.replace("LocEnc", "capsules.").replace(".capsule.", ".").replace(".head.0.", ".7.")
