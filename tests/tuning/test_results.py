"""What is made of trials: the best, fronts, importance, and records that a sweep goes on from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytrain.settings import build
from raytrain.tuning.record import Trial, best_first, finalists, front, load_trials
from raytrain.tuning.results import finalists_record, importance, verdict
from raytrain.tuning.space import SweepConfig


def trial(number: int, score: float | None = 0.5, **more: Any) -> Trial:
    known = {"values": {}, "seeds": (0,), "state": "finished", **more}
    return Trial(folder="folder", name=f"{number:04d}", number=number, score=score, **known)


def sweep(space: dict[str, Any], **values: Any) -> SweepConfig:
    return build(SweepConfig, {"space": space, **values})


def test_only_trials_that_came_to_their_end_can_be_best() -> None:
    trials = [trial(0, 0.4), trial(1, 0.9, state="stopped"), trial(2, None, state="failed")]
    assert [t.number for t in best_first([*trials, trial(3, 0.6)])] == [3, 0]


def test_the_front_holds_what_nothing_beats() -> None:
    costs = [(0.5, 10), (0.6, 30), (0.55, 40), (0.4, 5), (0.7, 30), (0.3, None)]
    trials = [trial(n, score, parameters=cost) for n, (score, cost) in enumerate(costs)]
    assert front(trials, "parameters") == [3, 0, 4]


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = trial(3, values={"a.b": [1, 2], "c": None}, curve=[(2, 0.1), (4, 0.2)], seeds=(4, 5))
    made.folder = str(tmp_path)
    made.save()
    assert load_trials(str(tmp_path)) == [made]
    assert load_trials(str(tmp_path / "nothing")) == []


def test_what_is_reported_again_after_a_restart_replaces_what_was() -> None:
    made = trial(0, None, state="running")
    for step, score in ((2, 0.1), (4, 0.2), (2, 0.15), (4, 0.25)):
        figures = {"score": score, "first_score": score, "seed_scores": [score], "step": step}
        costs = {"seconds": 1.0, "began_s": 0.0, "parameters": 7, "dim": 3}
        costs |= {"steps_wanted": 4, "skipped": 0}
        made.take(figures | costs)
    assert made.curve == [(2, 0.15), (4, 0.25)]
    assert (made.score, made.steps) == (0.25, 4)


def test_finalists_have_seeds_that_the_search_did_not_use() -> None:
    settings = sweep({"a": {"choice": [1]}}, seeds=2, finalists={"count": 2, "seeds": 3})
    trials = [trial(0, 0.9, default=True), trial(1, 0.8), trial(2, 0.7), trial(3, 0.6)]
    found = finalists(settings, trials, seed=10)
    assert [*found] == ["trial-1", "trial-2", "default"]
    assert [run.seeds for run in found["default"]] == [(12,), (13,), (14,)]
    assert [run.name for run in found["trial-1"]] == ["trial-1-12", "trial-1-13", "trial-1-14"]
    assert finalists(settings, [trial(0, None, state="failed")], seed=0) == {}


def scored(values: dict[str, Any], score: float, number: int) -> Trial:
    return trial(number, score, values=values, curve=[(10, score)], state="stopped")


def test_importance_finds_what_matters() -> None:
    space = {
        "matters": {"choice": ["a", "b", "c"]},
        "rate": {"loguniform": [1e-4, 1e-1]},
        "idle": {"uniform": [0, 1]},
        "sometimes": {"uniform": [0, 1], "when": {"matters": "a"}},
    }
    rng = np.random.default_rng(0)
    trials = []
    for number in range(60):
        matters = str(rng.choice(["a", "b", "c"]))
        rate = 10 ** rng.uniform(-4, -1)
        values = {"matters": matters, "rate": rate, "idle": rng.uniform()}
        values |= {"sometimes": rng.uniform()} if matters == "a" else {}
        score = {"a": 0.2, "b": 0.5, "c": 0.6}[matters] + 0.05 * np.log10(rate)
        trials.append(scored(values, float(score), number))
    found = importance(sweep(space).space, trials)
    assert found is not None
    assert "60 trials after 10 steps" in found["note"]
    by_path = {entry["path"]: entry["mean"] for entry in found["paths"]}
    assert by_path["matters"] > 2 * by_path["rate"] > 0
    assert by_path["rate"] > 3 * max(abs(by_path["idle"]), abs(by_path["sometimes"]))


def test_importance_needs_enough_trials() -> None:
    space = sweep({"rate": {"uniform": [0, 1]}}).space
    trials = [scored({"rate": n / 10}, 0.5, n) for n in range(7)]
    assert importance(space, trials) is None


def evaluation() -> dict[str, Any]:
    """What an evaluation of two finalists and a baseline holds."""

    def row(name: str, kind: str, members: list[str], means: list[float]) -> dict[str, Any]:
        member_means = {"300 labels": means}
        return {"name": name, "kind": kind, "members": members, "member_means": member_means}

    rows = [
        row("label-kNN", "label baseline", ["label-kNN"], [0.4]),
        row("trial-4 (2 seeds)", "encoder", ["trial-4-1", "trial-4-2"], [0.5, 0.6]),
        row("default (2 seeds)", "encoder", ["default-1", "default-2"], [0.4, 0.5]),
    ]
    names = [r["name"] for r in rows]
    cell = {"mean": {"mean": 0.5, "std": 0.1, "seeds": [0.4, 0.6]}}
    pair = {"budget": "300 labels", "difference": 0.1, "low": 0.05, "high": 0.2, "p": 0.01}
    comparisons = [{"a": a, "b": b, **pair} for a in names[1:] for b in names if a != b]
    table = {
        "budgets": ["300 labels"],
        "scores": {name: {"300 labels": cell} for name in names},
        "comparisons": comparisons,
    }
    return {"rows": rows, "tasks": [{"name": "koppen"}], "tables": [table]}


def test_the_record_of_finalists() -> None:
    trials = {name: trial(n, steps=9) for n, name in enumerate(("trial-4", "default"))}
    found = finalists_record(evaluation(), trials, "page.html")
    assert [row["name"] for row in found["rows"]] == ["label-kNN", "trial-4", "default"]
    assert found["rows"][1]["scores"]["300 labels"]["seeds"] == [0.5, 0.6]
    assert {(pair["a"], pair["b"]) for pair in found["comparisons"]} == {
        ("trial-4", "default"),
    }
    assert found["verdict"] == (
        "trial-4 is better than the default with 300 labels (+0.100, p 0.01)"
    )
    assert (found["tasks"], found["seeds"], found["steps"]) == (["koppen"], 2, 9)


@pytest.mark.parametrize(
    ("p", "said"), [(0.2, "shows no difference from"), (0.01, "is worse than")]
)
def test_a_verdict_says_when_there_is_no_difference(p: float, said: str) -> None:
    pair = {"a": "trial-1", "b": "default", "budget": "all labels", "difference": -0.01, "p": p}
    figures = f"(-0.010, p {p:.2g})"
    assert verdict([pair]) == f"trial-1 {said} the default with all labels {figures}"
