"""Spherical harmonics: speed and error of ours beside SatCLIP's own code.

    python benchmarks/harmonics.py [--device cpu] [--repeats 15] [--out harmonics.json]

SatCLIP's published models run the "analytic" code in float64, as PyPI's `rshf` carries it (pip
install rshf). Both take turns on the same places in one process with one thread; a row holds the
medians, their ratio, and the largest error against scipy in float64. SatCLIP's code takes the
sphere turned by half a turn and scales m = 0 by pi; that is undone before errors are taken. Both
have large pages for large tensors, as pretrain has.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # torch reads it at its first tensor

import numpy as np
import torch
from scipy.special import sph_harm_y
from torch import Tensor

from raytrain.encoders.positional.harmonics import SphericalHarmonics
from raytrain.geo import random_on_sphere

CASES = [(10, 2048), (20, 2048), (40, 2048), (40, 8192), (100, 2048)]
SATCLIP_DEGREES = 40  # the largest that SatCLIP published; more is far too slow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    heads = ("L", "places", "ours ms", "error", "SatCLIP ms", "error", "ratio")
    print("".join(f"{head:>12}" for head in heads))
    keys = ("degrees", "places", "ours_ms", "ours_error", "satclip_ms", "satclip_error", "ratio")
    rows = []
    for degrees, places in CASES:
        rows.append(measure(degrees, places, device, arguments.repeats))
        print("".join(f"{rows[-1].get(key, '-'):>12}" for key in keys), flush=True)
    if arguments.out:
        machine = {"processor": processor(device), "torch": torch.__version__, "threads": 1}
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


def measure(degrees: int, places: int, device: torch.device, repeats: int) -> dict[str, Any]:
    """Medians in milliseconds of turns taken side by side, and errors."""
    lonlat_deg = random_on_sphere(places, np.random.default_rng(0))
    lonlat_deg[:100, 1] = np.copysign(90 - np.geomspace(1e-6, 5, 100), lonlat_deg[:100, 1])
    points = torch.from_numpy(lonlat_deg).to(device)
    codes: dict[str, Callable[[Tensor], Tensor]] = {"ours": SphericalHarmonics(degrees).to(device)}
    if degrees <= SATCLIP_DEGREES:
        codes["satclip"] = satclip_harmonics(degrees)
    row: dict[str, Any] = {"degrees": degrees, "places": places}
    expected = by_scipy(lonlat_deg, degrees)
    for name, code in codes.items():  # also warms up
        error = np.nanmax(np.abs(comparable(name, code(points).cpu().numpy()) - expected))
        row[f"{name}_error"] = float(f"{error:.1e}")
    times: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(repeats):
        for name, code in codes.items():
            wait_for(device)
            start = time.perf_counter()
            code(points)
            wait_for(device)
            times[name].append(1000 * (time.perf_counter() - start))
    for name, values in times.items():
        row[f"{name}_ms"] = round(statistics.median(values), 2)
    if "satclip" in times:
        row["ratio"] = round(row["satclip_ms"] / row["ours_ms"], 1)
    return row


def wait_for(device: torch.device) -> None:
    """A GPU works on after a call has returned."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def processor(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()


def satclip_harmonics(degrees: int) -> Callable[[Tensor], Tensor]:
    """SatCLIP's analytic harmonics, all columns. Only this one file of `rshf` is imported."""
    package = importlib.util.find_spec("rshf")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("SatCLIP's code is not installed: pip install rshf")
    file = Path(package.submodule_search_locations[0]) / "satclip" / "spherical_harmonics_ylm.py"
    spec = importlib.util.spec_from_file_location("satclip_ylm", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def harmonics(points: Tensor) -> Tensor:
        azimuth, polar = torch.deg2rad(points[:, 0] + 180), torch.deg2rad(points[:, 1] + 90)
        columns = [
            torch.as_tensor(
                module.SH(m, l, azimuth, polar), dtype=torch.float64, device=points.device
            ).expand(len(points))
            for l in range(degrees)  # noqa: E741
            for m in range(-l, l + 1)
        ]
        return torch.stack(columns, dim=-1)

    return harmonics


def comparable(name: str, columns: np.ndarray) -> np.ndarray:
    """SatCLIP's columns at the antipode with m = 0 times pi, brought to the orthonormal ones."""
    if name == "satclip":
        columns = columns.copy()
        for l in range(round(columns.shape[1] ** 0.5)):  # noqa: E741
            columns[:, l * l : (l + 1) ** 2] *= (-1) ** l
            columns[:, l * l + l] /= np.pi
    return columns


def by_scipy(lonlat_deg: np.ndarray, degrees: int) -> np.ndarray:
    """Real orthonormal harmonics without Condon-Shortley sign, in float64."""
    colatitude, azimuth = np.radians(90 - lonlat_deg[:, 1]), np.radians(lonlat_deg[:, 0])
    columns = np.empty((len(lonlat_deg), degrees**2))
    for l in range(degrees):  # noqa: E741
        columns[:, l * l + l] = sph_harm_y(l, 0, colatitude, azimuth).real
        for m in range(1, l + 1):
            value = np.sqrt(2) * (-1) ** m * sph_harm_y(l, m, colatitude, azimuth)
            columns[:, l * l + l + m], columns[:, l * l + l - m] = value.real, value.imag
    return columns


if __name__ == "__main__":
    main()
