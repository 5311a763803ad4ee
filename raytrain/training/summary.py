"""The end of a run in words: what was learned, what was skipped, where things are, what is next."""

from typing import Any

from rich.console import Console
from rich.table import Table

from raytrain.evaluation.scores import Scores
from raytrain.settings import redacted

Record = dict[str, Any]


def retrieval_table(validation: Record, modalities: tuple[str, ...]) -> Table:
    """Held-out retrieval by modality, both ways, beside chance."""
    table = Table(title="Retrieval on held-out blocks", title_justify="left")
    heads = ("modality", "places", "loss", "obs → place @1", "@10", "place → obs @1", "@10")
    for head in (*heads, "chance @1", "@10"):
        table.add_column(head, justify="left" if head == "modality" else "right")
    for name in modalities:
        places = validation.get(f"val_places/{name}")
        if places is None:
            continue
        keys = [
            f"val_{way}@{k}/{name}"
            for way in ("observation_to_location", "location_to_observation")
            for k in (1, 10)
        ]
        chance = [f"{min(1, k / places):.2%}" for k in (1, 10)]
        loss = f"{validation[f'val_loss/{name}']:.3f}"
        table.add_row(name, f"{places}", loss, *(f"{validation[k]:.2%}" for k in keys), *chance)
    return table


def probe_table(scores: Scores) -> Table:
    """Probes of the frozen embedding on held-out blocks: a row an encoder or label baseline."""
    seeds = scores.values.shape[-1]
    title = f"Probes on held-out 10° blocks (R² or accuracy, mean of {seeds} splits)"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for budget in scores.budgets:
        labels = "all labels" if budget is None else f"{budget} labels"
        for task in (*scores.tasks, "mean"):
            table.add_column(f"{task.replace('_', ' ')}\n{labels}", justify="right")
    for row in scores.rows:
        cells = []
        for budget in scores.budgets:
            cells += [f"{scores.mean(row, budget, task):.3f}" for task in scores.tasks]
            cells.append(f"[bold]{scores.mean(row, budget):.3f}[/bold]")
        table.add_row(row, *cells)
    return table


def say_skipped(console: Console, skipped: dict[str, dict[str, int]]) -> None:
    """How many samples could not be used, by shard."""
    if not skipped:
        console.print("Skipped samples: none")
    for modality, shards in skipped.items():
        listed = ", ".join(f"{shard}: {count}" for shard, count in shards.items())
        console.print(
            f"[yellow]Skipped samples[/yellow] of {modality} (undecodable or no place on Earth; "
            f"others took their places): {sum(shards.values())} ({listed})"
        )


def where(run_url: str, tracking_uri: str | None, run_id: str | None) -> list[str]:
    """Where things are, and the next commands to type."""
    mlflow = "not used"
    if tracking_uri:
        known = f"run {run_id} at " if run_id else "no answer from "
        mlflow = f"{known}{redacted(tracking_uri)}"
    return [
        f"Encoder     {run_url}   (checkpoints, metrics.jsonl, probes.json)",
        f"World map   {run_url}/map.png",
        f"MLflow      {mlflow}",
        "Next:",
        f'  python -c "import raytrain; print(raytrain.load({run_url!r}).encode(13.4, 52.5))"',
        f"  python -m raytrain.evaluate {run_url}",
        *([f"  mlflow ui --backend-store-uri {redacted(tracking_uri)}"] if run_id else []),
    ]
