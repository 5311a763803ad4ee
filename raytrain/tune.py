"""`python -m raytrain.tune --space NAME`: sweep settings of pretraining, by Ray Tune.

python -m raytrain.tune --space location_encoder                    which location encoder?
python -m raytrain.tune --space objective data.root=earth --trials 40
python -m raytrain.tune --space my.yaml tune.search.kind=random --time-budget 30m

path=value changes what all runs have in common, tune.path=value the sweep itself. The same command
goes on where it was stopped or killed.
"""

import argparse
import re
import shlex
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from raytrain.errors import UserError
from raytrain.settings import SettingsError, Tree, dump_yaml, flat, redacted, to_dict

if TYPE_CHECKING:
    from raytrain.training.tracking import Tracker
    from raytrain.tuning.record import Trial
    from raytrain.tuning.setup import Setup
    from raytrain.tuning.trial import Plan


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0 when the sweep is complete, 2 for bad input, 130 when
    it was interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m raytrain.tune",
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=(__doc__ or "").rpartition("\n\n")[2],
    )
    parser.add_argument("--space", required=True, metavar="NAME", help="a space, or a YAML file")
    parser.add_argument("--trials", type=int, help="how many in all (tune.trials)")
    parser.add_argument("--time-budget", metavar="30m", help="no new trial after so long")
    parser.add_argument("--max-concurrent", type=int, help="trials side by side, at most")
    parser.add_argument("--dry-run", action="store_true", help="check and print all settings")
    parser.add_argument("overrides", nargs="*", metavar="path=value")
    options = parser.parse_intermixed_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    command = shlex.join(["python", "-m", "raytrain.tune", *(arguments or sys.argv[1:])])
    try:
        from raytrain.tuning.setup import check, read_setup

        changes = {
            "trials": options.trials,
            "minutes": minutes(options.time_budget),
            "max_concurrent": options.max_concurrent,
        }
        given = {key: value for key, value in changes.items() if value is not None}
        setup = read_setup(options.space, given, options.overrides)
        if options.dry_run:
            check(setup)
            console.print(dump_yaml(setup.resolved), highlight=False, markup=False)
            return 0
        return tune(setup, console, str(redacted(command)))
    except UserError as error:
        message = f"[bold red]error:[/bold red] {escape(str(error))}"
        console.print(message, highlight=False, soft_wrap=True)
        return 2


def minutes(text: str | None) -> float | None:
    """Of `90s`, `30m`, `2h`, or a number of minutes."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found:
        raise SettingsError(f"--time-budget {text}: write 90s, 30m or 2h")
    return float(found[1]) * {"s": 1 / 60, "m": 1.0, "": 1.0, "h": 60.0}[found[2]]


def tune(setup: "Setup", console: Console, command: str) -> int:
    """Run, or go on with, a sweep; then its finalists, and say what came of it."""
    from raytrain.data.kept import keep
    from raytrain.training import launch
    from raytrain.training.tracking import Tracker
    from raytrain.tuning.results import RESULTS, conclude
    from raytrain.tuning.setup import check, is_complete, open_sweep
    from raytrain.tuning.trial import Plan

    def say(line: str, style: str = "") -> None:
        console.print(escape(line), highlight=False, soft_wrap=True, style=style)

    with console.status("checking every value of the space, and the data"):
        checked = check(setup)
    for name in checked.leaked:
        say(f"{name} is left out of the score: a modality of the sweep holds its labels")
    if open_sweep(setup) and is_complete(setup, RESULTS):
        say(f"{setup.url} is complete. For more, raise --trials or --time-budget")
        return 0
    scaling = replace(setup.config.scaling, workers=setup.config.scaling.workers or 1)
    on_cluster = launch.connect(scaling)
    _, gpu = launch.choose_workers(scaling, say if on_cluster else None)
    sharing = keep(checked.streams.values())
    say(f"data: {sharing.words}")
    plan = Plan(
        base=setup.base,
        sweep=setup.sweep,
        scaling=scaling,
        folder=f"{setup.url}/trials",
        tasks=checked.tasks,
        kept=sharing.kept,
        gpu=gpu,
    )
    name, warn = str(setup.config.name), lambda problem: say(problem, "yellow")
    tracker = Tracker(setup.config.tracking, setup.url, name, setup.resolved, warn)
    status, began = "FAILED", time.monotonic()
    try:
        trials, complete = search(setup, plan, tracker, console)
        seconds = time.monotonic() - began
        finalists: Tree | None = None
        if complete and setup.sweep.finalists.count:
            finalists, complete = compare(setup, plan, trials, tracker, console)
        if not complete:
            status = "KILLED"
            say(f"Stopped. The same command goes on; what there is lies in {setup.url}")
            return 130
        data = {"bytes": sharing.bytes_read, "note": sharing.words}
        about = {"command": command, "seconds": seconds, "data": data, "finalists": finalists}
        best = conclude(setup, checked, trials, about, tracker, say)
        status = "FINISHED" if best else "FAILED"
        return 0 if best else 1
    finally:
        tracker.finish(status)


def search(
    setup: "Setup", plan: "Plan", tracker: "Tracker", console: Console
) -> "tuple[list[Trial], bool]":
    """All trials, and whether the search came to its end."""
    from raytrain.tuning import sweep
    from raytrain.tuning.display import Board
    from raytrain.tuning.ledger import Ledger
    from raytrain.tuning.proposals import Proposals, default_values
    from raytrain.tuning.record import load_trials
    from raytrain.tuning.space import objective_words

    earlier = load_trials(plan.folder)
    default = default_values(setup.sweep.space, flat(to_dict(setup.config)))
    proposals = Proposals(setup.sweep, plan.folder, setup.config.seed, earlier, default)
    at_once, wanted, name = sweep.at_once(plan), setup.sweep.most_trials, str(setup.config.name)
    judged_by = objective_words(
        setup.sweep, [task.name for task in plan.tasks], setup.config.evaluate.seeds
    )
    console.print(
        f"[bold]{name}[/bold] {'goes on' if earlier else 'starts'}: {wanted} trials, {at_once} at "
        f"a time, judged by {judged_by}",
        highlight=False,
        soft_wrap=True,
    )
    with Board(console, name, earlier, wanted) as board:
        ledger = Ledger(tracker, board)
        ledger.go_on(earlier)
        judge = sweep.scheduler(setup.sweep, setup.config.evaluate.every or 1, earlier)
        complete = sweep.run(plan, proposals, at_once, ledger, judge)
        ledger.close()
    return sorted(board.trials.values(), key=lambda trial: trial.number), complete


def compare(
    setup: "Setup", plan: "Plan", trials: "list[Trial]", tracker: "Tracker", console: Console
) -> tuple[Tree | None, bool]:
    """The best trials beside the default, on tasks and with seeds that the search did not use: the
    record for the page, and whether this came to its end."""
    from raytrain.evaluate import EvaluateConfig, evaluate
    from raytrain.tuning import sweep
    from raytrain.tuning.display import Board
    from raytrain.tuning.ledger import Ledger
    from raytrain.tuning.proposals import Queue
    from raytrain.tuning.record import finalists, load_trials
    from raytrain.tuning.results import finalists_record
    from raytrain.tuning.space import new_tasks

    wanted, chosen = setup.sweep.finalists, finalists(setup.sweep, trials, setup.config.seed)
    if not chosen:
        return None, True
    plan = replace(plan, folder=f"{setup.url}/finalists")
    runs = [replace(trial, folder=plan.folder) for each in chosen.values() for trial in each]
    earlier = {t.name: t for t in load_trials(plan.folder) if t.state != "running"}
    waiting = [run for run in runs if run.name not in earlier]
    console.print(
        f"[bold]finalists[/bold]: {', '.join(chosen)}, with {wanted.seeds} seeds that the search "
        "did not use",
        highlight=False,
    )
    with Board(console, "finalists", earlier.values(), len(runs)) as board:
        ledger = Ledger(tracker, board)
        complete = sweep.run(plan, Queue(waiting), sweep.at_once(plan), ledger)
        ledger.close()
    if not complete:
        return None, False
    done = board.trials
    finished = [done[run.name].url for run in runs if done[run.name].state == "finished"]
    output = f"{setup.url}/evaluation"
    config = EvaluateConfig(
        encoders=tuple(finished),
        tasks=new_tasks(setup.sweep, setup.config.evaluate.names),
        root=wanted.root,
        skip=wanted.skip,
        output=output,
        tracking=replace(setup.config.tracking, uri=None),
    )
    firsts = {name: done[each[0].name] for name, each in chosen.items()}
    return finalists_record(
        evaluate(config, console, over_ray=True), firsts, "evaluation/report.html"
    ), True


if __name__ == "__main__":
    sys.exit(main())
