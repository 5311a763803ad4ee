"""A location encoder's forward and backward pass beside SatCLIP's, of the same architecture.

    python benchmarks/encoder.py [--device cpu] [--places 2048 …] [--repeats 15] [--out FILE]

Both have harmonics of degree L, SIREN with 2 layers of 512 and 256 columns out. SatCLIP's runs its
own "analytic" harmonics (PyPI's `rshf` carries them) and its layers in float64 with dropout 0.5, as
published; ours runs as pretrain does. They take turns on the same places in one process with one
thread; a row holds the medians and their ratio. `bf16` is ours with matrices in bfloat16
(training.precision=bfloat16), for processors with units for it, and the default on a GPU.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # torch reads it at its first tensor, as in pretrain

import numpy as np
import torch
from harmonics import processor, satclip_harmonics, wait_for
from torch import Tensor

from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.networks import SirenConfig
from raytrain.encoders.positional import SphericalHarmonicsConfig
from raytrain.geo import random_on_sphere

DEGREES = (10, 40)
WARM = 2  # first turns that are not counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--places", type=int, nargs="+", default=[2048])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keys = ("degrees", "places", "satclip_ms", "ours_ms", "ratio", "bf16_ms", "bf16_ratio")
    print("".join(f"{key:>12}" for key in keys))
    rows = []
    device = torch.device(arguments.device)
    for degrees, places in product(DEGREES, arguments.places):
        rows.append(measure(degrees, places, device, arguments.repeats))
        print("".join(f"{rows[-1][key]:>12}" for key in keys), flush=True)
    if arguments.out:
        machine = {"processor": processor(device), "torch": torch.__version__, "threads": 1}
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


def measure(degrees: int, places: int, device: torch.device, repeats: int) -> dict[str, Any]:
    """Medians in milliseconds of passes taken side by side."""
    lonlat_deg = torch.from_numpy(random_on_sphere(places, np.random.default_rng(0))).to(device)
    codes = {
        "satclip": satclip(degrees, device),
        "ours": ours(degrees, device),
        "bf16": ours(degrees, device, bf16=True),
    }
    times: dict[str, list[float]] = {name: [] for name in codes}
    for turn in range(repeats + WARM):
        for name, code in codes.items():
            wait_for(device)
            start = time.perf_counter()
            code(lonlat_deg).square().mean().backward()
            wait_for(device)
            if turn >= WARM:
                times[name].append(1000 * (time.perf_counter() - start))
    row: dict[str, Any] = {"degrees": degrees, "places": places}
    row |= {f"{name}_ms": round(statistics.median(values), 2) for name, values in times.items()}
    row["ratio"] = round(row["satclip_ms"] / row["ours_ms"], 1)
    row["bf16_ratio"] = round(row["satclip_ms"] / row["bf16_ms"], 1)
    return row


def satclip(degrees: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    harmonics = satclip_harmonics(degrees)
    network = SirenConfig(dropout=0.5).build([degrees**2], 256).double().to(device)

    def encode(places: Tensor) -> Tensor:
        with torch.no_grad():
            position = harmonics(places)
        return network(position)

    return encode


def ours(degrees: int, device: torch.device, bf16: bool = False) -> Callable[[Tensor], Tensor]:
    positional = SphericalHarmonicsConfig(degrees=degrees)
    encoder = LocationEncoderConfig(positional=positional, skip=False).build().to(device)

    def encode(places: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return encoder(places).float()

    return encode


if __name__ == "__main__":
    main()
