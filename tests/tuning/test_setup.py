"""Before a sweep starts: tasks that would flatter are left out, and an earlier start is known."""

from pathlib import Path
from typing import Any

import pytest

from raytrain.errors import UserError
from raytrain.tuning.setup import Setup, check, open_sweep, read_setup

SPACE = """
space:
  data.modalities: {{choice: [[{weather}], [{weather}, {words}]]}}
scheduler: {{kind: none}}
"""


def setup(world: Any, *overrides: str) -> Setup:
    file = world.folder / "mine.yaml"
    file.write_text(SPACE.format(weather=world.card("weather"), words=world.card("words")))
    given = [a for a in world.arguments("sweep") if not a.startswith("evaluate.tasks")]
    return read_setup(str(file), {}, [*given, "evaluate.tasks=igbp,koppen", *overrides])


def leak(world: Any, tasks: str) -> None:
    card = Path(world.card("words"))
    card.write_text(f"{card.read_text()}leaks: [{tasks}]\n")


def test_streams_of_all_trials_are_found(tiny_world: Any) -> None:
    checked = check(setup(tiny_world))
    assert {stream.modality for stream in checked.streams.values()} == {"weather", "words"}
    assert [task.name for task in checked.tasks] == ["igbp", "koppen"]
    assert checked.leaked == ()


def test_a_task_that_one_trials_modality_gives_away_is_left_out_for_all(tiny_world: Any) -> None:
    leak(tiny_world, "igbp")
    checked = check(setup(tiny_world, f"data.modalities={tiny_world.card('weather')}"))
    assert [task.name for task in checked.tasks] == ["koppen"]
    assert checked.leaked == ("igbp",)


def test_a_sweep_whose_tasks_are_all_given_away(tiny_world: Any) -> None:
    leak(tiny_world, "igbp, koppen")
    with pytest.raises(UserError, match="is given away by a modality"):
        check(setup(tiny_world))


def test_what_may_change_between_two_starts(tiny_world: Any) -> None:
    assert not open_sweep(setup(tiny_world))
    assert open_sweep(setup(tiny_world, "tune.trials=99", "tune.minutes=5", "tracking.uri=x"))
    with pytest.raises(UserError, match=r"optim\.lr: 0\.0005 -> 0\.1\).*overwrite=true"):
        open_sweep(setup(tiny_world, "optim.lr=0.1"))
    assert not open_sweep(setup(tiny_world, "optim.lr=0.1", "overwrite=true"))
