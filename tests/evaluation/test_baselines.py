import numpy as np
import pytest
import torch

from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.networks import SirenConfig
from raytrain.evaluation.baselines import (
    harmonics,
    inverse_distance,
    label_knn,
    random_fourier,
    untrained,
)
from raytrain.evaluation.splits import Split, split
from raytrain.evaluation.tasks import Task
from raytrain.geo import EARTH_RADIUS_KM, great_circle_km


def slow(task: Task, neighbours: int, power: float) -> list[float]:
    """The baselines as one would write them on paper."""
    parts, answers = split(task, budget=300), []
    for place in task.lonlat_deg[parts.test]:
        km = great_circle_km(place[None], task.lonlat_deg[parts.train])
        near = np.argsort(km)[:neighbours]
        weight = (km[near] / EARTH_RADIUS_KM) ** -power
        label = task.y[parts.train[near]]
        if task.classes is None:
            answers.append(float(np.average(label, weights=weight)))
        else:
            votes = [weight[label == c].sum() for c in range(len(task.classes))]
            tied = [c for c in range(len(votes)) if np.isclose(votes[c], max(votes))]
            answers.append(next(float(c) for c in label if c in tied))
    return answers


@pytest.mark.parametrize("name", ["height", "hemisphere"])
def test_neighbours_against_a_slow_loop(name: str, request: pytest.FixtureRequest) -> None:
    task: Task = request.getfixturevalue(name)
    parts = split(task, budget=300)
    np.testing.assert_allclose(label_knn(task, parts), slow(task, 5, 0.0), rtol=1e-6)
    np.testing.assert_allclose(inverse_distance(task, parts), slow(task, 50, 2.0), rtol=1e-6)


def test_a_label_at_the_very_place_wins() -> None:
    lonlat_deg = np.array([[0.0, 0.0], [60.0, 0.0], [120.0, 0.0], [0.0, 60.0], [0.0, 0.0]])
    task = Task(name="twin", lonlat_deg=lonlat_deg, y=np.array([5.0, 1.0, 1.0, 1.0, 9.0]))
    parts = Split(train=np.arange(4), fold=np.arange(4) % 3, test=np.array([4]))
    assert abs(inverse_distance(task, parts)[0] - 5.0) < 1e-6


def test_encodings_have_their_widths_and_repeat() -> None:
    lon, lat = np.array([0.0, 10.0, -180.0]), np.array([0.0, -45.0, 90.0])
    assert harmonics(6)(lon, lat).shape == (3, 36)
    fourier = random_fourier(sigma=5.0, dim=64)
    assert fourier(lon, lat).shape == (3, 64)
    assert np.array_equal(fourier(lon, lat), random_fourier(sigma=5.0, dim=64)(lon, lat))


def test_untrained_encoder_repeats_and_leaves_the_random_state() -> None:
    config = LocationEncoderConfig(network=SirenConfig(width=16), dim=8, skip=False)
    lon, lat = np.array([0.0, 10.0]), np.array([0.0, -45.0])
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = untrained(config)
    assert torch.equal(state, torch.get_rng_state())
    assert first(lon, lat).shape == (2, 8)
    assert np.array_equal(first(lon, lat), untrained(config)(lon, lat))
    assert not np.allclose(first(lon, lat), untrained(config, seed=1)(lon, lat))
