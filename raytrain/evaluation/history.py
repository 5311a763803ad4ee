"""What a run's metrics.jsonl tells beside its probes: retrieval, curves, how steady they are."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from raytrain import storage

CURVES = ("loss", "grad_norm")
BEFORE, DEVIATIONS = 10, 6.0
SPIKE_RULE = (
    f"a logged value more than {DEVIATIONS:g} median absolute deviations (times 1.4826, at least 1 "
    f"% of the median) above the median of the {BEFORE} before it"
)


def history(run_url: str) -> dict[str, Any]:
    """Curves of a run: {"step": […], "loss": […], "grad_norm": […]} and the spikes of each curve,
    {"spikes": {"loss": n, "grad_norm": n}}, by SPIKE_RULE; {} where no metrics are."""
    records = [record for record in _records(run_url) if all(name in record for name in CURVES)]
    if not records:
        return {}
    curves = {name: [record[name] for record in records] for name in ("step", *CURVES)}
    return {**curves, "spikes": {name: spikes(curves[name]) for name in CURVES}}


def spikes(values: Sequence[float]) -> int:
    """How many values stand out above those before them, by SPIKE_RULE."""
    found = 0
    for i in range(BEFORE, len(values)):
        before = np.array(values[i - BEFORE : i])
        middle = float(np.median(before))
        spread = 1.4826 * float(np.median(np.abs(before - middle)))
        found += values[i] > middle + DEVIATIONS * max(spread, 0.01 * abs(middle))
    return found


def retrieval(run_url: str) -> dict[str, dict[str, float]]:
    """The run's last retrieval on held-out blocks, by modality: places, and the share of queries
    whose partner is among the first 1 or 10, both ways."""
    found: dict[str, dict[str, float]] = {}
    for record in _records(run_url):
        for key, value in record.items():
            name, _, modality = key.partition("/")
            if modality and name.startswith(("val_places", "val_obs", "val_loc")):
                found.setdefault(modality, {})[name.removeprefix("val_")] = value
    return found


def _records(run_url: str) -> list[dict[str, Any]]:
    try:
        lines = storage.read(f"{run_url}/metrics.jsonl").decode().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]
