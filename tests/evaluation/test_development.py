import numpy as np

from raytrain.evaluation.baselines import unit_xyz
from raytrain.evaluation.development import TRAINED, UNTRAINED, development_probes, verdict
from raytrain.evaluation.tasks import Task
from raytrain.geo import Array


def ruined(lon: Array, lat: Array) -> Array:
    """A hash of the place."""
    return np.asarray(np.sin(1e4 * np.stack([lon, lat, lon + lat], axis=1)))


def test_rows_budgets_and_fewer_labels(height: Task) -> None:
    scores = development_probes(unit_xyz, ruined, [height], seeds=2, max_labels=1000)
    assert scores.rows == ("label-kNN", "inverse distance", UNTRAINED, TRAINED)
    assert scores.budgets == (None, 300)
    assert scores.settings["tasks"]["height"]["labels"] == 1000


def test_ruined_encoder_is_warned_of_with_the_way_out(height: Task, hemisphere: Task) -> None:
    scores = development_probes(ruined, unit_xyz, [height, hemisphere], seeds=2)
    warning = verdict(scores)
    assert warning is not None
    for way in ("more distinct places", "fewer steps", "softer logit scale", "regression"):
        assert way in warning
    assert f"{scores.mean(UNTRAINED, 300):.3f} with 300 labels" in warning


def test_good_or_equal_encoder_gets_no_warning(height: Task) -> None:
    assert verdict(development_probes(unit_xyz, ruined, [height], seeds=2)) is None
    assert verdict(development_probes(unit_xyz, unit_xyz, [height], seeds=2)) is None
