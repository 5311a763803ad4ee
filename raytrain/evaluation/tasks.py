"""Tasks: places with a label each, by which a frozen embedding is judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raytrain.errors import UserError
from raytrain.geo import Array, as_lonlat


class TaskError(UserError):
    """A task that cannot be scored, with the way out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Labelled places. Regression when `classes` is None, else `y` holds indices into it."""

    name: str
    lonlat_deg: Array  # n 2
    y: Array  # n
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.y) != len(self.lonlat_deg) or self.y.ndim != 1:
            raise TaskError(
                f"task {self.name}: {len(self.lonlat_deg)} places but labels of shape "
                f"{self.y.shape}; give one label per place"
            )
        if not np.isfinite(self.y).all():
            raise TaskError(
                f"task {self.name}: {int((~np.isfinite(self.y)).sum())} labels are not finite; "
                "drop those rows"
            )
        if self.classes is not None and not np.isin(self.y, np.arange(len(self.classes))).all():
            raise TaskError(
                f"task {self.name}: labels must be whole numbers from 0 to {len(self.classes) - 1}"
            )
        if len(np.unique(self.y)) < 2:
            raise TaskError(f"task {self.name}: all labels are equal; there is nothing to learn")

    @property
    def metric(self) -> str:
        return "R2" if self.classes is None else "accuracy"

    def subset(self, rows: NDArray[np.int64]) -> "Task":
        """The same task on some of its rows [k]."""
        return Task(
            name=self.name,
            lonlat_deg=self.lonlat_deg[rows],
            y=self.y[rows],
            classes=self.classes,
        )

    def score(self, prediction: Array, rows: NDArray[np.int64]) -> float:
        """R² (1 is perfect, 0 the rows' own mean) or accuracy (0..1) of predictions [k]."""
        y = self.y[rows]
        if self.classes is not None:
            return float(np.mean(prediction == y))
        spread = float(((y - y.mean()) ** 2).sum())
        return 1 - float(((prediction - y) ** 2).sum()) / spread if spread > 0 else float("nan")


def load_tasks(path: str | Path, names: Sequence[str] | None = None) -> tuple[Task, ...]:
    """Tasks of an .npz file with keys `<task>/{lon_deg,lat_deg,y,kind[,classes]}`, in file order.

    `kind` is regression or classification. `names` chooses some tasks, in that order.
    Raises TaskError or CoordinateError naming the task and what is wrong with it.
    """
    if not Path(path).is_file():
        raise TaskError(f"no tasks at {path}; give an .npz file of tasks")
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files if "/" in key}
    found = list(dict.fromkeys(key.split("/")[0] for key in arrays))
    missing = [name for name in names or [] if name not in found]
    if missing:
        raise TaskError(f"{path} has no task {missing[0]}; it has {', '.join(found)}")
    return tuple(_task(name, arrays, path) for name in names or found)


def _task(name: str, arrays: dict[str, NDArray[np.generic]], path: str | Path) -> Task:
    absent = [k for k in ("lon_deg", "lat_deg", "y", "kind") if f"{name}/{k}" not in arrays]
    if absent:
        raise TaskError(f"{path}: task {name} lacks {name}/{absent[0]}")
    kind = str(arrays[f"{name}/kind"])
    y = np.asarray(arrays[f"{name}/y"], float)
    classes: tuple[str, ...] | None = None
    if kind == "classification":
        given = arrays.get(f"{name}/classes", np.arange(int(y.max()) + 1).astype(str))
        classes = tuple(str(c) for c in given)
    elif kind != "regression":
        raise TaskError(f"{path}: task {name} is of kind {kind!r}; regression or classification")
    lonlat_deg = as_lonlat(arrays[f"{name}/lon_deg"], arrays[f"{name}/lat_deg"], f"task {name}")
    return Task(name=name, lonlat_deg=lonlat_deg, y=y, classes=classes)
