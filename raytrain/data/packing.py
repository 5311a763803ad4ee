"""Rows packed into the bytes of a shard, and the sums that a manifest's statistics come from."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytrain import storage
from raytrain.data import codecs
from raytrain.data.manifest import MANIFEST, Field, Manifest, Shard, ShardError
from raytrain.data.shards import COLUMNS, LONLAT

Observed = Mapping[str, NDArray[Any] | Sequence[str] | Sequence[bytes]]
"""The observations of some rows: a column a field."""

Sums = tuple[list[float], list[float]]
"""Sum and sum of squares of each channel of a field."""

PIECE_VALUES = 1 << 24  # of a field, at a time for its sums
GROUP_ROWS = 1024  # a member of the "columns" layout


def pack(
    layout: str,
    lonlat_deg: NDArray[np.float64],
    columns: Observed,
    fields: Mapping[str, Field],
    group_rows: int = GROUP_ROWS,
) -> tuple[bytes, dict[str, Sums]]:
    """A shard of the observations at places [n, 2], and the sums of every field but texts.
    Raises ShardError where a number is not finite."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        if layout == COLUMNS:
            _pack_columns(archive, lonlat_deg, columns, fields, group_rows)
        else:
            _pack_samples(archive, lonlat_deg, columns, fields)
    sums = {}
    for name, column in columns.items():
        if fields[name].encoding != "txt":
            sums[name] = _sums(column, fields[name])
            if not np.isfinite(sums[name]).all():
                raise ShardError(f"`{name}` holds numbers that are not finite; mend the source")
    return stream.getvalue(), sums


def _pack_columns(
    archive: tarfile.TarFile,
    lonlat_deg: NDArray[np.float64],
    columns: Observed,
    fields: Mapping[str, Field],
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
    fields: Mapping[str, Field],
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


def _sums(column: Any, spec: Field) -> Sums:
    """Sum and sum of squares of each channel, over rows, views and pixels."""
    totals, squares = np.zeros((2, spec.view_shape[0] if spec.view_shape else 1))
    step = max(1, min(512, PIECE_VALUES // max(1, int(np.prod(spec.shape)))))
    for first in range(0, len(column), step):  # float32 is exact enough within a piece
        piece = column[first : first + step]
        if not isinstance(piece, np.ndarray):
            piece = np.stack([_decoded(file, spec) for file in piece])
        values = piece.reshape(len(piece) * spec.views, len(totals), -1).astype(np.float32)
        totals += values.sum((0, 2), dtype=np.float64)
        squares += np.einsum("ncp,ncp->c", values, values)
    return totals.tolist(), squares.tolist()


def _decoded(file: bytes, spec: Field) -> NDArray[np.uint8]:
    """The pixels [channels, height, width] of an image file."""
    channels, height, width = spec.shape
    pixels = np.empty((height, width, channels), np.uint8)
    codecs.IMAGE_DECODERS[spec.encoding](memoryview(file), pixels)
    return pixels.transpose(2, 0, 1)


def with_statistics(
    fields: Mapping[str, Field], rows: int, sums: Mapping[str, NDArray[np.float64]]
) -> dict[str, Field]:
    """Fields with mean and standard deviation over so many training rows, from the sums of these
    [2, channels]; those that have none stay as they are."""
    result = dict(fields)
    for name, spec in fields.items():
        if not rows or name not in sums:
            continue
        totals, squares = sums[name] / (rows * spec.views * int(np.prod(spec.view_shape[1:])))
        std = np.sqrt(np.maximum(squares - totals**2, 0))
        result[name] = replace(spec, mean=tuple(totals.tolist()), std=tuple(std.tolist()))
    return result


def train_sums(
    done: Sequence[Mapping[str, Any]],
) -> tuple[int, dict[str, NDArray[np.float64]]]:
    """The training rows of shards that are done, {"shard": …, "sums": …} of each, and the sums of
    their fields over them."""
    train = [entry for entry in done if entry["shard"]["split"] == "train"]
    names = train[0]["sums"] if train else []
    sums = {name: np.sum([entry["sums"][name] for entry in train], axis=0) for name in names}
    return sum(entry["shard"]["samples"] for entry in train), sums


def write_shard(url: str, name: str, split: str, samples: int, content: bytes) -> Shard:
    """Write a shard into the folder `url`, whole or not at all; its entry of a manifest."""
    storage.write(storage.join(url, name), content)
    digest = hashlib.sha256(content).hexdigest()
    return Shard(name=name, split=split, samples=samples, bytes=len(content), sha256=digest)


def forget_manifest(url: str) -> set[str]:
    """Delete the manifest of other shards, so that nobody reads a mixture; names of its shards."""
    try:
        old = {shard.name for shard in Manifest.load(url).shards}
    except ShardError:
        old = set()
    storage.remove(storage.join(url, MANIFEST))
    return old
