import json

import numpy as np
import pytest

from raytrain.evaluation.baselines import unit_xyz
from raytrain.evaluation.probes import Encoder
from raytrain.evaluation.roster import Row, label_rows
from raytrain.evaluation.scores import Scores
from raytrain.evaluation.scoring import score
from raytrain.evaluation.tasks import Task
from raytrain.geo import Array


def noise(lon: Array, lat: Array) -> Array:
    """A hash of the place: tells places apart and knows nothing."""
    return np.asarray(np.sin(1e4 * np.stack([lon, lat, lon + lat, lon - 2 * lat], axis=1)))


def rows(**encoders: Encoder) -> list[Row]:
    """The label baselines, and encoders by name."""
    return [*label_rows(), *(Row(name=n, kind="encoder", encode=e) for n, e in encoders.items())]


def test_table_orders_knowledge_above_noise(height: Task, hemisphere: Task) -> None:
    (scores,) = score(rows(xyz=unit_xyz, hash=noise), [height, hemisphere], seeds=3)
    assert scores.rows == ("label-kNN", "inverse distance", "xyz", "hash")
    assert scores.values.shape == (4, 2, 2, 3)
    for budget in (None, 300):
        assert scores.mean("xyz", budget, "height") > 0.99
        assert scores.mean("hash", budget, "height") < 0.05
        means = [scores.mean("xyz", budget, t) for t in scores.tasks]
        assert scores.mean("xyz", budget) == pytest.approx(np.mean(means))
    assert scores.std("xyz", None) < 0.1
    assert "10°" in scores.settings["split"]


def test_table_is_text_and_json(height: Task) -> None:
    (scores,) = score(rows(xyz=unit_xyz), [height], seeds=2, budgets=(300,), holdouts=["random"])
    text = scores.text()
    assert text.startswith("300 labels; random places, ridge probe; mean±std over 2 seeds")
    assert "| xyz " in text
    saved = json.loads(json.dumps(scores.to_dict()))
    cell = saved["scores"]["xyz"]["300 labels"]["height"]
    assert len(cell["seeds"]) == len(cell["penalties"]) == 2
    assert saved["settings"]["split"] == "random places"


def test_fresh_splits_are_those_of_later_seeds(height: Task) -> None:
    def scored(seeds: int, first_seed: int) -> Scores:
        made = score(rows(xyz=unit_xyz), [height], seeds=seeds, first_seed=first_seed)
        return made[0]

    whole, fresh = scored(3, 0), scored(2, 1)
    assert fresh.settings["seeds"] == [1, 2]
    assert fresh.of("xyz", 300, "height").tolist() == whole.of("xyz", 300, "height")[1:].tolist()


def test_continents_are_said_to_be_held_out(height: Task) -> None:
    (scores,) = score(rows(xyz=unit_xyz), [height], seeds=2, budgets=(300,), holdouts=["continent"])
    assert scores.settings["split"] == "one continent a seed"
    assert scores.mean("xyz", 300) > 0.99 > scores.mean("label-kNN", 300)


def test_leaked_task_is_marked_and_left_out_of_the_mean(height: Task, hemisphere: Task) -> None:
    (scores,) = score(rows(xyz=unit_xyz), [height, hemisphere], seeds=2, leaks={"xyz": {"height"}})
    assert scores.clean_tasks == ("hemisphere",)
    for row in scores.rows:
        assert scores.mean(row, None) == scores.mean(row, None, "hemisphere")
    line = next(line for line in scores.text().splitlines() if line.startswith("| xyz"))
    assert line.count("*") == 1
    assert "left out of the mean" in scores.text()
    assert scores.to_dict()["leaks"] == {"xyz": ["height"]}


def test_one_bad_score_does_not_swamp_the_mean(height: Task) -> None:
    (scores,) = score(rows(), [height], seeds=1)
    scores.values[:] = -50.0
    assert scores.mean("label-kNN", None) == -1.0


def test_a_budget_that_a_task_does_not_have_is_said(height: Task) -> None:
    (scores,) = score(rows(), [height], seeds=1, budgets=(300, 5000))
    assert list(scores.short_of(5000)) == ["height"]
    assert scores.short_of(300) == {}
    assert "fewer labels to train on than 5,000: height 1," in scores.text()


def test_training_seeds_are_pooled(height: Task) -> None:
    (single,) = score(rows(a=unit_xyz, b=noise), [height], seeds=2, leaks={"b": {"height"}})
    pooled = single.pooled({"both": ["a", "b"], "inverse distance": ["inverse distance"]})
    assert pooled.rows == ("both", "inverse distance")
    expected = (single.of("a", None, "height") + single.of("b", None, "height")) / 2
    np.testing.assert_allclose(pooled.of("both", None, "height"), expected)
    assert pooled.leaks == {"both": {"height"}}
