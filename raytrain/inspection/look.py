"""Looking at a folder of shards: a seeded sample of them, in bounded memory and time."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytrain import storage
from raytrain.data.manifest import Field, Manifest, Shard, ShardError
from raytrain.data.shards import LONLAT, check_shards, read_shard
from raytrain.inspection.tally import Numbers, Texts
from raytrain.storage import StorageError

REPORT = "report.json"  # what `prepare` says of the raw data, beside the manifest
MOST_BYTES = 64_000_000  # of decoded rows at a time
MOST_ROWS, MOST_TEXTS = 8192, 1024  # of a shard
SHOWN = 24  # samples on the sheet


@dataclass(frozen=True)
class Sample:
    """A place [2] and what was observed there, by field."""

    lonlat_deg: NDArray[np.float64]
    observed: dict[str, Any]


@dataclass(kw_only=True)
class Look:
    """What was seen of the shards in a folder or at a URL. `skipped` counts rows of no use by
    reason, with one of them; `problems` are shards that are not what the manifest says."""

    url: str
    manifest: Manifest
    shards: tuple[Shard, ...]  # that were looked at
    lonlat_deg: NDArray[np.float64]  # n 2
    is_val: NDArray[np.bool_]  # n
    fields: dict[str, Numbers | Texts]  # values of training rows
    samples: list[Sample] = field(default_factory=list)
    skipped: dict[str, tuple[int, str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    report: Any = None

    @property
    def rows(self) -> int:
        """Rows looked at, those of no use among them."""
        return len(self.lonlat_deg) + sum(count for count, _ in self.skipped.values())

    @property
    def samples_in_all(self) -> int:
        return sum(shard.samples for shard in self.manifest.shards)

    @property
    def is_whole(self) -> bool:
        """Whether all there is was looked at."""
        return self.rows == self.samples_in_all


def look(url: str, most_shards: int = 16, seed: int = 0) -> Look:
    """Look at no more than `most_shards` shards (at least one of each split), drawn by `seed`, and
    at a part of the rows of those that are large. Their sha256 are compared with the manifest.

    Raises ShardError where there is no manifest; damaged shards are problems of the Look.
    """
    manifest = Manifest.load(url)
    _check_fields(url, manifest)
    rng = np.random.default_rng(seed)
    shards = _chosen(manifest, most_shards, rng)
    train = sum(shard.split == "train" for shard in shards)
    fields = {name: _tally(spec, train, rng) for name, spec in manifest.fields.items()}
    seen = Look(
        url=url,
        manifest=manifest,
        shards=shards,
        lonlat_deg=np.empty((0, 2)),
        is_val=np.empty(0, bool),
        fields=fields,
        report=_report(url),
    )
    try:
        check_shards(url, manifest)
    except (ShardError, FileNotFoundError) as error:
        seen.problems.append(str(error))
    for shard in shards:
        try:
            _look_into(seen, shard, -(-SHOWN // len(shards)), rng)
        except (ShardError, StorageError) as error:
            if str(error) not in seen.problems:
                seen.problems.append(str(error))
    return seen


def _check_fields(url: str, manifest: Manifest) -> None:
    """Raise ShardError for types that nothing can be counted of, and for shapes beyond memory."""
    for name, spec in manifest.fields.items():
        if spec.encoding == "txt":
            continue
        try:
            is_number = np.dtype(spec.dtype).kind in "biuf"
        except TypeError:
            is_number = False
        if not is_number or not 0 <= int(np.prod(spec.shape, dtype=float)) <= MOST_BYTES:
            raise ShardError(
                f"{url}: the manifest says that `{name}` holds {spec.dtype}{[*spec.shape]}, which "
                "are no numbers or too many in a row"
            )


def _chosen(manifest: Manifest, most: int, rng: np.random.Generator) -> tuple[Shard, ...]:
    """Of both splits in their proportion, in a random order."""
    train, val = manifest.shards_of("train"), manifest.shards_of("val")
    share = len(val) / max(1, len(train) + len(val))
    of_val = min(len(val), max(1, round(most * share)))
    of_train = min(len(train), max(1, most - of_val))
    chosen = [train[i] for i in rng.permutation(len(train))[:of_train]]
    chosen += [val[i] for i in rng.permutation(len(val))[:of_val]]
    return tuple(chosen[i] for i in rng.permutation(len(chosen)))


def _tally(spec: Field, shards: int, rng: np.random.Generator) -> Numbers | Texts:
    return Texts() if spec.encoding == "txt" else Numbers(spec, shards, rng)


def _look_into(seen: Look, shard: Shard, shown: int, rng: np.random.Generator) -> None:
    manifest = seen.manifest
    rows = rng.permutation(shard.samples)[: _most_rows(manifest)]
    columns, skipped = read_shard(
        seen.url, shard, manifest.fields, manifest.layout, verify=True, rows=rows
    )
    for row in skipped:
        reason = _kind(row.reason)
        count, first = seen.skipped.get(reason, (0, f"{shard.name}, {row.key}"))
        seen.skipped[reason] = (count + 1, first)
    places = columns[LONLAT]
    seen.lonlat_deg = np.concatenate([seen.lonlat_deg, places])
    seen.is_val = np.concatenate([seen.is_val, np.full(len(places), shard.split == "val")])
    if shard.split == "train":
        for name, tally in seen.fields.items():
            tally.add(columns[name])
    for i in range(min(shown, len(places), SHOWN - len(seen.samples))):
        observed = {name: _own(columns[name][i]) for name in manifest.fields}
        seen.samples.append(Sample(places[i].copy(), observed))


def _kind(reason: str) -> str:
    """A reason without the name of its row and its figures: the same for all rows of its kind."""
    words = reason.partition("`: ")[2] or reason
    return re.sub(r"(?<!\w)(-?\d[\d.,]*|nan|-?inf)(?!\w)", "…", words)


def _own(value: Any) -> Any:
    """Not a view, which would keep a whole shard."""
    return np.array(value) if isinstance(value, np.ndarray) else value


def _most_rows(manifest: Manifest) -> int:
    """Of a shard: as many as fit into memory."""
    row = sum(
        int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
        for spec in manifest.fields.values()
        if spec.encoding != "txt"
    )
    texts = any(spec.encoding == "txt" for spec in manifest.fields.values())
    return max(1, min(MOST_TEXTS if texts else MOST_ROWS, MOST_BYTES // max(1, row)))


def _report(url: str) -> Any:
    """What lies beside the manifest of the raw data, if anything does."""
    try:
        return json.loads(storage.read(storage.join(url, REPORT)))
    except FileNotFoundError:
        return None
    except ValueError as error:
        return {"cannot be read": str(error)}
