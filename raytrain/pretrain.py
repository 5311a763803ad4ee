"""`python -m raytrain.pretrain`: pretrain a location encoder against several unpaired modalities.

python -m raytrain.pretrain                                  MELT on earth-mini, on a laptop
python -m raytrain.pretrain method.kind=salt optim.lr=1e-3   any setting by its path
python -m raytrain.pretrain --config paper name=paper        a recipe by name, or a YAML file
"""

import argparse
import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from raytrain.errors import UserError
from raytrain.settings import apply_overrides, build, dump_yaml, to_dict
from raytrain.training.config import RunConfig, load_recipe, new_run_name

if TYPE_CHECKING:
    from raytrain.data.cards import Card
    from raytrain.evaluation.tasks import Task
    from raytrain.training.job import Job
    from raytrain.training.tracking import Tracker


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0 when the run is complete, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m raytrain.pretrain", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--config", metavar="FILE", help="a recipe by name, or a YAML file")
    parser.add_argument("--dry-run", action="store_true", help="check and print all settings")
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="settings by their path")
    options = parser.parse_intermixed_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140, soft_wrap=False)
    try:
        config = read_config(options.config, options.overrides)
        if options.dry_run:
            console.print(dump_yaml(to_dict(config)), highlight=False, markup=False)
            return 0
        try:
            return pretrain(config, console)
        except KeyboardInterrupt:  # twice, or while nothing was being trained
            console.print(
                "Stopped at once. The same command with "
                f"name={config.name} goes on from the run's last checkpoint, if it has one"
            )
            return 130
    except UserError as error:
        message = f"[bold red]error:[/bold red] {escape(str(error))}"
        console.print(message, highlight=False, soft_wrap=True)
        return 2


def read_config(file: str | None, overrides: list[str]) -> RunConfig:
    """Defaults, then the file, then the overrides; a name for a run that has none."""
    values = load_recipe(file) if file else {}
    config = build(RunConfig, apply_overrides(values, overrides))
    return config if config.name else replace(config, name=new_run_name(config))


def pretrain(config: RunConfig, console: Console) -> int:
    """Run, or go on with, the pretraining that `config` describes, and sum it up."""
    # Heavy imports wait until the settings are known to be good.
    from raytrain.training import checkpoint, launch
    from raytrain.training.evaluator import Evaluator, clean_tasks
    from raytrain.training.job import chosen_cards, make_job
    from raytrain.training.progress import Display
    from raytrain.training.tracking import Tracker

    assert config.name is not None

    def warn(problem: str) -> None:
        console.print(f"[yellow]{escape(problem)}[/yellow]", highlight=False, soft_wrap=True)

    cards = chosen_cards(config)
    labelled, leaked = clean_tasks(config.evaluate, list(cards.values()))
    urls, workers, use_gpu = _ready(config, cards, console)
    job = make_job(config, urls, cards, workers)
    start = checkpoint.resume_point(job.run_url, job.resolved, config.overwrite, warn)
    steps, first = job.total_steps(), start.step if start else 0
    if first >= steps:
        console.print(f"{job.run_url} is complete: {first} steps. For more, raise training.steps")
        return 0
    console.print(_announcement(job, first, steps, use_gpu), highlight=False)

    for name in leaked:
        console.print(f"{name} is left out of the probes: a modality of this run holds its labels")
    evaluator = Evaluator(config.evaluate, labelled, job.run_url, job.resolved)
    tracker = Tracker(config.tracking, job.run_url, config.name, job.resolved, warn)
    status = "FAILED"
    try:
        with Display(console, steps, first) as display:

            def on_records(records: list[dict[str, Any]]) -> None:
                for record in records:
                    if weights := record.pop("encoder", None):
                        evaluator.submit(record["step"], config.location.build(), weights)
                        continue
                    if "checkpoint" in record:
                        tracker.metrics.keep()
                        continue
                    display.show(record)
                    if "step" in record:
                        tracker.log(record)

            def on_news(records: list[dict[str, Any]]) -> None:
                on_records([*records, *evaluator.take()])

            outcome = launch.launch(job, use_gpu, on_news)
            on_records(evaluator.take(wait=True))
        if outcome["step"] < steps:
            status = "KILLED"
            console.print(
                f"Stopped after step {outcome['step']} of {steps}; its checkpoint is in "
                f"{job.run_url}. Go on with the same command and name={config.name}",
                highlight=False,
                soft_wrap=True,
            )
            return 130
        tasks = [item.task for item in labelled]
        sum_up(console, job, tasks, outcome["validation"], display.skipped, tracker)
        status = "FINISHED"
        return 0
    finally:
        tracker.finish(status)


def _ready(
    config: RunConfig, cards: "dict[str, Card]", console: Console
) -> tuple[dict[str, str], int, bool]:
    """Start Ray or attach to it, and make on first use what can be made; the URLs of the shards,
    the number of workers, and whether they have GPUs."""
    from raytrain.data import preparation
    from raytrain.data.cards import MINI
    from raytrain.training import launch

    with ThreadPoolExecutor(1) as background:  # first-time shards are made while Ray starts
        making = background.submit(preparation.raw_ready, cards.values(), config.data.root)
        if wait([making], timeout=1).done:
            making.result()  # bad data ends here
        elif config.data.root == MINI:
            console.print(f"making the shards of {MINI}, once")
        say = console.print if launch.connect(config.scaling) else None
        making.result()
    workers, use_gpu = launch.choose_workers(config.scaling, say)
    if any(card.features for card in cards.values()):
        from raytrain.bulk.missing import make_missing

        make_missing(cards.values(), config.data.root, use_gpu, console)
    urls = {name: card.observed_url(config.data.root) for name, card in cards.items()}
    return urls, workers, use_gpu


def _announcement(job: "Job", first: int, steps: int, use_gpu: bool) -> str:
    places = ", ".join(f"{name} {s.samples:,}" for name, s in job.streams.items())
    device = "GPU" if use_gpu else "CPU"
    begin = f"goes on from step {first}" if first else "starts"
    return (
        f"[bold]{job.config.name}[/bold] {begin}: {job.config.method.kind}, {steps} steps, "
        f"{job.workers} worker{'s' * (job.workers > 1)} on {device}; training places: {places}"
    )


def sum_up(
    console: Console,
    job: "Job",
    tasks: "list[Task]",
    validation: dict[str, Any],
    skipped: dict[str, dict[str, int]],
    tracker: "Tracker",
) -> None:
    """Print the summary of a complete run; keep map and probes with it."""
    import raytrain
    from raytrain import storage
    from raytrain.data.sources.land import land_mask
    from raytrain.encoders.pretrained import PlaceEncoder
    from raytrain.evaluation.development import development_probes, verdict
    from raytrain.maps.world import world_map
    from raytrain.training import summary

    encoder = raytrain.load(job.run_url)
    untrained = PlaceEncoder(job.build_model().location, job.resolved)
    console.print(summary.retrieval_table(validation, tuple(job.streams)))
    seeds = job.config.evaluate.seeds
    if tasks:
        scores = development_probes(encoder.encode, untrained.encode, tasks, seeds=seeds)
        console.print(summary.probe_table(scores))
        if (warning := verdict(scores)) is not None:
            console.print(f"[bold yellow]warning:[/bold yellow] {warning}", highlight=False)
        probes = json.dumps(scores.to_dict(), indent=1).encode()
        storage.write(f"{job.run_url}/probes.json", probes)
        tracker.artifact("probes.json", probes)
    summary.say_skipped(console, skipped)
    png = io.BytesIO()
    name = str(job.config.name)
    picture = world_map(encoder.encode, land=land_mask(), untrained=untrained.encode, title=name)
    picture.save(png, "PNG")
    storage.write(f"{job.run_url}/map.png", png.getvalue())
    tracker.artifact("map.png", png.getvalue())
    tracker.tag("checkpoint", job.run_url)
    for line in summary.where(job.run_url, job.config.tracking.uri, tracker.run_id):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(main())
