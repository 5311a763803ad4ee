"""A location encoder's forward and backward pass beside SatCLIP's, of the same architecture.

    python benchmarks/encoder.py [--repeats 15] [--out encoder.json]

Both have harmonics of degree L, SIREN with 2 layers of 512 and 256 columns out. SatCLIP's runs its
own "analytic" harmonics (PyPI's `rshf` carries them) and its layers in float64 with dropout 0.5, as
published; ours runs as pretrain does. They take turns on 2,048 places in one process with one
thread; a row holds the medians and their ratio. `bf16` is ours with matrices in bfloat16
(training.precision=bfloat16), for processors with units for it.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # torch reads it at its first tensor, as in pretrain

import numpy as np
import torch
from harmonics import satclip_harmonics
from torch import Tensor

from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.networks import SirenConfig
from raytrain.encoders.positional import SphericalHarmonicsConfig
from raytrain.geo import random_on_sphere

PLACES, DEGREES = 2048, (10, 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keys = ("degrees", "satclip_ms", "ours_ms", "ratio", "bf16_ms", "bf16_ratio")
    print("".join(f"{key:>12}" for key in keys))
    rows = []
    for degrees in DEGREES:
        rows.append(measure(degrees, arguments.repeats))
        print("".join(f"{rows[-1][key]:>12}" for key in keys), flush=True)
    if arguments.out:
        machine = {"processor": platform.processor(), "torch": torch.__version__, "threads": 1}
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


def measure(degrees: int, repeats: int) -> dict[str, Any]:
    """Medians in milliseconds of passes taken side by side."""
    places = torch.from_numpy(random_on_sphere(PLACES, np.random.default_rng(0)))
    codes = {"satclip": satclip(degrees), "ours": ours(degrees), "bf16": ours(degrees, True)}
    times: dict[str, list[float]] = {name: [] for name in codes}
    for turn in range(repeats + 1):
        for name, code in codes.items():
            start = time.perf_counter()
            code(places).square().mean().backward()
            if turn:  # the first warms up
                times[name].append(1000 * (time.perf_counter() - start))
    row: dict[str, Any] = {"degrees": degrees}
    row |= {f"{name}_ms": round(statistics.median(values), 1) for name, values in times.items()}
    row["ratio"] = round(row["satclip_ms"] / row["ours_ms"], 1)
    row["bf16_ratio"] = round(row["satclip_ms"] / row["bf16_ms"], 1)
    return row


def satclip(degrees: int) -> Callable[[Tensor], Tensor]:
    harmonics = satclip_harmonics(degrees)
    network = SirenConfig(dropout=0.5).build([degrees**2], 256).double()

    def encode(places: Tensor) -> Tensor:
        with torch.no_grad():
            position = harmonics(places)
        return network(position)

    return encode


def ours(degrees: int, bf16: bool = False) -> Callable[[Tensor], Tensor]:
    positional = SphericalHarmonicsConfig(degrees=degrees)
    encoder = LocationEncoderConfig(positional=positional, skip=False).build()

    def encode(places: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return encoder(places).float()

    return encode


if __name__ == "__main__":
    main()
