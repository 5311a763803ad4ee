"""What came of a sweep: one record of it, and the files and lines that are made of that."""

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

from raytrain import __version__, storage
from raytrain.evaluation.statistics import outcome
from raytrain.geo import Array
from raytrain.settings import dump_yaml, redacted
from raytrain.training.tracking import Tracker
from raytrain.tuning.display import outcome as ending
from raytrain.tuning.display import words
from raytrain.tuning.page import page
from raytrain.tuning.record import DEFAULT, Trial, best_first, front
from raytrain.tuning.space import Distribution, objective_words, trial_tree, wanted

if TYPE_CHECKING:
    from raytrain.tuning.setup import Checked, Setup

Record = dict[str, Any]

RESULTS = "results.json"
LEAST_FOR_IMPORTANCE = 8
FOREST = 100
REPEATS = 20
SHOWN = 5


def conclude(
    setup: "Setup",
    checked: "Checked",
    trials: Sequence[Trial],
    about: Record,
    tracker: Tracker,
    say: Callable[[str], None],
) -> Trial | None:
    """Keep page, record, table and the best configuration with the sweep and in MLflow; say what
    came of it. Returns the best trial, None where no trial came to its end."""
    content = sweep_record(setup, checked, trials, about)
    table = pd.DataFrame([{**_trial(t), **t.values} for t in trials]).drop(columns="values")
    files = {
        "report.html": page(content).encode(),
        RESULTS: json.dumps(content, indent=1).encode(),
        "trials.csv": table.to_csv(index=False).encode(),
    }
    best = next(iter(best_first(trials)), None)
    if best is not None:
        files["best.yaml"] = best_yaml(setup, best).encode()
    for name, stored in files.items():
        storage.write(f"{setup.url}/{name}", stored)
        tracker.artifact(name, stored)
    for trial in best_first(trials)[:SHOWN]:
        by_default = ", the default" if trial.default else ""
        say(f"trial {trial.number}{by_default}: {trial.score:.3f}  {words(trial.values)}")
    for trial in trials:
        if trial.state == "failed":
            say(f"trial {trial.number} {ending(trial)}: {words(trial.values)}")
    if content["finalists"]:
        say(content["finalists"]["verdict"])
    if best is None:
        say("no trial came to its end; see the errors above")
    else:
        say(f"best     python -m raytrain.pretrain --config {setup.url}/best.yaml")
    say(f"page     {setup.url}/report.html")
    say(f"results  {setup.url}/{RESULTS}, trials.csv; a run a trial in {setup.url}/trials")
    return best


def best_yaml(setup: "Setup", best: Trial) -> str:
    """The best configuration for `pretrain --config`, without what is the sweep's own."""
    tree = trial_tree(setup.base, best.values)
    own = ("name", "storage", "overwrite", "tracking", "scaling", "evaluate", "seed")
    settings = {key: value for key, value in tree.items() if key not in own}
    return (
        f"# Trial {best.number} of {setup.config.name}, the best of its sweep: {best.score:.3f} "
        f"after {best.steps} steps.\n{dump_yaml(settings)}"
    )


def sweep_record(
    setup: "Setup", checked: "Checked", trials: Sequence[Trial], about: Record
) -> Record:
    """Everything about a sweep, for JSON; `about` has its command, seconds, data and finalists."""
    sweep, evaluate = setup.sweep, setup.config.evaluate
    tasks = [task.name for task in checked.tasks]
    best = best_first(trials)
    default = [trial.number for trial in trials if trial.default]
    scheduler = "none"
    if sweep.scheduler.kind != "none":
        scheduler = (
            f"asynchronous successive halving, factor {sweep.scheduler.factor:g}, first decision "
            f"after {evaluate.every} steps"
        )
    return {
        "name": setup.name,
        "about": sweep.about,
        "created": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "raytrain": __version__,
        "settings": setup.resolved,
        "paths": [_path(path, d) for path, d in sweep.space.items()],
        "objective": {
            "name": "mean probe score" if sweep.maximize == "probes" else "held-out retrieval",
            "unit_note": objective_words(sweep, tasks, evaluate.seeds),
            "tasks": tasks,
            "splits": evaluate.seeds,
            "minimize": [*sweep.minimize],
            "left_out": [*checked.leaked],
        },
        "scheduler": scheduler,
        "trials": [_trial(trial) for trial in trials],
        "best": best[0].number if best else None,
        "default": default[0] if default else None,
        "pareto": {"parameters": front(trials, "parameters"), "seconds": front(trials, "seconds")},
        "importance": importance(sweep.space, trials),
        **redacted(about),
    }


def importance(space: Mapping[str, Distribution], trials: Sequence[Trial]) -> Record | None:
    """How much the score depends on each setting: by how much the explained variance of a random
    forest falls when the setting's values are exchanged between the trials in which it varied
    (permutation importance, Breiman 2001). It looks at the first score of every trial, after
    equally many steps, so that trials that were stopped count. None with too few trials.
    """
    scored = [trial for trial in trials if trial.curve and trial.state != "failed"]
    steps = {trial.curve[0][0] for trial in scored}
    if len(scored) < LEAST_FOR_IMPORTANCE or len(steps) != 1:
        return None
    groups = {path: _columns(path, d, scored) for path, d in space.items()}
    ends = np.cumsum([columns.shape[1] for columns in groups.values()])
    x, y = np.hstack([*groups.values()]), np.array([trial.curve[0][1] for trial in scored])
    forest = RandomForestRegressor(FOREST, random_state=0).fit(x, y)
    rng, explained = np.random.default_rng(0), forest.score(x, y)
    found = []
    for (path, columns), end in zip(groups.items(), ends, strict=True):
        varied = np.flatnonzero([path in trial.values for trial in scored])
        falls = []
        for _ in range(REPEATS):
            exchanged = x.copy()
            exchanged[varied, end - columns.shape[1] : end] = columns[rng.permutation(varied)]
            falls.append(explained - forest.score(exchanged, y))
        found.append({"path": path, "mean": float(np.mean(falls)), "std": float(np.std(falls))})
    return {
        "note": (
            f"permutation importance of a random forest for the score of {len(scored)} trials "
            f"after {steps.pop()} steps"
        ),
        "paths": sorted(found, key=lambda entry: -float(entry["mean"])),
    }


def finalists_record(evaluation: Record, trials: Mapping[str, Trial], page: str) -> Record:
    """What scores.json of the finalists' evaluation says; `trials` are the finalists' first runs by
    the finalist's name, which their runs' names begin with."""
    table, rows, names = evaluation["tables"][0], [], dict[str, str]()
    for row in evaluation["rows"]:
        name = row["members"][0].rpartition("-")[0] if row["kind"] == "encoder" else row["name"]
        names[row["name"]] = name
        cells = {budget: cell["mean"] for budget, cell in table["scores"][row["name"]].items()}
        about: Record = {}
        if row["kind"] == "encoder":  # every training seed counts, not every split
            for budget, means in row["member_means"].items():
                cells[budget] = {**cells[budget], "seeds": means}
            about = {key: getattr(trials[name], key) for key in ("values", "parameters", "seconds")}
        rows.append({"name": name, "kind": row["kind"], "scores": cells, **about})
    pairs = [
        {**pair, "a": names[pair["a"]], "b": names[pair["b"]]}
        for pair in table["comparisons"]
        if names[pair["a"]] in trials and names[pair["b"]] in trials
        if [*names].index(pair["a"]) < [*names].index(pair["b"])  # the default is the last
    ]
    return {
        "tasks": [task["name"] for task in evaluation["tasks"]],
        "seeds": max(len(row["members"]) for row in evaluation["rows"]),
        "budgets": table["budgets"],
        "steps": max((trial.steps for trial in trials.values()), default=0),
        "rows": rows,
        "comparisons": pairs,
        "verdict": verdict(pairs),
        "page": page,
    }


def verdict(pairs: Sequence[Record]) -> str:
    """What the comparisons with the default say, in words."""
    said = []
    for pair in pairs:
        word = outcome(pair["difference"], pair["p"])
        is_what = "shows no difference from" if word == "no difference" else f"is {word} than"
        if pair["b"] == DEFAULT:
            figures = f"{pair['difference']:+.3f}, p {pair['p']:.2g}"
            said.append(f"{pair['a']} {is_what} the default with {pair['budget']} ({figures})")
    return "; ".join(said)


def _path(path: str, distribution: Distribution) -> Record:
    return {
        "path": path,
        "kind": "choice" if distribution.values else "number",
        "log": distribution.loguniform is not None,
        "values": [*(distribution.values or distribution.bounds[:2])],
        "when": {other: wanted(condition) for other, condition in distribution.when.items()},
    }


def _trial(trial: Trial) -> Record:
    return {
        **{
            key: getattr(trial, key)
            for key in (
                "number", "state", "values", "score", "curve", "steps", "steps_wanted", "seconds",
                "began_s", "told_s", "parameters", "dim", "error", "attempts", "default", "skipped",
            )
        },
        "seeds": trial.seed_scores,
    }  # fmt: skip


def _columns(path: str, distribution: Distribution, trials: Sequence[Trial]) -> Array:
    """A setting as numbers [trial, column], of a choice a column for every value. Where it did not
    vary it is 0 or, among numbers, their median."""
    known = [trial.values.get(path) for trial in trials]
    varied = np.array([path in trial.values for trial in trials])
    if distribution.values:
        chosen = np.array([[float(v == value) for value in distribution.values] for v in known])
        return np.where(varied[:, None], chosen, 0.0)
    numbers = np.array([v if there else np.nan for v, there in zip(known, varied, strict=True)])
    numbers = np.log(numbers) if distribution.loguniform else numbers.astype(np.float64)
    middle = np.nanmedian(numbers) if varied.any() else 0.0
    return np.where(varied, numbers, middle)[:, None]
