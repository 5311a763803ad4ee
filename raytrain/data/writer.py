"""Writes shards: shuffled, split by spatial block, equal in size, resumable and atomic."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytrain import geo, storage
from raytrain.data import codecs
from raytrain.data.manifest import MANIFEST, Field, Holdout, Manifest, Shard, ShardError
from raytrain.data.shards import COLUMNS, LONLAT

PROGRESS = "unfinished.json"
HOLDOUT = Holdout()

Observed = Mapping[str, NDArray[Any] | Sequence[str] | Sequence[bytes]]
Sums = tuple[list[float], list[float]]


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
    group_rows: int = 1024,
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
    stale = _forget_manifest(url)
    done = _progress(url, source)
    for name, split, index in _plan(observations.lonlat_deg, holdout, seed, shard_rows):
        if not _is_whole(url, done.get(name)):
            content, sums = _pack(observations, index, group_rows)
            shard = _write_shard(url, name, split, len(index), content)
            done[name] = {"shard": asdict(shard), "sums": sums}
            _save(url, PROGRESS, json.dumps({"source": source, "done": done}))
        on_rows(len(index))
    manifest = Manifest(
        modality=modality,
        layout=observations.layout,
        fields=_with_statistics(observations.fields, list(done.values())),
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


def _forget_manifest(url: str) -> set[str]:
    """Delete the manifest of other shards, so that nobody reads a mixture; names of its shards."""
    try:
        old = {shard.name for shard in Manifest.load(url).shards}
    except ShardError:
        old = set()
    storage.remove(storage.join(url, MANIFEST))
    return old


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


def _pack(
    observations: Observations, index: NDArray[np.int64], group_rows: int
) -> tuple[bytes, dict[str, Sums]]:
    stream = io.BytesIO()
    pack = _pack_columns if observations.layout == COLUMNS else _pack_samples
    columns = observations.take(index)
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        pack(archive, observations.lonlat_deg[index], columns, observations.fields, group_rows)
    sums = {}
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            sums[name] = _sums(column, observations.fields[name])
            if not np.isfinite(sums[name]).all():
                raise ShardError(f"`{name}` holds numbers that are not finite; mend the source")
    return stream.getvalue(), sums


def _pack_columns(
    archive: tarfile.TarFile,
    lonlat_deg: NDArray[np.float64],
    columns: Observed,
    fields: dict[str, Field],
    group_rows: int,
) -> None:
    arrays = {LONLAT: lonlat_deg, **{name: np.asarray(columns[name]) for name in fields}}
    for group, first in enumerate(range(0, len(lonlat_deg), group_rows)):
        for name, array in arrays.items():
            content = codecs.encode_npy(array[first : first + group_rows])
            codecs.add_member(archive, f"{group:06d}.{name}.npy", content)


def _pack_samples(
    archive: tarfile.TarFile,
    lonlat_deg: NDArray[np.float64],
    columns: Observed,
    fields: dict[str, Field],
    group_rows: int,
) -> None:
    for row, (lon, lat) in enumerate(lonlat_deg.tolist()):
        place = json.dumps({"lon": lon, "lat": lat}).encode()
        codecs.add_member(archive, f"{row:06d}.json", place)
        for name, spec in fields.items():
            content = _encode(columns[name][row], spec.encoding)
            codecs.add_member(archive, f"{row:06d}.{name}.{spec.encoding}", content)


def _encode(value: Any, encoding: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if encoding == "txt":
        return str(value).encode()
    return codecs.encode_npy(value) if encoding == "npy" else codecs.encode_image(value, encoding)


def _write_shard(url: str, name: str, split: str, samples: int, content: bytes) -> Shard:
    storage.write(storage.join(url, name), content)
    digest = hashlib.sha256(content).hexdigest()
    return Shard(name=name, split=split, samples=samples, bytes=len(content), sha256=digest)


def _sums(column: NDArray[Any], spec: Field) -> Sums:
    """Sum and sum of squares of each channel, over rows and pixels."""
    totals, squares = np.zeros((2, spec.shape[0] if spec.shape else 1))
    for first in range(0, len(column), 512):  # float32 is exact enough within a piece
        piece = column[first : first + 512]
        values = piece.reshape(len(piece), len(totals), -1).astype(np.float32)
        totals += values.sum((0, 2), dtype=np.float64)
        squares += np.einsum("ncp,ncp->c", values, values)
    return totals.tolist(), squares.tolist()


def _with_statistics(fields: dict[str, Field], done: list[dict[str, Any]]) -> dict[str, Field]:
    """Fields with mean and standard deviation over the training rows."""
    train = [entry for entry in done if entry["shard"]["split"] == "train"]
    rows = sum(entry["shard"]["samples"] for entry in train)
    result = dict(fields)
    for name, spec in fields.items():
        if not rows or name not in train[0]["sums"]:
            continue
        count = rows * int(np.prod(spec.shape[1:]))
        totals, squares = np.sum([entry["sums"][name] for entry in train], axis=0) / count
        std = np.sqrt(np.maximum(squares - totals**2, 0))
        result[name] = replace(spec, mean=tuple(totals.tolist()), std=tuple(std.tolist()))
    return result
