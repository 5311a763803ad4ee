"""Search spaces: what may stand in one, and that all of it is checked before anything runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from raytrain.settings import SettingsError, build
from raytrain.storage import spaces_dir
from raytrain.tune import minutes
from raytrain.tuning.setup import check, read_setup
from raytrain.tuning.space import Distribution, SweepConfig, check_space, new_tasks, run_config

SPACES = sorted(path.stem for path in spaces_dir().glob("*.yaml"))


def sweep(**values: Any) -> SweepConfig:
    return build(SweepConfig, {"space": {"optim.lr": {"uniform": [0.1, 0.2]}}, **values})


def distributions(space: dict[str, Any]) -> dict[str, Distribution]:
    return sweep(space=space).space


@pytest.mark.parametrize("name", SPACES)
def test_every_space_that_comes_with_raytrain_can_start(name: str) -> None:
    setup = read_setup(name, {}, [])
    assert setup.sweep.about
    assert check(setup).tasks


def test_all_encodings_and_networks_are_in_the_space_of_location_encoders() -> None:
    from typing import get_args

    from raytrain.encoders.networks import NetworkConfig
    from raytrain.encoders.positional import PositionalConfig

    space = read_setup("location_encoder", {}, []).sweep.space
    for part, union in (("positional", PositionalConfig), ("network", NetworkConfig)):
        kinds = {member.kind for member in get_args(union)}
        assert {*space[f"location.{part}.kind"].choice} == kinds


def test_every_subset_of_the_modalities_is_in_the_space_of_objectives() -> None:
    subsets = read_setup("objective", {}, []).sweep.space["data.modalities"].choice
    assert len({frozenset(s) for s in subsets}) == len(subsets) == 2**3 - 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give exactly one of choice, grid, uniform, loguniform, quniform; found none"),
        ({"choice": [1], "grid": [2]}, "found choice and grid"),
        ({"uniform": [2, 1]}, "uniform [2.0, 1.0] is no range from low to high"),
        ({"loguniform": [0, 1]}, "is no range from low to high"),
        ({"quniform": [0, 1, 0]}, "is no range from low to high"),
        ({"uniform": [1]}, "space.optim.lr.uniform: expected tuple[float, float]"),
        ({"chioce": [1]}, "did you mean `choice`?"),
    ],
)
def test_a_distribution_that_is_none(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        distributions({"optim.lr": values})
    assert message in str(error.value)
    assert "space.optim.lr" in str(error.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"optim.rate": {"choice": [1]}},
            "space.optim.rate, 1: unknown setting `optim.rate`; there are: lr,",
        ),
        (
            {"location.positional.degrees": {"choice": [20, 500]}},
            "space.location.positional.degrees, 500: location.positional:",
        ),
        (
            {"optim.lr": {"choice": ["fast"]}},
            "space.optim.lr, fast: optim.lr: expected float, got 'fast'",
        ),
        (
            {"location.network.width": {"choice": [8], "when": {"location.network.kind": "mlp"}}},
            "its condition is on `location.network.kind`, which is not in the space",
        ),
        (
            {
                "location.network.width": {
                    "choice": [8],
                    "when": {"location.network.kind": "mlp"},
                },
                "location.network.kind": {"choice": ["mlp"]},
            },
            "its condition is on `location.network.kind`, which stands behind it",
        ),
        (
            {
                "location.network.kind": {"choice": ["siren"]},
                "location.network.width": {
                    "choice": [8],
                    "when": {"location.network.kind": "mlp"},
                },
            },
            "location.network.kind = mlp, which the space never takes",
        ),
    ],
)
def test_a_space_that_cannot_be_run(space: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        [*check_space(distributions(space), {})]
    assert message in str(error.value)


def test_every_value_is_checked_and_conditions_hold_in_each_trial() -> None:
    space = distributions(
        {
            "location.network.kind": {"choice": ["siren", "mlp"]},
            "location.network.activation": {
                "choice": ["relu", "gelu"],
                "when": {"location.network.kind": "mlp"},
            },
            "optim.lr": {"loguniform": [1e-4, 1e-2]},
        }
    )
    trials = [values for values, _ in check_space(space, {})]
    seen = [(path, values[path]) for values in trials for path in values]
    assert {*seen} >= {
        ("location.network.kind", "siren"),
        ("location.network.activation", "relu"),
        ("location.network.activation", "gelu"),
        ("optim.lr", 1e-4),
        ("optim.lr", 1e-2),
    }
    for values in trials:
        by_kind = values["location.network.kind"] == "mlp"
        assert ("location.network.activation" in values) == by_kind


def test_another_kind_leaves_the_settings_of_the_old_one_behind() -> None:
    base = {"location": {"positional": {"degrees": 7}, "dim": 32}}
    same = run_config(base, {"location.positional.kind": "spherical_harmonics"})
    other = run_config(base, {"location.positional.kind": "fourier"})
    assert same.location.positional.degrees == 7  # type: ignore[union-attr]
    assert other.location.positional.kind == "fourier"
    assert same.location.dim == other.location.dim == 32


def test_a_grid_holds_every_combination_once() -> None:
    settings = sweep(
        search={"kind": "grid"},
        scheduler={"kind": "none"},
        trials=None,
        space={
            "method.kind": {"choice": ["melt", "pair"]},
            "method.modality": {"grid": ["a", "b"], "when": {"method.kind": "pair"}},
            "optim.lr": {"choice": [1.0, 2.0]},
        },
    )
    assert settings.most_trials == 6
    assert settings.grid == [
        {"method.kind": kind, **modality, "optim.lr": lr}
        for kind, modality in (
            ("melt", {}),
            ("pair", {"method.modality": "a"}),
            ("pair", {"method.modality": "b"}),
        )
        for lr in (1.0, 2.0)
    ]
    with pytest.raises(SettingsError, match="not all of the space is a grid"):
        sweep(trials=None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"space": {}}, "space is empty"),
        ({"trials": 0}, "trials is 0; give 1 or more"),
        ({"scheduler": {"factor": 1}}, "factor is 1.0; give more than 1"),
        ({"gpu_share": 2}, "gpu_share is 2.0"),
        ({"minimize": ["parameters"]}, "needs scheduler: {kind: none}"),
    ],
)
def test_a_sweep_that_makes_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        sweep(**values)
    assert message in str(error.value)


def test_finalists_are_not_compared_on_what_they_were_chosen_by() -> None:
    assert new_tasks(sweep(), ("igbp", "koppen")) == (
        "air_temperature",
        "log_precipitation",
        "airport_elevation",
        "log_population_50km",
        "country",
    )
    with pytest.raises(SettingsError, match="koppen is also among evaluate"):
        new_tasks(sweep(finalists={"tasks": ["koppen", "igbp"]}), ("koppen",))


def test_what_a_command_line_changes(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "settings": {"training.steps": 7, "evaluate": {"every": 3}},
                "space": {"optim.lr": {"loguniform": [1e-4, 1e-3]}},
                "scheduler": {"kind": "asha", "factor": 3},
            }
        )
    )
    setup = read_setup(str(file), {"trials": 5}, ["training.batch=64", "tune.scheduler.kind=none"])
    assert (setup.name, setup.config.name) == ("mine", "tune-mine")
    assert (setup.sweep.trials, setup.sweep.scheduler.kind) == (5, "none")
    assert (setup.config.training.steps, setup.config.training.batch) == (7, 64)
    assert setup.config.evaluate.every == 3


def test_what_belongs_to_the_sweep_is_in_no_space(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("space: {seed: {choice: [1, 2]}}\nscheduler: {kind: none}")
    with pytest.raises(SettingsError, match=r"space\.seed is the sweep's own"):
        read_setup(str(file), {}, [])


def test_a_scheduler_needs_scores(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("space: {optim.lr: {choice: [0.1, 0.2]}}")
    with pytest.raises(SettingsError, match=r"set evaluate\.every to so many steps"):
        read_setup(str(file), {}, [])


@pytest.mark.parametrize(
    ("text", "wanted"), [("90s", 1.5), ("30m", 30), ("2h", 120), ("7", 7), (None, None)]
)
def test_time_budgets(text: str | None, wanted: float | None) -> None:
    assert minutes(text) == wanted


def test_a_time_budget_that_is_none() -> None:
    with pytest.raises(SettingsError, match="write 90s, 30m or 2h"):
        minutes("soon")
