"""Trials that are proposed: reproducible, never twice, and learned from."""

from typing import Any

import pytest

from raytrain.settings import build
from raytrain.tuning.proposals import Proposals, Queue, default_values
from raytrain.tuning.record import Trial
from raytrain.tuning.space import SweepConfig

SPACE = {
    "kind": {"choice": ["a", "b"]},
    "rate": {"loguniform": [1e-4, 1e-1]},
    "width": {"quniform": [16, 64, 16], "when": {"kind": "b"}},
}
FINISHED = Queue.FINISHED


def sweep(**values: Any) -> SweepConfig:
    return build(SweepConfig, {"space": SPACE, "scheduler": {"kind": "none"}, **values})


def proposals(settings: SweepConfig, *earlier: Trial, default: Any = None) -> Proposals:
    return Proposals(settings, "folder", 0, earlier, default or {})


def drain(proposed: Proposals, score: Any = lambda values: 0.0) -> list[dict[str, Any]]:
    """All trials, each of which ends before the next begins."""
    found = []
    while (given := proposed.suggest(f"id-{len(found)}")) != FINISHED:
        found.append(given["values"])
        result = {"score": score(given["values"]), "parameters": 1, "seconds": 1.0}
        proposed.on_trial_complete(f"id-{len(found) - 1}", result)
    return found


def ended(number: int, values: dict[str, Any], score: float | None = 0.5, **more: Any) -> Trial:
    state = more.pop("state", "finished")
    return Trial(
        folder="folder", name=f"{number:04d}", number=number, values=values, seeds=(0,),
        score=score, state=state, **more,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_values_lie_in_the_space_and_repeat_with_the_seed(kind: str) -> None:
    settings = sweep(search={"kind": kind, "seed": 3}, trials=15)
    found = drain(proposals(settings))
    assert found == drain(proposals(settings))
    assert found != drain(proposals(sweep(search={"kind": kind, "seed": 4}, trials=15)))
    assert len(found) == 15
    for values in found:
        assert 1e-4 <= values["rate"] <= 1e-1
        assert ("width" in values) == (values["kind"] == "b")
        assert values.get("width", 16) in (16, 32, 48, 64)
    assert {values["kind"] for values in found} == {"a", "b"}


def test_tpe_learns_where_scores_are_high() -> None:
    def score(values: dict[str, Any]) -> float:
        return -abs(values["rate"] - 0.05) + (values["kind"] == "b")

    by = {}
    for kind in ("random", "tpe"):
        late = []
        for seed in range(5):
            search = {"kind": kind, "seed": seed, "startup": 8}
            late += drain(proposals(sweep(search=search, trials=30)), score)[15:]
        by[kind] = sum(score(values) > 0.97 for values in late) / len(late)
    assert by["tpe"] > 2 * by["random"]


def test_the_default_comes_first_where_the_space_has_it() -> None:
    default = {"kind": "b", "rate": 0.001, "width": 32}
    first, second, *_ = drain(proposals(sweep(trials=3), default=default))
    assert first == default != second


@pytest.mark.parametrize(
    ("base", "wanted"),
    [
        ({"kind": "a", "rate": 0.01}, {"kind": "a", "rate": 0.01}),
        ({"kind": "b", "rate": 0.01, "width": 48}, {"kind": "b", "rate": 0.01, "width": 48}),
        ({"kind": "b", "rate": 0.01, "width": 8}, {}),
        ({"kind": "c", "rate": 0.01}, {}),
        ({"kind": "a", "rate": None}, {}),
    ],
)
def test_whether_the_default_is_in_the_space(base: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert default_values(sweep().space, base) == wanted


def test_no_trial_comes_twice_and_a_small_space_ends() -> None:
    space = {"kind": {"choice": ["a", "b"]}, "on": {"choice": [True, False]}}
    found = drain(proposals(sweep(space=space, trials=50)))
    assert len(found) == 4 == len({str(values) for values in found})


def test_a_grid_is_tried_whole_and_in_order() -> None:
    space = {"kind": {"choice": ["a", "b"]}, "parts": {"choice": [[1], [1, 2], {"x": 1}]}}
    settings = sweep(space=space, search={"kind": "grid"}, trials=None)
    assert drain(proposals(settings)) == settings.grid
    assert len(settings.grid) == 6


def test_of_a_partial_grid_all_values_are_tried() -> None:
    space = {"kind": {"grid": ["a", "b", "c"]}, "rate": {"uniform": [0, 1]}}
    found = drain(proposals(sweep(space=space, trials=6, search={"kind": "random"})))
    assert [values["kind"] for values in found] == ["a", "b", "c"] * 2
    assert len({values["rate"] for values in found}) == 6


def test_an_earlier_start_is_gone_on_with() -> None:
    """What ended is not given again, what did not end comes first and under its number."""
    earlier = [
        ended(0, {"kind": "a", "rate": 0.01}),
        ended(1, {"kind": "b", "rate": 0.02, "width": 16}, state="running", score=None),
        ended(2, {"kind": "a", "rate": 0.03}, state="failed", score=None),
        ended(3, {"kind": "a", "rate": 0.05}, score=1.0, state="stopped"),
    ]
    proposed = proposals(sweep(trials=6), *earlier)
    found = drain(proposed)
    assert found[0] == earlier[1].values
    assert [trial.number for trial in proposed.given.values()] == [1, 4, 5]
    assert not {str(t.values) for t in earlier if t.number != 1} & {str(v) for v in found}


def test_no_new_trial_after_the_time_budget() -> None:
    proposed = proposals(sweep(trials=6, minutes=1e-9))
    assert proposed.suggest("id") == FINISHED
    assert proposed.exhausted


def test_a_front_of_several_objectives_is_searched() -> None:
    settings = sweep(minimize=["parameters", "seconds"], trials=12)
    proposed = proposals(settings)
    drain(proposed, lambda values: values["rate"])
    assert len(proposed.study.directions) == 3
    assert len(proposed.study.trials) == 12


def test_a_failed_trial_teaches_nothing() -> None:
    proposed = proposals(sweep(trials=2, search={"kind": "tpe"}))
    proposed.suggest("one")
    proposed.on_trial_complete("one", {"failed": "the loss was nan"})
    proposed.suggest("two")
    proposed.on_trial_complete("two", None, error=True)
    assert [trial.state.name for trial in proposed.study.trials] == ["FAIL", "FAIL"]
