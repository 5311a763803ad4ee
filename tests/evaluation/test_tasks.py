from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raytrain.evaluation.tasks import Task, TaskError, load_tasks
from raytrain.geo import CoordinateError

PLACES = {"lon_deg": [0.0, 10.0, 20.0], "lat_deg": [0.0, 5.0, -5.0]}


def save(path: Path, **keys: object) -> Path:
    arrays: dict[str, Any] = {f"made/{k}": v for k, v in {**PLACES, **keys}.items()}
    np.savez(path, **arrays)
    return path


def test_loads_regression_and_classes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", y=[1.0, 2.0, 3.5], kind="regression")
    (task,) = load_tasks(path)
    assert (task.name, task.metric, task.classes) == ("made", "R2", None)
    assert task.lonlat_deg.tolist() == [[0, 0], [10, 5], [20, -5]]
    path = save(tmp_path / "b.npz", y=[0, 1, 1], kind="classification", classes=["wet", "dry"])
    (task,) = load_tasks(path, ["made"])
    assert (task.metric, task.classes) == ("accuracy", ("wet", "dry"))


def test_scores_are_r2_and_accuracy() -> None:
    rows = np.arange(4)
    lonlat_deg = np.zeros((4, 2))
    y = np.array([0.0, 1.0, 2.0, 1.0])
    height = Task(name="height", lonlat_deg=lonlat_deg, y=y)
    assert height.score(y, rows) == 1.0
    assert height.score(np.full(4, 1.0), rows) == 0.0
    kind = Task(name="kind", lonlat_deg=lonlat_deg, y=y, classes=("a", "b", "c"))
    assert kind.score(np.array([0.0, 1.0, 0.0, 0.0]), rows) == 0.5


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"y": [1.0, 2.0], "kind": "regression"}, "3 places but labels of shape"),
        ({"y": [1.0, 2.0, np.nan], "kind": "regression"}, "1 labels are not finite"),
        ({"y": [1.0, 1.0, 1.0], "kind": "regression"}, "all labels are equal"),
        ({"y": [0, 1, 2], "kind": "classification", "classes": ["a", "b"]}, "from 0 to 1"),
        ({"y": [1.0, 2.0, 3.0], "kind": "ranking"}, "regression or classification"),
        ({"kind": "regression"}, "lacks made/y"),
    ],
)
def test_bad_task_is_named_and_explained(
    tmp_path: Path, keys: dict[str, object], message: str
) -> None:
    with pytest.raises(TaskError, match=message) as raised:
        load_tasks(save(tmp_path / "bad.npz", **keys))
    assert "made" in str(raised.value)


def test_missing_file_and_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"no tasks at .*none\.npz"):
        load_tasks(tmp_path / "none.npz")
    path = save(tmp_path / "a.npz", y=[1.0, 2.0, 3.5], kind="regression")
    with pytest.raises(TaskError, match="has no task height; it has made"):
        load_tasks(path, ["height"])


def test_swapped_columns_are_suspected(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", lat_deg=[0, 120, 0], y=[1.0, 2.0, 3.0], kind="regression")
    with pytest.raises(CoordinateError, match=r"task made.*swapped"):
        load_tasks(path)
