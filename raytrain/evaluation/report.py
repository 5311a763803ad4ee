"""One self-contained HTML page of an evaluation: verdict, tables, charts and maps."""

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from raytrain.evaluation import charts
from raytrain.evaluation.charts import Axis, Chart
from raytrain.evaluation.pages import (
    NO_VALUE,
    Record,
    difference_axis,
    number,
    outcome,
    p_value,
    score,
    template,
)

NEARLY_ALL = 0.995  # shares above are not worth a note
KINDS = ("label baseline", "encoder baseline", "encoder")
GEOMETRY = {
    "intrinsic_dimension": (
        "intrinsic dimension",
        "how many coordinates describe the embedding close to a place; the sphere alone has 2",
    ),
    "effective_rank": (
        "effective rank",
        "over how many directions the variance is spread; at most the length of the embedding",
    ),
    "median_degree": (
        "median degree",
        "half of the variance lies in spherical harmonics up to this degree: 20,000 km over it is "
        "what the embedding resolves; at most 30",
    ),
    "dateline_jump": (
        "dateline jump",
        "distance across longitude 180°, relative to places as near inland; 1 is no seam",
    ),
    "north_pole_jump": ("north pole jump", "the same across the north pole"),
    "south_pole_jump": ("south pole jump", "the same across the south pole"),
    "isotropy": (
        "isotropy",
        "how evenly embeddings fill all directions: 1 is evenly, near 0 is a narrow cone",
    ),
}


def page(evaluation: Record, images: Mapping[str, bytes] = {}) -> str:
    """The HTML page of an evaluation, which is the content of scores.json.

    `images` holds PNGs: "embedding/ROW" is a row's world map, "error/TASK/ROW" a map of its errors.
    """
    tables = evaluation["tables"]
    rows = [row["name"] for row in evaluation["rows"]]
    return template(Path(__file__).with_name("report.html")).render(
        evaluation=evaluation,
        headline=tables[0],
        groups=[
            (kind, members)
            for kind in KINDS
            if (members := [row for row in evaluation["rows"] if row["kind"] == kind])
        ],
        kinds={row["name"]: row["kind"] for row in evaluation["rows"]},
        verdicts=[verdict(tables[0], budget) for budget in tables[0]["budgets"]],
        budget_curves=_budget_curves(tables[0], rows),
        splits=_splits(tables),
        retrieval=_retrieval(evaluation.get("retrieval") or {}),
        curves=_curves(evaluation.get("curves") or {}),
        geometry=GEOMETRY,
        embedding_maps=_maps(images, "embedding", rows),
        error_maps=[
            (task, maps)
            for task in evaluation["tasks"]
            if (maps := _maps(images, f"error/{task['name']}", rows))
        ],
        settings=json.dumps(evaluation["settings"], indent=2, ensure_ascii=False),
        cell=cell,
        best=best,
        best_rank=best_rank,
        score_axis=_score_axis,
        difference_axis=difference_axis,
        nearly_all=NEARLY_ALL,
    )


def verdict(table: Record, budget: str) -> Markup:
    """In words: which row leads with a label budget, and whether that is a difference."""
    means = {row: m for row in table["scores"] if (m := cell(table, row, budget)[0]) is not None}
    if not means:
        return Markup("With {} no row has a mean score.").format(budget)
    leader, *others = sorted(means, key=lambda row: -means[row])
    name, mean = Markup("<strong>{}</strong>").format(leader), score(means[leader])
    if not others:
        return Markup("With {} {} scores {}.").format(budget, name, mean)
    leads = Markup("With {} {} leads ({});").format(budget, name, mean)
    tested = {}
    for pair in table["comparisons"]:
        if pair["budget"] == budget and leader in (pair["a"], pair["b"]):
            tested[pair["b"] if pair["a"] == leader else pair["a"]] = pair
    level = [row for row in others if row in tested and outcome(tested[row]) == "no difference"]
    if level:
        more = "" if len(level) == 1 else f" and {len(level) - 1} more"
        p = p_value(tested[level[0]]["p"], "p")
        return Markup("{} no difference from {} ({}){}.").format(leads, level[0], p, more)
    second = Markup("{} ({})").format(others[0], score(means[others[0]]))
    if others[0] not in tested or outcome(tested[others[0]]) == NO_VALUE:
        return Markup("{} the next, {}, was not compared with it.").format(leads, second)
    p = p_value(tested[others[0]]["p"], "p")
    return Markup("{} better than the next, {}, {}.").format(leads, second, p)


def cell(
    table: Record, row: str, budget: str, task: str = "mean"
) -> tuple[float | None, float | None]:
    """Mean and standard deviation over seeds; None where there is none."""
    found = table["scores"].get(row, {}).get(budget, {}).get(task) or {}
    return number(found.get("mean")), number(found.get("std"))


def best(table: Record, budget: str, task: str = "mean") -> set[str]:
    """Rows with the highest score that is no leak."""
    clean = [row for row in table["scores"] if task not in table["leaks"].get(row, ())]
    scores = {row: m for row in clean if (m := cell(table, row, budget, task)[0]) is not None}
    return {row for row, mean in scores.items() if mean == max(scores.values())}


def best_rank(table: Record, budget: str) -> set[str]:
    """Rows with the lowest mean rank."""
    found = table["ranks"].get(budget, {})
    ranks = {row: rank for row in found if (rank := number(found[row])) is not None}
    return {row for row, rank in ranks.items() if rank == min(ranks.values())}


def _score_axis(table: Record) -> Axis:
    """From 0 (or below) to the highest mean and its deviation, over all budgets."""
    spans = [cell(table, row, budget) for row in table["scores"] for budget in table["budgets"]]
    known = [(mean, std or 0.0) for mean, std in spans if mean is not None]
    return charts.linear([0.0, *(m - s for m, s in known), *(m + s for m, s in known)])


def _budget_curves(table: Record, rows: Sequence[str]) -> list[Chart]:
    """A chart a row, mean score against labels, with the other rows behind."""
    budgets = sorted(table["budgets"], key=lambda budget: table["counts"][budget])
    lines = {}
    for row in rows:
        cells = [(table["counts"][budget], *cell(table, row, budget)) for budget in budgets]
        lines[row] = [(n, mean, std or 0.0) for n, mean, std in cells if mean is not None]
    ends = [end for line in lines.values() for _, m, s in line for end in (m - s, m + s)]
    if len(budgets) < 3 or not ends:
        return []
    x, y = charts.counts([table["counts"][budget] for budget in budgets]), charts.linear(ends)
    dots = {row: charts.points(x, y, [(n, m) for n, m, _ in line]) for row, line in lines.items()}
    found = []
    for row, line in lines.items():
        up = charts.points(x, y, [(n, m + s) for n, m, s in line])
        down = charts.points(x, y, [(n, m - s) for n, m, s in line])
        told = ", ".join(f"{score(mean)} with {n} labels" for n, mean, _ in line)
        chart = Chart(
            title=row,
            alt=f"Mean score of {row}: {told or 'none'}",
            x=x,
            y=y,
            line=charts.path(dots[row]),
            band=charts.path([*up, *down[::-1]]),
            dots=dots[row],
            others=tuple(charts.path(dots[other]) for other in rows if other != row),
        )
        found.append(chart)
    return found


def _splits(tables: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """Budget, and the tables of the headline's probe that have it, random splits first and those
    last whose test places lie farthest from training places."""
    same = [table for table in tables if table["probe"] == tables[0]["probe"]]

    def distance(table: Record) -> float:
        degrees = re.search(r"\d+(\.\d+)?", table["split"])
        if degrees:
            return float(degrees[0])
        return 0.0 if "random" in table["split"] else math.inf

    found = []
    for budget in tables[0]["budgets"]:
        shown = [table for table in sorted(same, key=distance) if budget in table["budgets"]]
        if len(shown) > 1:
            found.append((budget, shown))
    return found


def _retrieval(rows: Record) -> dict[str, dict[str, Record]]:
    """Modality -> row -> retrieval."""
    modalities = dict.fromkeys(name for found in rows.values() for name in found)
    return {
        modality: {row: found[modality] for row, found in rows.items() if modality in found}
        for modality in modalities
    }


def _curves(rows: Record) -> list[tuple[str, Record, list[Chart]]]:
    """Row, its spikes by curve, and its charts."""
    found = []
    for row, curve in rows.items():
        made = (
            charts.curve("loss", curve["step"], curve["loss"], log=False),
            charts.curve("gradient norm", curve["step"], curve["grad_norm"], log=True),
        )
        found.append((row, curve["spikes"], [chart for chart in made if chart]))
    return found


def _maps(images: Mapping[str, bytes], folder: str, rows: Iterable[str]) -> list[tuple[str, str]]:
    """Row and data URI of every row that has a picture in a folder."""
    return [
        (row, "data:image/png;base64," + base64.b64encode(images[f"{folder}/{row}"]).decode())
        for row in rows
        if f"{folder}/{row}" in images
    ]
