"""Probes while a run trains."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import raytrain
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.positional import SphericalHarmonicsConfig
from raytrain.encoders.pretrained import PlaceEncoder, location_weights
from raytrain.settings import SettingsError, build, to_dict
from raytrain.training.config import EvaluatorConfig
from raytrain.training.evaluator import Evaluator, clean_tasks, mean_probe


def test_each_task_has_its_cadence() -> None:
    config = EvaluatorConfig(tasks=("igbp", "country", "mine/soil.yaml"), every=10)
    assert config.due(20) == ("igbp", "country", "soil")
    assert config.due(25) == ()
    own = EvaluatorConfig(tasks=("igbp", "country"), every_of={"country": 15})
    assert [own.due(step) for step in (10, 15)] == [(), ("country",)]
    with pytest.raises(SettingsError, match="every_of: koppen is not among"):
        build(EvaluatorConfig, {"every_of": {"koppen": 5}})


def test_scores_of_an_encoder_come_later_and_the_best_is_kept(tmp_path: Path) -> None:
    config = EvaluatorConfig(tasks=("igbp", "air_temperature"), seeds=1, every=2)
    labelled, leaked = clean_tasks(config, [])
    assert leaked == []
    location = LocationEncoderConfig(positional=SphericalHarmonicsConfig(degrees=5), dim=16)
    resolved = {"location": to_dict(location)}
    evaluator = Evaluator(config, labelled, str(tmp_path), resolved)
    trained = location.build()
    evaluator.submit(2, location.build(), location_weights(trained))
    evaluator.submit(4, location.build(), location_weights(trained))
    first, second = evaluator.take(wait=True)
    assert (first.pop("step"), second.pop("step")) == (2, 4)
    assert first == second  # the weights that were sent, not those of a fresh encoder
    assert set(first) == {
        f"probe/{task}/{budget}"
        for task in ("igbp", "air_temperature", "mean")
        for budget in ("all labels", "300 labels")
    }
    assert first["probe/air_temperature/all labels"] > 0.5
    assert evaluator.take(wait=True) == []

    constant = location.build()
    for parameter in constant.parameters():
        torch.nn.init.zeros_(parameter)
    again = Evaluator(config, labelled, str(tmp_path), resolved)  # the run was stopped and goes on
    again.submit(6, location.build(), location_weights(constant))
    (worse,) = again.take(wait=True)
    assert mean_probe(worse) < mean_probe(first)
    best = raytrain.load(tmp_path / "best")
    assert np.array_equal(best.encode(13.4, 52.5), PlaceEncoder(trained, {}).encode(13.4, 52.5))
    assert json.loads((tmp_path / "best" / "state.json").read_text())["step"] == 2
