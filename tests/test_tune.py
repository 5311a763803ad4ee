"""Sweeps, by the command in a process of its own, on the tiny world."""

import json
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

import raytrain
from raytrain.tune import main

pytestmark = pytest.mark.slow

TRIAL = "ImplicitFunc"  # the title of processes in which trials train
SPACE = {
    "about": "Which of these?",
    "settings": {"evaluate.every": 2},
    "space": {
        "location.network.width": {"choice": [8, 16, 24, 32]},
        "optim.lr": {"loguniform": [1e-3, 1e-2]},  # the default is not among these
    },
    "search": {"kind": "random"},
    "trials": 6,
    "finalists": {
        "count": 1,
        "seeds": 2,
        "tasks": ["koppen"],
        "skip": ["geoclip", "unit xyz", "random Fourier", "untrained harmonics", "random fields"],
    },
}


def arguments(world: Any, space: dict[str, Any], *overrides: str) -> list[str]:
    """Of a sweep over runs of six steps, with MLflow in the world's folder."""
    (world.folder / "space.yaml").write_text(yaml.safe_dump(space))
    settings = world.arguments("sweep", *overrides)
    own = [s for s in settings if s not in ("tracking.uri=null", "scaling.workers=1")]
    uri = f"tracking.uri=sqlite:///{world.folder}/mlflow.db"
    return ["--space", str(world.folder / "space.yaml"), *own, uri]


def trials(world: Any, folder: str = "trials") -> list[dict[str, Any]]:
    """The records of all trials, by number."""
    files = (Path(world.storage) / "sweep" / folder).glob("*/tune/trial.json")
    found = [json.loads(file.read_text()) for file in files]
    return sorted(found, key=lambda trial: (trial["number"], trial["name"]))


def results(world: Any) -> dict[str, Any]:
    content = (Path(world.storage) / "sweep" / "results.json").read_text()
    found: dict[str, Any] = json.loads(content)
    return found


def in_mlflow(world: Any) -> dict[str, list[str]]:
    """States of MLflow's runs: of the sweep, and of its children."""
    with sqlite3.connect(world.folder / "mlflow.db") as database:
        rows = database.execute(
            "select r.run_uuid, r.status, t.value from runs r left join tags t "
            "on t.run_uuid = r.run_uuid and t.key = 'mlflow.parentRunId'"
        ).fetchall()
    (parent,) = (run for run, _, above in rows if above is None)
    assert {above for _, _, above in rows} <= {None, parent}
    return {
        "sweep": [status for _, status, above in rows if above is None],
        "trials": [status for _, status, above in rows if above is not None],
    }


def test_a_sweep_from_its_start_to_its_page(module_world: Any) -> None:
    world = module_world
    status, said = world.run(arguments(world, SPACE), "tune")
    assert status == 0, said
    made = trials(world)
    assert [trial["number"] for trial in made] == [*range(6)]
    assert {trial["state"] for trial in made} <= {"finished", "stopped"}
    assert any(trial["state"] == "stopped" for trial in made)
    for trial in made:
        assert [step for step, _ in trial["curve"]] == [2, 4, 6][: len(trial["curve"])]
        assert (trial["steps"] == 6) == (trial["state"] == "finished")
        assert trial["score"] == trial["curve"][-1][1]

    content = results(world)
    finished = [trial for trial in made if trial["state"] == "finished"]
    best = max(finished, key=lambda trial: trial["score"])
    assert content["best"] == best["number"]
    assert content["data"]["bytes"] > 0
    assert f"trial {best['number']}: {best['score']:.3f}" in said

    # The best is a run like any other, and its settings are a recipe.
    folder = Path(world.storage) / "sweep"
    width = best["values"]["location.network.width"]
    encoder = raytrain.load(f"{folder}/trials/{best['name']}")
    assert encoder.config["location"]["network"]["width"] == width
    recipe = yaml.safe_load((folder / "best.yaml").read_text())
    assert recipe["location"]["network"]["width"] == width
    assert "storage" not in recipe

    # Finalists: the best beside the default, with fresh seeds, on other tasks.
    finalists = content["finalists"]
    assert finalists["tasks"] == ["koppen"]
    assert {t["seeds"][0] for t in trials(world, "finalists")} == {1, 2}
    names = {row["name"] for row in finalists["rows"] if row["kind"] == "encoder"}
    assert names == {f"trial-{best['number']}", "default"}
    assert "the default with 300 labels" in finalists["verdict"]
    assert "the default with 300 labels" in said

    page = (folder / "report.html").read_text()
    assert "Which of these?" in page
    assert (folder / "trials.csv").read_text().count("\n") == 7
    assert in_mlflow(world) == {"sweep": ["FINISHED"], "trials": ["FINISHED"] * 10}
    assert "Traceback" not in said


def test_a_sweep_that_is_complete_does_nothing_again(module_world: Any) -> None:
    world = module_world
    before = {file: file.stat().st_mtime_ns for file in Path(world.storage).rglob("*.safetensors")}
    assert before
    status, said = world.run(arguments(world, SPACE), "tune")
    assert status == 0, said
    assert "is complete. For more, raise --trials" in said
    files = Path(world.storage).rglob("*.safetensors")
    assert {file: file.stat().st_mtime_ns for file in files} == before
    status, said = world.run(arguments(world, SPACE, "training.batch=16"), "tune")
    assert status == 2
    assert "is a sweep with other settings (training.batch: 32 -> 16)" in said


def test_a_killed_driver_and_an_interrupt_lose_and_repeat_nothing(tiny_world: Any) -> None:
    space = {**SPACE, "scheduler": {"kind": "none"}, "finalists": {"count": 0}, "trials": 6}
    steps = ["training.steps=30", "training.checkpoint_every=5", "evaluate.every=10"]
    command = arguments(tiny_world, space, *steps)

    def ended() -> dict[int, dict[str, Any]]:
        return {t["number"]: t for t in trials(tiny_world) if t["state"] == "finished"}

    kept: dict[int, dict[str, Any]] = {}
    for number, signal_sent in ((2, signal.SIGKILL), (4, signal.SIGINT)):
        run = tiny_world.start(command, "tune")
        run.wait_until(lambda wanted=number: len(ended()) >= wanted, f"{number} trials")
        run.signal(signal_sent)
        status, said = run.finish()
        if signal_sent == signal.SIGINT:
            assert status == 130, said
            assert "Stopped. The same command goes on" in said
            assert "KILLED" in in_mlflow(tiny_world)["sweep"]
        assert kept.items() <= ended().items()  # as they were, to the last digit
        kept = ended()
    status, said = tiny_world.run(command, "tune")
    assert status == 0, said
    assert kept.items() <= ended().items()
    assert sorted(ended()) == [*range(6)]
    assert in_mlflow(tiny_world) == {"sweep": ["FINISHED"], "trials": ["FINISHED"] * 6}
    for trial in ended().values():
        lines = Path(trial["folder"], trial["name"], "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines if '"loss"' in line]
        assert steps == [*range(steps[0], 31)]  # the last seconds before a kill may be missing


def test_trials_that_crash_diverge_or_need_too_much_memory(tiny_world: Any) -> None:
    """The others' results are there all the same."""
    space = {
        **SPACE,
        "space": {
            "location.network.width": {"grid": [16, 20_000_000]},
            "optim.lr": {"grid": [1e-3, 1e30]},
        },
        "scheduler": {"kind": "none"},
        "search": {"kind": "grid"},
        "trials": None,
        "finalists": {"count": 0},
    }
    run = tiny_world.start(arguments(tiny_world, space, "tune.max_concurrent=1"), "tune")
    run.wait_until(lambda: bool(trials(tiny_world) and run.workers(TRIAL)), "a trial")
    run.workers(TRIAL)[0].kill()
    status, said = run.finish()
    assert status == 0, said
    first, diverged, *large = trials(tiny_world)
    assert (first["state"], first["attempts"]) == ("finished", 2)
    assert diverged["state"] == "failed"
    assert "the loss was nan at step" in diverged["error"]
    for trial in large:
        assert (trial["state"], trial["attempts"]) == ("failed", 2)
        assert "memory" in trial["error"]
    states = in_mlflow(tiny_world)
    assert sorted(states["trials"]) == ["FAILED", "FAILED", "FAILED", "FINISHED"]
    assert f"trial 1 failed ({diverged['error']})" in said
    assert "Traceback" not in said


def test_trials_of_several_workers(tiny_world: Any) -> None:
    """Launched by Ray Train, scored in the same way, and stopped early where they are worse."""
    space = {
        **SPACE,
        "space": {"optim.lr": {"grid": [1e-3, 1e-9]}},
        "search": {"kind": "grid"},
        "trials": None,
        "finalists": {"count": 0},
        "maximize": "retrieval",
        "max_concurrent": 1,
    }
    workers = ["scaling.workers=2", "training.steps=20", "evaluate.every=5"]
    status, said = tiny_world.run(arguments(tiny_world, space, *workers), "tune")
    assert status == 0, said
    good, bad = trials(tiny_world)
    assert (good["state"], good["steps"]) == ("finished", 20)
    assert bad["state"] == "stopped"
    assert 0 < bad["steps"] < 20
    assert good["score"] > bad["score"]
    checkpoint = Path(good["folder"], good["name"], "checkpoint_000020", "state.json")
    for position in json.loads(checkpoint.read_text())["positions"].values():
        assert [workers for workers, _ in position] == [2]


def test_several_seeds_are_one_trial(tiny_world: Any) -> None:
    space = {
        **SPACE,
        "space": {"optim.lr": {"choice": [1e-3]}},
        "trials": 1,
        "seeds": 2,
        "finalists": {"count": 0},
    }
    status, said = tiny_world.run(arguments(tiny_world, space), "tune")
    assert status == 0, said
    (trial,) = trials(tiny_world)
    assert len(trial["seed_scores"]) == 2
    assert trial["score"] == pytest.approx(sum(trial["seed_scores"]) / 2)
    for number, name in enumerate((trial["name"], f"{trial['name']}-1")):
        assert raytrain.load(f"{trial['folder']}/{name}").config["seed"] == number


@pytest.mark.parametrize(
    ("change", "overrides", "message"),
    [
        ({"space": {"optim.lrr": {"choice": [1]}}}, (), "unknown setting `optim.lrr`; did you"),
        ({"space": {"location.dim": {"choice": [0.5]}}}, (), "space.location.dim, 0.5: "),
        (
            {"space": {"optim.lr": {"choice": [1.0], "when": {"optim.schedule": "cosine"}}}},
            (),
            "its condition is on `optim.schedule`, which is not in the space",
        ),
        ({}, ("scaling.cpus_per_worker=64",), "1 workers need 64 CPUs, but the cluster has"),
        ({"space": {"training.batch": {"choice": [5000]}}}, (), "in a trial with training.batch"),
        ({}, ("evaluate.tasks=kopen",), "there is no task `kopen`; did you mean `koppen`?"),
    ],
)
@pytest.mark.usefixtures("local_ray")
def test_bad_input_ends_in_one_line(
    tiny_world: Any,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    overrides: tuple[str, ...],
    message: str,
) -> None:
    own = arguments(tiny_world, {**SPACE, **change})
    assert main([*own, *overrides]) == 2
    said = capsys.readouterr().out
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    assert not trials(tiny_world)


def test_an_unknown_space(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--space", "locaton"]) == 2
    assert "there is no space `locaton`; there are: location_encoder, objective, paper, smoke" in (
        capsys.readouterr().out.replace("\n", " ")
    )
