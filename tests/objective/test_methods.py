"""Which modalities fill each step."""

from itertools import islice

import pytest

from raytrain.errors import UserError
from raytrain.objective.methods import MethodConfig, Step


def first(config: MethodConfig, samples: dict[str, int], n: int) -> list[Step]:
    return [*islice(config.schedule(samples, dict.fromkeys(samples, 10)), n)]


def test_melt_takes_all_modalities_and_its_epoch_is_a_pass_over_the_longest() -> None:
    steps = first(MethodConfig(kind="melt"), {"a": 20, "b": 21}, 7)
    assert {step.modalities for step in steps} == {("a", "b")}
    assert [step.epoch for step in steps] == [0, 0, 0, 1, 1, 1, 2]


def test_salt_changes_the_modality_at_epoch_boundaries_longest_first() -> None:
    steps = first(MethodConfig(kind="salt"), {"short": 10, "long": 25}, 6)
    assert [step.modalities[0] for step in steps] == ["long"] * 3 + ["short"] + ["long"] * 2
    assert [step.epoch for step in steps] == [0, 0, 0, 1, 2, 2]


def test_salt_takes_the_order_that_is_configured() -> None:
    config = MethodConfig(kind="salt", order=("b", "a"))
    steps = first(config, {"a": 20, "b": 1}, 4)
    assert [step.modalities[0] for step in steps] == ["b", "a", "a", "b"]


def test_salt_takes_turns_in_modalities_whose_passes_are_long() -> None:
    samples = {"small": 10, "large": 10**6}
    steps = first(MethodConfig(kind="salt", epoch_places=30), samples, 6)
    assert [step.modalities[0] for step in steps] == ["large"] * 3 + ["small"] + ["large"] * 2
    steps = first(MethodConfig(kind="salt", epoch_places=None), samples, 10**5 + 1)
    assert [step.epoch for step in steps] == [0] * 10**5 + [1]
    with pytest.raises(ValueError, match=r"method.epoch_places is 0; give 1 or more, or null"):
        MethodConfig(kind="salt", epoch_places=0)


def test_pair_trains_on_one_modality_the_first_or_the_one_named() -> None:
    assert MethodConfig(kind="pair").modalities(("a", "b")) == ("a",)
    assert MethodConfig(kind="pair", modality="b").modalities(("a", "b")) == ("b",)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MethodConfig(kind="pair", modality="c"), "c is not among data.modalities"),
        (MethodConfig(kind="salt", order=("a", "c")), "c is not among data.modalities"),
        (MethodConfig(kind="salt", order=("a",)), "name every one of data.modalities"),
    ],
)
def test_unknown_modalities_are_named(config: MethodConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.modalities(("a", "b"))
