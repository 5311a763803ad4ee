"""Cells as Ray tasks."""

import os

import numpy as np
import pytest
import ray

from raytrain.evaluation.baselines import unit_xyz
from raytrain.evaluation.remote import over_cluster
from raytrain.evaluation.roster import Row, label_rows
from raytrain.evaluation.scoring import score
from raytrain.evaluation.tasks import Task, TaskError
from raytrain.geo import Array

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


def test_scores_are_those_of_map(height: Task, hemisphere: Task) -> None:
    rows = [*label_rows(), Row(name="xyz", kind="encoder", encode=unit_xyz)]
    tasks = [height, hemisphere]
    (here,) = score(rows, tasks, seeds=2)
    (there,) = score(rows, tasks, seeds=2, each=over_cluster)
    assert there.rows == here.rows
    np.testing.assert_allclose(there.values, here.values, rtol=1e-9)
    np.testing.assert_array_equal(there.penalties, here.penalties)
    assert there.errors.keys() == here.errors.keys()


def test_results_come_in_order_on_one_thread_of_other_processes() -> None:
    def look(cell: int) -> tuple[int, int, str | None]:
        return cell, os.getpid(), os.environ.get("OMP_NUM_THREADS")

    cells, processes, threads = zip(*over_cluster(look, range(40)), strict=True)
    assert cells == tuple(range(40))
    assert os.getpid() not in processes
    assert {*threads} == {"1"}


def test_few_cells_are_in_flight() -> None:
    taken = iter(range(1000))
    results = over_cluster(lambda cell: cell, taken)
    assert next(results) == 0
    assert next(taken) <= 60
    results.close()


def test_an_error_of_the_user_is_raised_as_it_is(height: Task) -> None:
    def broken(lon: Array, lat: Array) -> Array:
        return np.full((len(lon), 2), np.nan)

    rows = [Row(name="broken", kind="encoder", encode=broken)]
    with pytest.raises(TaskError, match="broken: not finite at lon"):
        score(rows, [height], seeds=1, each=over_cluster)


def test_any_other_error_is_rays() -> None:
    with pytest.raises(ray.exceptions.RayTaskError, match="ZeroDivisionError"):
        list(over_cluster(lambda cell: 1 // cell, [1, 0]))
