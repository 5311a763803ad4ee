"""Probes while a run trains."""

import pytest

from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.positional import SphericalHarmonicsConfig
from raytrain.encoders.pretrained import location_weights
from raytrain.settings import SettingsError, build
from raytrain.training.config import EvaluatorConfig
from raytrain.training.evaluator import Evaluator, clean_tasks


def test_each_task_has_its_cadence() -> None:
    config = EvaluatorConfig(tasks=("igbp", "country", "mine/soil.yaml"), every=10)
    assert config.due(20) == ("igbp", "country", "soil")
    assert config.due(25) == ()
    own = EvaluatorConfig(tasks=("igbp", "country"), every_of={"country": 15})
    assert [own.due(step) for step in (10, 15)] == [(), ("country",)]
    with pytest.raises(SettingsError, match="every_of: koppen is not among"):
        build(EvaluatorConfig, {"every_of": {"koppen": 5}})


def test_scores_of_an_encoder_come_later() -> None:
    config = EvaluatorConfig(tasks=("igbp", "air_temperature"), seeds=1, every=2)
    labelled, leaked = clean_tasks(config, [])
    assert leaked == []
    evaluator = Evaluator(config, labelled)
    location = LocationEncoderConfig(positional=SphericalHarmonicsConfig(degrees=5), dim=16)
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
