import math
from itertools import pairwise
from typing import Any

import pytest
from markup import Elements

from raytrain.evaluation import charts
from raytrain.evaluation.report import page, verdict

BUDGETS = {"100 labels": 100, "300 labels": 300, "all labels": 6400}
ROWS = {"label-kNN": "label baseline", "lon/lat": "encoder baseline", "runs/melt": "encoder"}
PNG = b"\x89PNG\r\n"


def score(mean: float | None, std: float | None = 0.01) -> dict[str, Any]:
    return {"mean": mean, "std": std, "seeds": [mean]}


def table(split: str = "10° blocks") -> dict[str, Any]:
    scores = {
        row: {
            budget: {"height": score(0.3 + 0.1 * i), "biomes": score(0.6), "mean": score(0.2 * i)}
            for budget in BUDGETS
        }
        for i, row in enumerate(ROWS)
    }
    pair = {"a": "runs/melt", "b": "lon/lat", "difference": 0.2, "low": 0.1, "high": 0.3}
    return {
        "split": split,
        "probe": "ridge",
        "seeds": [0, 1],
        "budgets": list(BUDGETS),
        "counts": BUDGETS,
        "short": {"100 labels": {}, "300 labels": {"biomes": 250}, "all labels": {}},
        "scores": scores,
        "leaks": {"runs/melt": ["height"]},
        "seen_classes": {"biomes": {"100 labels": 0.87, "300 labels": math.nan}},
        "ranks": {"100 labels": {"label-kNN": 3.0, "lon/lat": None, "runs/melt": 1.0}},
        "comparisons": [
            {**pair, "budget": "100 labels", "p": 0.21},
            {**pair, "budget": "300 labels", "p": 0.0004},
        ],
    }


@pytest.fixture
def evaluation() -> dict[str, Any]:
    retrieval = {"places": 2048, "observation_to_location@1": 0.0254}
    task = {"metric": "R2", "labels": 8000, "units": "m", "credit": "A Survey, CC BY", "note": None}
    return {
        "raytrain": "0.1.0",
        "command": "python -m raytrain.evaluate runs/melt",
        "created": "2026-11-23 12:00 UTC",
        "rows": [{"name": n, "kind": k, "dim": 512, "note": None} for n, k in ROWS.items()],
        "skipped": ["geoclip"],
        "tasks": [
            {"name": "height", "title": "height above sea", **task},
            {"name": "biomes", "title": "biome", **task, "metric": "accuracy", "units": None},
        ],
        "tables": [table(), table("continents"), table("random")],
        "geometry": {"runs/melt": {"intrinsic_dimension": 7.12, "isotropy": math.nan}},
        "retrieval": {"runs/melt": {"night lights": retrieval}},
        "curves": {
            "runs/melt": {
                "step": list(range(1000)),
                "loss": [9 - 0.001 * i for i in range(1000)],
                "grad_norm": [50.0 if i == 500 else 1.0 for i in range(1000)],
                "spikes": {"loss": 0, "grad_norm": 1},
            }
        },
        "spike_rule": "ten times the median",
        "settings": {"penalties": [0.1, 1]},
    }


def test_is_self_contained(evaluation: dict[str, Any]) -> None:
    html = page(evaluation, {"embedding/runs/melt": PNG, "error/height/lon/lat": PNG})
    elements = Elements(html)
    for tag, attrs in elements.found:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "href", "srcset", "xlink:href"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert "url(" not in html
    assert "@import" not in html
    assert len(elements.of("img")) == 2
    ids = [attrs["id"] for _, attrs in elements.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {a["href"] for a in elements.of("a")} <= {f"#{name}" for name in ids}


def test_every_row_task_and_note_occurs(evaluation: dict[str, Any]) -> None:
    text = Elements(page(evaluation)).text
    for name in (*ROWS, *BUDGETS, "height", "height above sea", "biomes", "biome", "A Survey"):
        assert name in text
    assert "Skipped, so not scored: geoclip." in text
    assert "biome, 100 labels: 87 % of the test labels" in text
    assert "biome, 300 labels: there are only 250 to train on" in text
    assert "biome, 300 labels: 8" not in text
    assert "Random splits flatter" in text
    assert "2.5 %" in text
    assert "ten times the median" in text


def test_charts_say_what_they_show(evaluation: dict[str, Any]) -> None:
    elements = Elements(page(evaluation, {"embedding/runs/melt": PNG}))
    for svg in elements.of("svg"):
        assert svg.get("aria-label") or svg.get("aria-hidden") == "true"
    assert all(image["alt"] for image in elements.of("img"))
    assert all(th.get("scope") for th in elements.of("th"))
    labels = [svg.get("aria-label") for svg in elements.of("svg")]
    assert "loss: 9 at step 0, 8 at step 999" in labels
    assert any("Mean score of runs/melt: .400 with 100 labels" in (a or "") for a in labels)


def test_leaks_are_marked_and_never_best(evaluation: dict[str, Any]) -> None:
    html = page(evaluation)
    assert ".500* <small>±.010</small>" in html
    assert "<b>.500</b>" not in html
    assert "<b>.400</b> <small>±.010</small>" in html
    assert "* The encoder was trained on a modality that holds this label" in html
    for one in evaluation["tables"]:
        one["leaks"] = {}
    assert "holds this label" not in page(evaluation)


def test_verdict() -> None:
    one = table()
    assert verdict(one, "100 labels") == (
        "With 100 labels <strong>runs/melt</strong> leads (.400); "
        "no difference from lon/lat (p = .21)."
    )
    assert verdict(one, "300 labels").endswith("better than the next, lon/lat (.200), p &lt; .001.")
    assert verdict(one, "all labels").endswith(
        "the next, lon/lat (.200), was not compared with it."
    )
    one["comparisons"][0] |= {"a": "lon/lat", "b": "runs/melt", "difference": -0.2, "p": 0.01}
    assert verdict(one, "100 labels").endswith("better than the next, lon/lat (.200), p = .010.")


def test_comparisons_in_words(evaluation: dict[str, Any]) -> None:
    assert "＝ no difference" in Elements(page(evaluation)).text
    for pair in evaluation["tables"][0]["comparisons"]:
        pair["p"] = 0.049
        pair["difference"] = -0.2
    text = Elements(page(evaluation)).text
    assert "＝" not in text
    assert "▼ worse" in text


def test_names_are_escaped(evaluation: dict[str, Any]) -> None:
    bad = "<script>alert('&')</script>"
    evaluation["rows"][2]["name"] = evaluation["tasks"][0]["title"] = bad
    evaluation["skipped"] = evaluation["settings"]["note"] = bad
    for one in evaluation["tables"]:
        one["scores"][bad] = one["scores"].pop("runs/melt")
    elements = Elements(page(evaluation))
    assert elements.of("script") == []
    assert bad in elements.text


def test_smallest(evaluation: dict[str, Any]) -> None:
    one = table()
    one |= {"budgets": ["all labels"], "leaks": {}, "seen_classes": {}, "ranks": {}}
    one |= {"comparisons": [], "scores": {"lon/lat": {"all labels": {"height": score(None, None)}}}}
    small = {key: evaluation[key] for key in ("raytrain", "command", "created", "settings")}
    small |= {"skipped": [], "tables": [one]}
    small |= {"rows": evaluation["rows"][1:2], "tasks": evaluation["tasks"][:1]}
    text = Elements(page(small)).text
    assert "With all labels no row has a mean score." in text
    one["scores"]["lon/lat"]["all labels"]["mean"] = score(-0.25, math.nan)
    text = Elements(page(small)).text
    assert "With all labels lon/lat scores −.250." in text
    for absent in (
        "Paired",
        "Label budgets",
        "Sensitivity",
        "Geometry",
        "Retrieval",
        "Maps",
        "nan",
    ):
        assert absent not in text


def test_splits_from_near_to_far(evaluation: dict[str, Any]) -> None:
    assert "Row random 10° blocks continents" in Elements(page(evaluation)).text


@pytest.mark.parametrize("values", [(0, 0.001), (-0.3, 0.52), (5, 5), (0, 0), (2, 31_000)])
def test_linear_axis_holds_its_values(values: tuple[float, float]) -> None:
    axis = charts.linear(values)
    assert axis.low <= values[0] <= values[1] <= axis.high
    assert 2 <= len(axis.ticks) <= 7
    assert axis.at(axis.low) == 0
    assert axis.at(axis.high) == 100


@pytest.mark.parametrize("values", [(0.7, 0.8), (1, 1), (0.02, 900), (5e-5, 2e3), (10, 1000)])
def test_logarithmic_axis_holds_its_values(values: tuple[float, float]) -> None:
    axis = charts.logarithmic(values)
    assert axis.low <= values[0] <= values[1] <= axis.high
    assert len(axis.ticks) >= 2
    assert all(0 <= axis.at(a) < axis.at(b) <= 100 for a, b in pairwise(axis.ticks))


def test_a_long_curve_keeps_its_spikes() -> None:
    values = [1.0] * 100_000
    values[70_001] = 30.0
    chart = charts.curve("gradient norm", range(100_000), values, log=True)
    assert chart is not None
    assert len(chart.line.split()) <= 2 * charts.BUCKETS
    assert f",{100 - chart.y.at(30):g} " in chart.line
    assert charts.curve("loss", [1, 2, 3], [math.nan, None, 2.0], log=False) is None
