"""What a shard is: a WebDataset tar beside a manifest.json, and how its rows become columns.

Two layouts of one format, both readable by plain `webdataset`:

- "columns": members `{group}.lonlat.npy` [n, 2] float64 and `{group}.{field}.npy` [n, *shape].
  Many rows a member, so that a row costs no Python: the fast path.
- "samples": `{key}.json` {"lon": …, "lat": …} and `{key}.{field}.{npy|jpg|png|txt}`: one place.
"""

import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raytrain import geo, storage
from raytrain.data import codecs
from raytrain.data.codecs import CodecError
from raytrain.data.manifest import Field, Holdout, Manifest, Shard, ShardError

__all__ = [
    "Columns",
    "Field",
    "Holdout",
    "Manifest",
    "Shard",
    "ShardError",
    "Skipped",
    "places_of",
    "read_shard",
    "rows_of",
]

COLUMNS, SAMPLES = "columns", "samples"
LONLAT = "lonlat"


class Skipped(NamedTuple):
    """A row that could not be used: its number in the shard, its key, and why."""

    row: int
    key: str
    reason: str


Columns = tuple[dict[str, NDArray[Any]], list[Skipped]]


def read_shard(
    url: str,
    shard: Shard,
    fields: Mapping[str, Field],
    layout: str = COLUMNS,
    verify: bool = False,
    rows: NDArray[np.int64] | None = None,
) -> Columns:
    """Decode a shard of the folder `url` into columns: "lonlat" [n, 2] float64 in degrees, and
    every field of `fields` [n, *shape] in its own dtype (text: an object array of str).

    With `rows` (indices into the shard) only these are decoded, in that order. Rows that cannot be
    decoded or whose coordinates are no place are left out and returned as Skipped. With `verify`
    the shard's sha256 is checked first. What came over a network and is not as it should be is
    fetched once more, and then checked. Raises ShardError, which names the shard.
    """
    where = storage.join(url, shard.name)
    try:
        return _decoded(where, shard, fields, layout, verify, rows)
    except ShardError:
        if storage.is_local(where):
            raise
        return _decoded(where, shard, fields, layout, True, rows)


def _decoded(
    where: str,
    shard: Shard,
    fields: Mapping[str, Field],
    layout: str,
    verify: bool,
    rows: NDArray[np.int64] | None,
) -> Columns:
    return _columns(where, shard, _content(where, shard, verify), fields, layout, rows)


def read_pieces(
    url: str, shard: Shard, fields: Mapping[str, Field], layout: str, rows: int
) -> Iterator[tuple[NDArray[np.int64], Columns]]:
    """What `read_shard` gives, so many rows at a time, with their numbers in the shard; it is
    fetched and checked by its sha256 once."""
    where = storage.join(url, shard.name)
    try:
        buffer = _content(where, shard, verify=True)
    except ShardError:
        if storage.is_local(where):
            raise
        buffer = _content(where, shard, verify=True)
    for first in range(0, shard.samples, rows):
        index = np.arange(first, min(first + rows, shard.samples))
        yield index, _columns(where, shard, buffer, fields, layout, index)


def _columns(
    where: str,
    shard: Shard,
    buffer: memoryview,
    fields: Mapping[str, Field],
    layout: str,
    rows: NDArray[np.int64] | None,
) -> Columns:
    read = _read_columns if layout == COLUMNS else _read_samples
    try:
        columns, skipped = _drop_bad_places(*read(buffer, fields, rows, shard.samples), rows)
    except (ValueError, MemoryError) as error:
        raise ShardError(f"{where} is damaged: {error}. {_MEND}") from None
    if skipped and not storage.is_local(where):
        _check_sha256(where, shard, buffer)  # rows are left out only where they were written so
    return columns, skipped


def places_of(content: Columns, shard: Shard) -> NDArray[np.float64]:
    """The places [samples, 2] of a shard that was read as a whole; NaN for rows of no use."""
    columns, skipped = content
    lonlat_deg = np.full((shard.samples, 2), np.nan)
    lonlat_deg[np.delete(np.arange(shard.samples), [skip.row for skip in skipped])] = columns[
        LONLAT
    ]
    return lonlat_deg


def rows_of(content: Columns, shard: Shard, rows: NDArray[np.int64]) -> Columns:
    """What `read_shard` gives for these rows, of a shard that was read as a whole."""
    columns, skipped = content
    if not skipped:
        return {name: column[rows] for name, column in columns.items()}, []
    bad = [skip.row for skip in skipped]
    position = np.full(shard.samples, -1)
    position[np.delete(np.arange(shard.samples), bad)] = np.arange(shard.samples - len(bad))
    at = position[rows]
    return {name: column[at[at >= 0]] for name, column in columns.items()}, [
        skip for skip in skipped if skip.row in rows
    ]


def check_shards(url: str, manifest: Manifest) -> None:
    """Raise ShardError unless every shard of the manifest is there in its full length."""
    found = storage.sizes(url)
    for shard in manifest.shards:
        _check_size(storage.join(url, shard.name), shard, found.get(shard.name))


def _check_size(where: str, shard: Shard, size: int | None) -> None:
    if size is None:
        raise ShardError(f"{where} is missing, but the manifest names it. {_MEND}")
    if size != shard.bytes:
        problem = "truncated" if size < shard.bytes else "changed"
        raise ShardError(
            f"{where} is {problem}: {size:,} bytes, the manifest says {shard.bytes:,}. {_MEND}"
        )


_MEND = "Copy it again, or delete it and run `python -m raytrain.prepare` again"


def _check_sha256(where: str, shard: Shard, buffer: memoryview) -> None:
    if (digest := hashlib.sha256(buffer).hexdigest()) != shard.sha256:
        raise ShardError(
            f"{where} is changed: its sha256 is {digest[:16]}…, the manifest says "
            f"{shard.sha256[:16]}…. {_MEND}"
        )


def _content(where: str, shard: Shard, verify: bool) -> memoryview:
    try:
        if storage.is_local(where):
            with open(where, "rb") as file:
                buffer = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        else:
            buffer = memoryview(storage.read(where))
    except FileNotFoundError:
        raise ShardError(f"{where} is missing, but the manifest names it. {_MEND}") from None
    except ValueError:  # an empty file cannot be mapped
        buffer = memoryview(b"")
    _check_size(where, shard, len(buffer))
    if verify:
        _check_sha256(where, shard, buffer)
    return buffer


def _read_columns(
    buffer: memoryview, fields: Mapping[str, Field], rows: NDArray[np.int64] | None, samples: int
) -> Columns:
    wanted = {LONLAT: Field(dtype="float64", shape=(2,)), **fields}
    groups: dict[str, list[NDArray[Any]]] = {name: [] for name in wanted}
    for member, content in codecs.tar_members(buffer):
        name = member.partition(".")[2].removesuffix(".npy")
        if name in groups:
            try:
                groups[name].append(codecs.decode_npy(content))
            except CodecError as error:
                raise CodecError(f"member `{member}`: {error}") from None
    for name, field in wanted.items():
        _check_groups(name, groups[name], field, samples)
    return {name: _gather(groups[name], rows) for name in wanted}, []


def _check_groups(name: str, groups: list[NDArray[Any]], field: Field, samples: int) -> None:
    for group in groups:
        if group.dtype != field.dtype or group.shape[1:] != field.shape:
            found, wanted = (group.dtype, [*group.shape[1:]]), (field.dtype, [*field.shape])
            raise CodecError(f"`{name}` holds {found}, the manifest says {wanted}")
    if (found_rows := sum(map(len, groups))) != samples:
        raise CodecError(f"`{name}` has {found_rows} rows, the manifest says {samples}")


def _gather(groups: list[NDArray[Any]], rows: NDArray[np.int64] | None) -> NDArray[Any]:
    if rows is None:
        return np.concatenate(groups)
    taken = np.empty((len(rows), *groups[0].shape[1:]), groups[0].dtype)
    first = 0
    for group in groups:
        here = np.flatnonzero((rows >= first) & (rows < first + len(group)))
        taken[here] = group[rows[here] - first]
        first += len(group)
    return taken


def _read_samples(
    buffer: memoryview, fields: Mapping[str, Field], rows: NDArray[np.int64] | None, samples: int
) -> Columns:
    members: dict[str, dict[str, memoryview]] = {}
    for name, content in codecs.tar_members(buffer):
        key, _, suffix = name.partition(".")
        members.setdefault(key, {})[suffix] = content
    if len(members) != samples:
        raise CodecError(f"has {len(members)} samples, the manifest says {samples}")
    keys = list(members)
    chosen = np.arange(samples) if rows is None else rows
    columns = {LONLAT: np.full((len(chosen), 2), np.nan)}
    columns |= {name: _empty_column(field, len(chosen)) for name, field in fields.items()}
    skipped = []
    for position, row in enumerate(chosen.tolist()):
        try:
            _decode_sample(keys[row], members[keys[row]], fields, columns, position)
        except CodecError as error:
            columns[LONLAT][position] = 0.0
            skipped.append(Skipped(position, keys[row], str(error)))
    images = {name for name, field in fields.items() if field.encoding in codecs.IMAGE_DECODERS}
    for name in images:  # a view: decoders write rows of pixels, fields are [channels, h, w]
        columns[name] = columns[name].transpose(0, 3, 1, 2)
    return columns, skipped


def _empty_column(field: Field, n: int) -> NDArray[Any]:
    if field.encoding == "txt":
        return np.empty(n, object)
    channels, *rest = field.shape or (1,)
    is_image = field.encoding in codecs.IMAGE_DECODERS
    return np.zeros((n, *rest, channels) if is_image else (n, *field.shape), field.dtype)


def _decode_sample(
    key: str,
    sample: dict[str, memoryview],
    fields: Mapping[str, Field],
    columns: dict[str, NDArray[Any]],
    position: int,
) -> None:
    suffix = "json"
    try:
        place = json.loads(bytes(sample[suffix]))
        columns[LONLAT][position] = place["lon"], place["lat"]
        for name, field in fields.items():
            suffix = f"{name}.{field.encoding}"
            content = sample[suffix]
            if field.encoding == "txt":
                columns[name][position] = str(content, "utf-8")
            else:
                decode = codecs.IMAGE_DECODERS.get(field.encoding, codecs.decode_array)
                decode(content, columns[name][position])
    except KeyError as error:
        raise CodecError(f"`{key}` has no {error}") from None
    except Exception as error:  # decoders raise what they like of bytes that are not theirs
        raise CodecError(f"`{key}.{suffix}`: {error}") from None


def _drop_bad_places(
    columns: dict[str, NDArray[Any]], skipped: list[Skipped], rows: NDArray[np.int64] | None
) -> Columns:
    good = geo.valid_lonlat(columns[LONLAT])
    for position in np.flatnonzero(~good).tolist():
        reason = geo.find_bad_lonlat(columns[LONLAT][position : position + 1]) or ""
        skipped.append(Skipped(position, f"row {position}", reason.split(": ", 1)[-1]))
    if not skipped:
        return columns, []
    good[[skip.row for skip in skipped]] = False
    in_shard = skipped if rows is None else [s._replace(row=int(rows[s.row])) for s in skipped]
    return {name: column[good] for name, column in columns.items()}, sorted(in_shard)
