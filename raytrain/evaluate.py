"""`python -m raytrain.evaluate ENCODER …`: what embeddings know, beside everything they must beat.

python -m raytrain.evaluate runs/mine                    seven tasks of earth-mini, 10° blocks
python -m raytrain.evaluate runs/* geoclip root=earth    the tasks of earth, 8,000 labels each
python -m raytrain.evaluate my_module:encode holdouts=10,random,continent probes=ridge,mlp

An ENCODER is a run or a checkpoint (path or URL), `earth`, `geoclip`, `untrained`, or
`module:function` (lon [n], lat [n] in degrees -> embedding [n, d]).
"""

import argparse
import datetime
import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.progress import track

from raytrain.errors import UserError
from raytrain.settings import apply_overrides, build, dump_yaml, flat, load_yaml, redacted, to_dict
from raytrain.training.config import RunConfig, TrackingConfig

MAPS = 6  # rows whose errors are drawn


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """One evaluation; the defaults are the development suite, a few minutes on a laptop.

    `tasks` are cards: names in datasets/tasks or paths of YAML files. `root` is where their labels
    come from: earth-mini (embedded), earth (`python -m raytrain.prepare tasks`), or an .npz file;
    `tables` a folder for those that are tables. `holdouts` are degrees of blocks, `random` or
    `continent`, the first of them with the first of `probes` the headline. `budgets` are labels to
    train a probe on, null is all. Splits are those of `seeds` seeds, from `first_seed` on: others
    than a recipe was chosen by. `skip` leaves out baselines, which the page then says.
    """

    encoders: tuple[str, ...] = ()
    tasks: tuple[str, ...] = field(default_factory=lambda: _development())
    root: str = "earth-mini"
    tables: str | None = None
    holdouts: tuple[float | Literal["random", "continent"], ...] = (10.0,)
    probes: tuple[Literal["ridge", "logistic", "knn", "mlp"], ...] = ("ridge",)
    budgets: tuple[int | None, ...] = (None, 300)
    seeds: int = 5
    first_seed: int = 0
    skip: tuple[str, ...] = ()
    output: str = field(
        default_factory=lambda: f"evaluations/{datetime.datetime.now():%Y%m%d-%H%M%S}"
    )
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        for name in ("tasks", "holdouts", "probes", "budgets"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; name at least one")
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}; give 1 or more")
        if few := [budget for budget in self.budgets if budget is not None and budget < 10]:
            raise ValueError(
                f"a budget of {few[0]} labels is too small for a probe; give 10 or more"
            )


def _development() -> tuple[str, ...]:
    from raytrain.evaluation.cards import DEVELOPMENT

    return DEVELOPMENT


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m raytrain.evaluate",
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=(__doc__ or "").rpartition("\n\n")[2],
    )
    parser.add_argument("--config", metavar="FILE", help="a YAML file of settings")
    parser.add_argument("--dry-run", action="store_true", help="check and print all settings")
    parser.add_argument("words", nargs="*", metavar="ENCODER | path=value")
    options = parser.parse_intermixed_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 200)
    try:
        values = load_yaml(options.config) if options.config else {}
        values = apply_overrides(values, [word for word in options.words if "=" in word])
        encoders = [word for word in options.words if "=" not in word]
        values["encoders"] = [*values.get("encoders", ()), *encoders]
        config = build(EvaluateConfig, values)
        if options.dry_run:
            console.print(dump_yaml(to_dict(config)), highlight=False, markup=False)
        else:
            command = shlex.join(
                ["python", "-m", "raytrain.evaluate", *(arguments or sys.argv[1:])]
            )
            evaluate(config, console, str(redacted(command)))
        return 0
    except UserError as error:
        message = f"[bold red]error:[/bold red] {escape(str(error))}"
        console.print(message, highlight=False, soft_wrap=True)
        return 2


def evaluate(
    config: EvaluateConfig, console: Console, command: str = "", over_ray: bool = False
) -> dict[str, Any]:
    """Score, print the tables, and keep page, scores.json and Parquet in `config.output`. Returns
    what scores.json holds. `over_ray` takes the Ray that runs; so does a job on a cluster."""
    from raytrain import __version__, storage
    from raytrain.evaluation import cards, report, roster
    from raytrain.evaluation.record import long_table, record
    from raytrain.evaluation.scoring import score

    labelled = cards.load_labels(config.tasks, config.root, config.tables)
    rows = roster.roster(config.encoders, config.skip)
    task_cards = [item.card for item in labelled]
    leaks = {row.name: cards.leaks(row.modalities, task_cards) for row in rows}
    families = roster.families(rows, flat(to_dict(RunConfig())))
    for item in labelled:
        for note in item.notes:
            console.print(f"{item.task.name}: {note}", highlight=False)

    tables = score(
        rows,
        [item.task for item in labelled],
        holdouts=config.holdouts,
        probe_names=config.probes,
        budgets=config.budgets,
        seeds=config.seeds,
        first_seed=config.first_seed,
        leaks={name: tasks for name, tasks in leaks.items() if tasks},
        each=each_here_or_on_cluster(console, over_ray),
    )
    names = {family: [row.name for row in members] for family, members in families.items()}
    pooled = [table.pooled(names) for table in tables]
    content = {
        "raytrain": __version__,
        "command": command,
        "created": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        **record(families, labelled, tables, pooled, config.skip),
        "settings": redacted(to_dict(config)),
    }
    for table in pooled:
        console.print(table.text(), soft_wrap=True, highlight=False, markup=False)
        console.print()
    for line in verdicts(content):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for name, members in families.items():
        if members[0].taught:
            said = f"{name} was {members[0].taught}"
            console.print(said, highlight=False, markup=False, soft_wrap=True)
    page = report.page(content, pictures(families, labelled, pooled[0]))
    parquet = io.BytesIO()
    long_table(tables).to_parquet(parquet)
    files = {
        "report.html": page.encode(),
        "scores.json": json.dumps(content, indent=1, allow_nan=True).encode(),
        "scores.parquet": parquet.getvalue(),
    }
    for name, stored in files.items():
        storage.write(f"{config.output}/{name}", stored)
    run_id = keep_in_mlflow(config, content, files, console)
    console.print(f"page     {config.output}/report.html", highlight=False, soft_wrap=True)
    console.print(f"scores   {config.output}/scores.json, scores.parquet", soft_wrap=True)
    if run_id:
        console.print(f"mlflow   {redacted(config.tracking.uri)}, run {run_id}", soft_wrap=True)
    return content


def each_here_or_on_cluster(console: Console, over_ray: bool) -> Callable[..., Iterator[Any]]:
    """What scores the cells of the tables: this process, or the Ray cluster that RAY_ADDRESS names,
    as it does in a job."""
    spread: Callable[..., Iterator[Any]] = map
    if over_ray or os.environ.get("RAY_ADDRESS", "local") != "local":
        from raytrain.evaluation.remote import over_cluster
        from raytrain.training.config import ScalingConfig
        from raytrain.training.launch import connect

        connect(ScalingConfig())
        spread = over_cluster

    def each(function: Callable[[Any], Any], cells: Iterable[Any]) -> Iterator[Any]:
        cells = list(cells)
        done = spread(function, cells)
        yield from track(done, "scoring", len(cells), console=console, transient=True)

    return each


def verdicts(content: dict[str, Any]) -> Iterator[str]:
    """A line for each encoder and label budget: what it is better, worse and no different than."""
    from raytrain.evaluation.pages import outcome

    table = content["tables"][0]
    pairs = table["comparisons"]
    for budget in table["budgets"]:
        for a in dict.fromkeys(pair["a"] for pair in pairs):
            mine = [pair for pair in pairs if pair["a"] == a and pair["budget"] == budget]
            said = []
            for word in ("better", "no difference", "worse"):
                others = [pair["b"] for pair in mine if outcome(pair) == word]
                than = "from" if word == "no difference" else "than"
                if others:
                    said.append(f"{word} {than} {', '.join(others)}")
            yield f"{a}, {budget}: {'; '.join(said)}"


def pictures(families: Any, labelled: Any, table: Any) -> dict[str, bytes]:
    """PNGs of the page: world maps of embeddings, and of each task's errors."""
    from raytrain.data.sources.land import land_mask
    from raytrain.evaluation.roster import GEOCLIP, UNTRAINED
    from raytrain.maps import world

    land, images = land_mask(), {}
    for name, (first, *_) in families.items():
        if first.encode is not None and (first.kind == "encoder" or name in (GEOCLIP, UNTRAINED)):
            picture = world.world_map(first.encode, land=land, title=name, width=1000)
            images[f"embedding/{name}"] = world.png(picture, 128)
    drawn = [name for name, (first, *_) in families.items() if first.kind == "encoder"]
    drawn = [*(n for n in ("inverse distance", GEOCLIP) if n in families), *drawn][:MAPS]
    for item in labelled:
        task = item.task
        errors = {name: table.errors[name, task.name] for name in drawn}
        most = world.most_error(errors.values())
        for name, error in errors.items():
            title = f"{task.name.replace('_', ' ')}: {name}"
            unit = item.card.units if task.classes is None else "share of wrong answers"
            picture = world.error_map(task.lonlat_deg, error, most, unit, land=land, title=title)
            images[f"error/{task.name}/{name}"] = world.png(picture, 32)
    return images


def keep_in_mlflow(
    config: EvaluateConfig, content: dict[str, Any], files: dict[str, bytes], console: Console
) -> str | None:
    """Means of every row, and the files, as one run of MLflow; its id."""
    from raytrain.training.tracking import Tracker

    def warn(problem: str) -> None:
        console.print(f"[yellow]{escape(problem)}[/yellow]", highlight=False, soft_wrap=True)

    name = config.output.rstrip("/").rpartition("/")[2]
    tracker = Tracker(config.tracking, config.output, name, to_dict(config), warn)
    scores = content["tables"][0]["scores"]
    metrics = {
        f"{task}/{budget}/{row}": cell["mean"]
        for row, budgets in scores.items()
        for budget, cells in budgets.items()
        for task, cell in cells.items()
    }
    tracker.log({"step": 0, **metrics})
    for path, stored in files.items():
        tracker.artifact(path, stored)
    tracker.finish("FINISHED")
    return tracker.run_id


if __name__ == "__main__":
    sys.exit(main())
