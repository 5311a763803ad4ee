"""The encoder that comes with raytrain."""

from pathlib import Path

import numpy as np
import pytest

import raytrain
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.pretrained import SHIPPED
from raytrain.encoders.weights import WeightsError
from raytrain.evaluation.baselines import untrained
from raytrain.evaluation.cards import load_labels
from raytrain.evaluation.development import TRAINED, development_probes
from raytrain.evaluation.roster import learned
from raytrain.settings import apply_overrides, build, to_dict
from raytrain.training.config import RunConfig, load_recipe


def test_it_loads_by_its_name_and_a_folder_of_that_name_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "earth").mkdir()
    encoder = raytrain.load("earth")
    assert encoder.encode([13.4, -60.0], [52.5, -3.1]).shape == (2, encoder.dim)
    with pytest.raises(WeightsError, match="holds neither"):
        raytrain.load("./earth")


def test_places_are_compared_by_what_is_learned_and_by_as_much_untrained() -> None:
    trained, untouched = learned("earth")
    assert untouched is not None
    lon, lat = np.array([13.4]), np.array([52.5])
    assert np.asarray(trained(lon, lat)).shape == (1, 768)
    assert np.asarray(untouched(lon, lat)).shape == (1, 768)


def test_its_recipe_is_that_of_the_same_name() -> None:
    recipe = to_dict(build(RunConfig, apply_overrides(load_recipe("earth"), [])))
    found = raytrain.load("earth").config
    for part in ("location", "method", "objective", "optim"):
        assert found[part] == recipe[part], part
    assert found["training"]["steps"] == recipe["training"]["steps"]
    assert {*found["cards"]} == {"satellite", "vegetation", "atmosphere"}


def test_it_is_small_and_says_what_it_is() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 15e6
    assert raytrain.load("earth").config["licence"] == "MIT"
    card = (SHIPPED / "README.md").read_text()
    for words in ("300 labels", "geoclip", "inverse distance", "NASA", "Blue Marble"):
        assert words in card, words


def test_it_knows_more_than_before_it_was_trained_and_than_its_neighbours() -> None:
    encoder = raytrain.load("earth")
    location = build(LocationEncoderConfig, encoder.config["location"])
    tasks = [item.task for item in load_labels(["air_temperature", "igbp", "airport_elevation"])]
    scores = development_probes(encoder.encode, untrained(location), tasks, budgets=[300], seeds=2)
    means = {row: scores.mean(row, 300) for row in scores.rows}
    assert means.pop(TRAINED) > max(means.values()) + 0.05, means
