"""Writes shards: shuffled, split by spatial block, equal in size, resumable and atomic."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytrain import geo, storage
from raytrain.data.manifest import MANIFEST, Field, Holdout, Manifest, Shard, ShardError
from raytrain.data.packing import (
    GROUP_ROWS,
    Observed,
    forget_manifest,
    pack,
    train_sums,
    with_statistics,
    write_shard,
)
from raytrain.data.shards import COLUMNS

PROGRESS = "unfinished.json"
HOLDOUT = Holdout()


@dataclass(frozen=True, kw_only=True)
class Observations:
    """What a source offers: places [n, 2] in degrees, and the observations at any of them.

    `take(indices)` gives every field's observations [len(indices), *shape] (text: strings; images
    may be the bytes of files). It must depend on the indices alone, so that a stopped run can go
    on. `dropped` counts by reason the raw rows that are no part of the places.
    """

    lonlat_deg: NDArray[np.float64]
    fields: dict[str, Field]
    take: Callable[[NDArray[np.int64]], Observed]
    layout: str = COLUMNS
    dropped: dict[str, int] = field(default_factory=dict)
    shard_rows: int = 8192

    @classmethod
    def of_arrays(
        cls, lonlat_deg: NDArray[np.float64], arrays: Mapping[str, NDArray[Any]], units: str = ""
    ) -> "Observations":
        """Observations that are in memory: one array [n, *shape] a field."""
        fields = {
            name: Field(dtype=str(array.dtype), shape=array.shape[1:], units=units)
            for name, array in arrays.items()
        }

        def take(index: NDArray[np.int64]) -> Observed:
            return {name: array[index] for name, array in arrays.items()}

        return cls(lonlat_deg=lonlat_deg, fields=fields, take=take)


def write_shards(
    url: str,
    observations: Observations,
    *,
    modality: str,
    source: dict[str, Any] | None = None,
    licence: str = "",
    credit: str = "",
    holdout: Holdout = HOLDOUT,
    seed: int = 0,
    shard_rows: int | None = None,
    group_rows: int = GROUP_ROWS,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Manifest:
    """Write a folder of shards, its manifest last, and return the manifest.

    Equal arguments give equal bytes. A run that was stopped goes on behind its last whole shard; a
    finished folder of the same `source` is left as it is. `on_rows` hears of every shard's rows.
    Raises CoordinateError, ShardError.
    """
    shard_rows = shard_rows or observations.shard_rows
    source = {**(source or {}), "seed": seed, "shard_rows": shard_rows, "group_rows": group_rows}
    source |= {"rows": len(observations.lonlat_deg), "holdout": asdict(holdout)}
    if (finished := _finished(url, source)) is not None:
        return finished
    geo.check_lonlat(observations.lonlat_deg, modality)
    stale = forget_manifest(url)
    done = _progress(url, source)
    for name, split, index in _plan(observations.lonlat_deg, holdout, seed, shard_rows):
        if not _is_whole(url, done.get(name)):
            places, taken = observations.lonlat_deg[index], observations.take(index)
            content, sums = pack(
                observations.layout, places, taken, observations.fields, group_rows
            )
            shard = write_shard(url, name, split, len(index), content)
            done[name] = {"shard": asdict(shard), "sums": sums}
            _save(url, PROGRESS, json.dumps({"source": source, "done": done}))
        on_rows(len(index))
    manifest = Manifest(
        modality=modality,
        layout=observations.layout,
        fields=with_statistics(observations.fields, *train_sums([*done.values()])),
        shards=tuple(Shard(**entry["shard"]) for entry in done.values()),
        holdout=holdout,
        source=source,
        licence=licence,
        credit=credit,
    )
    _save(url, MANIFEST, manifest.to_json())
    for name in [PROGRESS, *(stale - done.keys())]:
        storage.remove(storage.join(url, name))
    return manifest


def _finished(url: str, source: dict[str, Any]) -> Manifest | None:
    try:
        manifest = Manifest.load(url)
    except ShardError:
        return None
    same = json.loads(json.dumps(source)) == manifest.source
    whole = all(_is_whole(url, {"shard": asdict(shard)}) for shard in manifest.shards)
    return manifest if same and whole else None


def _progress(url: str, source: dict[str, Any]) -> dict[str, Any]:
    try:
        saved = json.loads(storage.read(storage.join(url, PROGRESS)))
    except (FileNotFoundError, ValueError):
        return {}
    return dict(saved["done"]) if saved["source"] == json.loads(json.dumps(source)) else {}


def _save(url: str, name: str, text: str) -> None:
    storage.write(storage.join(url, name), text.encode())


def _is_whole(url: str, entry: dict[str, Any] | None) -> bool:
    if entry is None:
        return False
    shard = entry["shard"]
    return bool(storage.size(storage.join(url, shard["name"])) == shard["bytes"])


def _plan(
    lonlat_deg: NDArray[np.float64], holdout: Holdout, seed: int, shard_rows: int
) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """Name, split and rows of every shard."""
    held_out = geo.held_out(lonlat_deg, holdout.degrees, holdout.share, holdout.seed)
    rng = np.random.default_rng(seed)
    for split, chosen in (("train", ~held_out), ("val", held_out)):
        order = rng.permutation(np.flatnonzero(chosen))
        for number, first in enumerate(range(0, len(order), shard_rows)):
            yield f"{split}-{number:05d}.tar", split, order[first : first + shard_rows]
