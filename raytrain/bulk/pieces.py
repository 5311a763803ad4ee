"""Shards in pieces: rows of one shard that are read, encoded and passed on together.

These functions run in Ray's tasks, which would spend seconds on importing torch.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raytrain import storage
from raytrain.data import codecs
from raytrain.data.manifest import FEATURE, Field, Shard, ShardError
from raytrain.data.packing import pack, write_shard
from raytrain.data.shards import COLUMNS, LONLAT, read_pieces

SHARD, ROWS, OBSERVED, REASONS = "shard", "rows", "observed", "reasons"
DONE = ".done.json"  # behind the name of a shard: what is known of it


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Shards to read: where, which, one field of them, and so many rows at a time."""

    url: str
    shards: list[Shard]
    layout: str
    name: str
    field: Field
    rows: int

    @property
    def are_texts(self) -> bool:
        return self.field.dtype == "str"

    def count(self, shard: Shard) -> int:
        """Pieces of a shard."""
        return -(-shard.samples // self.rows)


def decode(batch: dict[str, NDArray[np.int64]], pieces: Pieces) -> Iterator[dict[str, list[Any]]]:
    """The pieces of a shard, a row each: observations, places, and numbers in the shard; what
    cannot be used is left out, with the reasons."""
    (number,) = map(int, batch[SHARD])
    shard, fields = pieces.shards[number], {pieces.name: pieces.field}
    for index, (columns, skipped) in read_pieces(
        pieces.url, shard, fields, pieces.layout, pieces.rows
    ):
        observed = columns[pieces.name]
        yield {
            SHARD: [number],
            OBSERVED: [observed.tolist() if pieces.are_texts else codecs.encode_npy(observed)],
            ROWS: [codecs.encode_npy(np.setdiff1d(index, [skip.row for skip in skipped]))],
            LONLAT: [codecs.encode_npy(columns[LONLAT])],
            REASONS: [[skip.reason for skip in skipped]],
        }


def array(piece: pa.Table, name: str) -> NDArray[Any]:
    """An array of a piece, without a copy."""
    return codecs.decode_npy(memoryview(piece[name][0].as_buffer()))


def write(url: str, field: Field, shard: Shard, *pieces: pa.Table) -> None:
    """Pack the features of a shard's pieces, write them into a folder, and say beside them that the
    shard is done. Raises ShardError where no row of it could be used."""
    found, places = (np.concatenate([array(p, name) for p in pieces]) for name in (FEATURE, LONLAT))
    skipped = Counter(reason for piece in pieces for reason in piece[REASONS][0].as_py())
    if not len(found):
        reason = next(iter(skipped), "it is empty")
        raise ShardError(f"{shard.name}: no row of it can be used ({reason})")
    content, sums = pack(COLUMNS, places, {FEATURE: found}, {FEATURE: field})
    written = write_shard(url, shard.name, shard.split, len(found), content)
    entry: Mapping[str, Any] = {"shard": asdict(written), "sums": sums, "skipped": skipped}
    storage.write(storage.join(url, shard.name + DONE), json.dumps(entry).encode())
