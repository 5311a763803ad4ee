"""The model card of a location encoder: what is known of it, and what is not, in Markdown."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from raytrain.encoders.location import LocationEncoder
from raytrain.encoders.pretrained import PlaceEncoder
from raytrain.errors import UserError
from raytrain.evaluation.geometry import geometry
from raytrain.settings import dump_yaml

RECIPE = ("seed", "location", "method", "objective", "optim", "training")
TRAINED = "trained encoder"  # the row of a run's own probes
UNKNOWN = "not known"


def model_card(
    encoder: PlaceEncoder, config: Mapping[str, Any], name: str, scores: Mapping[str, Any] | None
) -> str:
    """Markdown with the front matter that Hugging Face reads.

    `config` is what the export says of the encoder; `scores` the content of a run's probes.json or
    of an evaluation's scores.json, in which `name` has a row. Raises UserError where it has none.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    module = encoder.encoder
    others = []
    if isinstance(module, LocationEncoder):
        others += ["a kernel between what is expected at places"] if module.kernel else []
        others += ["its positional encoding, as it is"] if module.skip else []
        others += ["smooth random functions of the place"] if module.random_field else []
    columns = ""
    if others:
        columns = (
            f"The first {module.learned_dim} columns are learned, the others "
            f"{', then '.join(others)}."
        )
    licence = str(config.get("licence", ""))
    front = {
        "library_name": "raytrain",
        "license": "mit" if licence.startswith("MIT") else "unknown",
        "tags": ["location-encoder", "geospatial", "embeddings"],
    }
    table = _headline(scores) if scores else None
    recipe = {key: config[key] for key in RECIPE if key in config}
    return environment.get_template("model_card.md").render(
        front=dump_yaml(front),
        name=config.get("name", name),
        dim=encoder.dim,
        columns=columns,
        config={"source": "", "licence": "", "harmonics": "", **config},
        cards=[_data(card, config["data"]["root"]) for card in config.get("cards", {}).values()],
        recipe=dump_yaml(recipe) if recipe else "",
        tables=_tables(table, _row(table, name)) if table else [],
        settings=table["settings"] if table else {},
        leaky=bool(table and any(table["leaks"].values())),
        geometry=geometry(encoder.encode),
    )


def _headline(scores: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first table of an evaluation; a run's probes are one table."""
    table: Mapping[str, Any] = scores["tables"][0] if "tables" in scores else scores
    members = {row["name"]: row["members"] for row in scores.get("rows", ())}
    return {**table, "members": members}


def _row(table: Mapping[str, Any], name: str) -> str:
    """The row of the encoder, alone or among the seeds of one recipe."""
    for row in table["scores"]:
        if row == TRAINED or name in (row, *table["members"].get(row, ())):
            return str(row)
    raise UserError(
        f"the scores have no row of {name}; they have: {', '.join(table['scores'])}. "
        "Give the scores.json of an evaluation of this encoder"
    )


def _tables(table: Mapping[str, Any], own: str) -> list[dict[str, Any]]:
    """A Markdown table's cells for each label budget."""
    tables = []
    for budget, cells in table["scores"][own].items():
        rows = []
        for row, budgets in table["scores"].items():
            marks = dict.fromkeys(table["leaks"].get(row, ()), "*")
            texts = [_score(budgets[budget].get(task), marks.get(task, "")) for task in cells]
            rows.append((f"**{row}**" if row == own else row, texts))
        titles = [_title(task, table["settings"]["tasks"]) for task in cells]
        tables.append({"budget": budget, "tasks": titles, "rows": rows})
    return tables


def _title(task: str, tasks: Mapping[str, Any]) -> str:
    metric = tasks.get(task, {}).get("metric")  # the mean has none
    return f"{task.replace('_', ' ')} ({metric})" if metric else task


def _score(cell: Mapping[str, Any] | None, mark: str) -> str:
    if cell is None or cell["mean"] is None:
        return "–"
    return f"{cell['mean']:.3f} ± {cell['std']:.3f}{mark}"


def _data(card: Mapping[str, Any], root: str) -> list[str]:
    """A modality's line: what the run's settings hold of its card."""
    source = {
        **(card.get("source") or {}),
        **(card.get("mini", {}) if root == "earth-mini" else {}),
    }
    where = [f"{lat:g}°" for lat in source.get("latitudes", ())]
    encoder = card.get("features") or {}
    if isinstance(encoder, str):  # "auto"
        encoder = {"credit": f"features by a frozen encoder ({encoder})"}
    credits = filter(None, (card.get("credit"), encoder.get("credit")))
    licences = filter(None, (card.get("licence"), encoder.get("licence")))
    land = "land, " if source.get("land") else ""
    line = [
        card["name"],
        source.get("units") or source.get("kind"),
        f"{land}latitude {' to '.join(where)}" if where else None,
        f"{source['places']:,}" if source.get("places") else None,
        "; ".join(licences),
        "; ".join(credits),
        ", ".join(card.get("leaks", ())) or "none that its card names",
    ]
    return [str(item or UNKNOWN).replace("|", "/") for item in line]
