"""Controls on the embedded labels: what knows nothing scores nothing, what knows all scores all."""

import numpy as np
import pytest

from raytrain.data.cards import load_card as load_modality
from raytrain.evaluation.baselines import random_fourier
from raytrain.evaluation.cards import DEVELOPMENT, TaskCard, leaks, load_labels
from raytrain.evaluation.probes import Encoder
from raytrain.evaluation.roster import Row
from raytrain.evaluation.scores import Scores
from raytrain.evaluation.scoring import score
from raytrain.evaluation.tasks import Task
from raytrain.geo import Array
from raytrain.settings import to_dict

BUDGETS = (None, 300)


@pytest.fixture(scope="module")
def tasks() -> tuple[Task, ...]:
    return tuple(labelled.task for labelled in load_labels(DEVELOPMENT))


@pytest.fixture(scope="module")
def task_cards() -> tuple[TaskCard, ...]:
    return tuple(labelled.card for labelled in load_labels(DEVELOPMENT))


def scored(encode: Encoder, *tasks: Task) -> Scores:
    return score([Row(name="ours", kind="encoder", encode=encode)], tasks, seeds=1)[0]


def shuffled(task: Task) -> Task:
    y = np.random.default_rng(0).permutation(task.y)
    return Task(name=task.name, lonlat_deg=task.lonlat_deg, y=y, classes=task.classes)


def oracle(task: Task) -> Encoder:
    """An encoder that looks the place's label up."""
    label = {tuple(place): y for place, y in zip(task.lonlat_deg.tolist(), task.y, strict=True)}

    def encode(lon: Array, lat: Array) -> Array:
        y = np.array([label[place] for place in zip(lon.tolist(), lat.tolist(), strict=True)])
        return y[:, None] if task.classes is None else np.eye(len(task.classes))[y.astype(int)]

    return encode


def test_shuffled_labels_score_nothing_on_any_task(tasks: tuple[Task, ...]) -> None:
    scores = scored(random_fourier(dim=64), *map(shuffled, tasks))
    for task in tasks:
        most = np.bincount(task.y.astype(int)).max() / len(task.y) if task.classes else 0.0
        for budget in BUDGETS:
            assert scores.mean("ours", budget, task.name) < most + 0.03, (task.name, budget)


def test_real_labels_score_more_than_shuffled_ones(tasks: tuple[Task, ...]) -> None:
    encoder = random_fourier(sigma=2.0, dim=64)
    real, made = scored(encoder, *tasks), scored(encoder, *map(shuffled, tasks))
    for task in tasks:
        gain = real.mean("ours", None, task.name) - made.mean("ours", None, task.name)
        assert gain > 0.05, task.name


def test_an_oracle_scores_one_on_every_task(tasks: tuple[Task, ...]) -> None:
    for task in tasks:
        scores = scored(oracle(task), task)
        for at, budget in enumerate(BUDGETS):
            possible = scores.seen[0, at, 0]  # a class that is not in training cannot be named
            assert scores.mean("ours", budget) > possible - 0.01, (task.name, budget)


def test_a_planted_leak_is_found_marked_and_left_out_of_the_mean(
    tasks: tuple[Task, ...], task_cards: tuple[TaskCard, ...]
) -> None:
    clean = to_dict(load_modality("satellite"))
    assert leaks([clean], task_cards) == set()
    found = leaks([clean, {**clean, "name": "spy", "leaks": ["igbp"]}], task_cards)
    assert found == {"igbp"}
    some = [task for task in tasks if task.name in ("airport_elevation", "igbp")]
    rows = [
        Row(name="ours", kind="encoder", encode=random_fourier(sigma=1.0, dim=64)),
        Row(name="theirs", kind="encoder", encode=random_fourier(dim=64)),
    ]
    (scores,) = score(rows, some, seeds=1, leaks={"ours": found})
    assert scores.clean_tasks == ("airport_elevation",)
    for row in ("ours", "theirs"):
        assert scores.mean(row, None) == max(-1, scores.mean(row, None, "airport_elevation"))
    lines = scores.text().splitlines()
    marked = {line.split()[1]: line.count("*") for line in lines if line.startswith("| ")}
    assert (marked["ours"], marked["theirs"]) == (1, 0)
