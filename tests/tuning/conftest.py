"""A made sweep, and its page in a browser."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page

from raytrain.tuning.page import page

KIND = "location.positional.kind"
KINDS = ["spherical_harmonics", "fourier", "wavelets"]
PATHS = [
    {"path": KIND, "kind": "choice", "values": KINDS, "when": {}},
    {
        "path": "location.positional.degrees",
        "kind": "choice",
        "values": [10, 20, 40],
        "when": {KIND: ["spherical_harmonics"]},
    },
    {
        "path": "location.positional.smallest_km",
        "kind": "number",
        "log": True,
        "values": [30, 1000],
        "when": {KIND: ["fourier", "wavelets"]},
    },
    {
        "path": "location.network",
        "kind": "choice",
        "values": [{"kind": "siren", "width": 512}, {"kind": "residual", "width": 256}, None],
        "when": {},
    },
    {"path": "location.skip", "kind": "choice", "values": [True, False], "when": {}},
    {"path": "optim.lr", "kind": "number", "log": True, "values": [0.0002, 0.005], "when": {}},
    {
        "path": "optim.weight_decay",
        "kind": "number",
        "log": False,
        "values": [0.0, 0.1],
        "when": {},
    },
]
TASKS = ["air_temperature", "precipitation", "elevation", "population_density"]
OTHER_TASKS = ["biomes", "soil_carbon", "night_lights", "tree_cover", "countries"]
TOP_STEPS = 150
BUDGETS = ["300 labels", "all labels"]


def made_trial(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """A trial whose score depends on its values, most on the kind and the learning rate."""
    kind = KINDS[0] if number == 0 else KINDS[int(rng.integers(3))]
    values: dict[str, Any] = {KIND: kind}
    if kind == "spherical_harmonics":
        values["location.positional.degrees"] = 20 if number == 0 else [10, 20, 40][rng.integers(3)]
    else:
        values["location.positional.smallest_km"] = float(10 ** rng.uniform(1.48, 3))
    values["location.network"] = PATHS[3]["values"][0 if number == 0 else rng.integers(3)]
    values["location.skip"] = bool(number == 0 or rng.integers(2))
    values["optim.lr"] = 0.001 if number == 0 else float(10 ** rng.uniform(-3.7, -2.3))
    values["optim.weight_decay"] = 0.01 if number == 0 else float(rng.uniform(0, 0.1))
    quality = 0.56 - 0.05 * KINDS.index(kind) - 0.06 * abs(np.log10(values["optim.lr"] / 0.0015))
    quality += 0.02 * bool(values["location.network"]) + float(rng.normal(0, 0.012))
    steps = [25, 50, 75, 100, 125, 150]
    curve = [
        [step, round(quality * (1 - 0.8 * np.exp(-step / 40)) + float(rng.normal(0, 0.004)), 4)]
        for step in steps
    ]
    parameters = int(120_000 * (1 + rng.integers(1, 12)))
    return {
        "number": number,
        "state": "finished",
        "values": values,
        "score": curve[-1][1],
        "curve": curve,
        "steps": TOP_STEPS,
        "steps_wanted": TOP_STEPS,
        "seconds": round(20 + parameters / 50_000 + float(rng.uniform(0, 4)), 1),
        "parameters": parameters,
        "dim": 656 if values["location.skip"] else 256,
        "seeds": [curve[-1][1]],
        "error": None,
        "attempts": 1,
        "default": number == 0,
    }


def stop(trial: dict[str, Any], steps: int) -> None:
    curve = [point for point in trial["curve"] if point[0] <= steps]
    trial |= {"state": "stopped", "curve": curve, "steps": steps, "score": curve[-1][1]}
    trial |= {"seeds": [curve[-1][1]], "seconds": round(trial["seconds"] * steps / TOP_STEPS, 1)}


def fail(trial: dict[str, Any], error: str) -> None:
    trial |= {"state": "failed", "curve": [], "steps": 0, "score": None, "seeds": []}
    trial |= {"seconds": 3.2, "parameters": None, "dim": None, "error": error, "attempts": 3}


def made_content(count: int = 20) -> dict[str, Any]:
    """A sweep of so many trials, whose best is never the default."""
    rng = np.random.default_rng(4)
    trials = [made_trial(number, rng) for number in range(count)]
    for trial in trials[3::4]:
        stop(trial, 50 if trial["number"] % 8 == 3 else 100)
    for trial in trials[5::9]:
        fail(trial, "UserError: location.network: residual wants a width that 16 divides")
    scored = [t for t in trials if t["state"] == "finished"]
    best = max(scored, key=lambda t: t["score"])
    return {
        "name": "location_encoder",
        "about": "Which location encoder?",
        "command": "python -m raytrain.tune --space location_encoder --trials 20",
        "created": "2026-01-31 12:00 UTC",
        "raytrain": "0.1.0",
        "seconds": 612.3,
        "settings": {"space": "location_encoder", "trials": count, "optim": {"lr": 0.001}},
        "paths": copy.deepcopy(PATHS),
        "objective": {
            "name": "mean probe score",
            "unit_note": "ridge probes of the frozen embedding on held-out 10° blocks, mean of "
            "300 labels and all",
            "tasks": TASKS,
            "splits": 2,
            "minimize": [],
            "left_out": ["land_cover"],
        },
        "scheduler": "asha, factor 2, first decision after 50 steps",
        "trials": trials,
        "best": best["number"],
        "default": 0,
        "pareto": {cost: front(trials, cost) for cost in ("parameters", "seconds")},
        "importance": {
            "note": f"permutation importance of a random forest over {count} trials' scores "
            "after 50 steps",
            "paths": [
                {"path": "location.skip", "mean": -0.004, "std": 0.011},
                {"path": KIND, "mean": 0.31, "std": 0.06},
                {"path": "optim.lr", "mean": 0.22, "std": 0.05},
                {"path": "location.network", "mean": 0.06, "std": 0.03},
                {"path": "location.positional.degrees", "mean": 0.03, "std": 0.02},
                {"path": "location.positional.smallest_km", "mean": 0.02, "std": 0.03},
                {"path": "optim.weight_decay", "mean": 0.001, "std": 0.008},
            ],
        },
        "finalists": finalists(trials, best),
        "data": {
            "how": "shared",
            "bytes": 417_000_000,
            "note": f"417 MB read from disk once, shared by {count} trials",
        },
    }


def front(trials: list[dict[str, Any]], cost: str) -> list[int]:
    """Finished trials that no other beats in both score and cost."""
    known = [t for t in trials if t["state"] == "finished"]
    return [
        a["number"]
        for a in known
        if not any(b["score"] > a["score"] and b[cost] <= a[cost] for b in known)
    ]


def finalists(trials: list[dict[str, Any]], best: dict[str, Any]) -> dict[str, Any]:
    rows = []
    for name, trial, level in (
        (f"trial {best['number']}", best, 0.512),
        ("default", trials[0], 0.5),
    ):
        scores = {b: seeds(level + 0.09 * i, 0.008 + 0.004 * i) for i, b in enumerate(BUDGETS)}
        rows.append({"name": name, "kind": "encoder", "values": trial["values"], "scores": scores})
        rows[-1] |= {"parameters": trial["parameters"], "seconds": trial["seconds"]}
    scores = {b: seeds(0.35 + 0.12 * i, 0.0) for i, b in enumerate(BUDGETS)}
    rows.append({"name": "inverse distance", "kind": "label baseline", "scores": scores})
    pair = {"a": rows[0]["name"], "b": "default", "difference": 0.012}
    return {
        "tasks": OTHER_TASKS,
        "seeds": 3,
        "budgets": BUDGETS,
        "steps": TOP_STEPS,
        "rows": rows,
        "comparisons": [
            {**pair, "budget": BUDGETS[0], "low": -0.003, "high": 0.02, "p": 0.11},
            {**pair, "budget": BUDGETS[1], "low": 0.004, "high": 0.021, "p": 0.003},
            {**pair, "b": "inverse distance", "budget": BUDGETS[0], "difference": 0.162}
            | {"low": 0.14, "high": 0.18, "p": 0.0005},
        ],
        "verdict": "With all labels the best trial is better than the default by a little; with "
        "300 labels these places show no difference.",
        "page": "evaluation/report.html",
    }


def seeds(mean: float, std: float) -> dict[str, Any]:
    return {
        "mean": mean,
        "std": std,
        "seeds": [mean - 1.1 * std, mean + 0.2 * std, mean + 0.9 * std],
    }


@pytest.fixture
def content() -> dict[str, Any]:
    return made_content()


@pytest.fixture
def visit(browser: Page, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens the page of a content, in a window of 1280 x 900 unless told; no page may report a
    problem or fetch anything."""

    def opened(
        content: dict[str, Any],
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        touch: bool = False,
    ) -> Page:
        (tmp_path / "sweep.html").write_text(page(content))
        browser.open(f"file://{tmp_path}/sweep.html", width, height, dark, touch)
        return browser

    yield opened
    browser.close()
    assert not browser.problems
