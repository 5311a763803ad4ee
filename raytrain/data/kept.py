"""Shards kept decoded in Ray's object store: read from disk or S3 once, and then shared by all
processes of a node without a copy. For many runs on the same data, such as the trials of a sweep.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import RayTaskError

from raytrain.data.shards import Columns, Shard, read_shard
from raytrain.errors import UserError

if TYPE_CHECKING:
    from raytrain.data.streams import Stream

Kept = Mapping[str, Any]
"""References to decoded shards in the object store, by the URL of the shard."""

SHARE = 0.6  # of a node's object store; the rest is for what else passes through it
PLACE_BYTES = 16


class Sharing(NamedTuple):
    """What was kept, how many bytes of shards were read for it, and that in words."""

    kept: Kept
    bytes_read: int
    words: str


def keep(streams: Iterable["Stream"]) -> Sharing:
    """Decode all shards of the streams into the object store, by Ray tasks; shards that are in
    several streams once. Where they do not fit on every node, nothing is kept.

    Raises ShardError for a damaged shard.
    """
    shards = {s.shard_url(shard): (s, shard) for s in streams for shard in s.manifest.shards}
    needed = sum(_decoded_bytes(stream, shard) for stream, shard in shards.values())
    room = SHARE * min(
        node["Resources"].get("object_store_memory", 0.0) for node in ray.nodes() if node["Alive"]
    )
    if needed > room:
        words = (
            f"{needed / 1e9:.1f} GB of decoded shards do not fit into the object store, with "
            f"room for {room / 1e9:.1f} GB of them; every run reads its shards itself"
        )
        return Sharing({}, 0, words)
    read = ray.remote(num_cpus=1)(_read)
    kept = {url: read.remote(*found) for url, found in shards.items()}
    try:
        ray.get([*kept.values()])
    except RayTaskError as error:
        raise error.cause if isinstance(error.cause, UserError) else error from None
    total = sum(shard.bytes for _, shard in shards.values())
    return Sharing(kept, total, f"{total / 1e6:,.0f} MB of shards read once, for all runs")


def content_of(reference: Any) -> Columns:
    """What `read_shard` gives for all rows of a shard that is kept."""
    content: Columns = ray.get(reference)
    return content


def _read(stream: "Stream", shard: Shard) -> Columns:
    return read_shard(stream.url, shard, stream.fields, stream.manifest.layout, stream.verify)


def _decoded_bytes(stream: "Stream", shard: Shard) -> int:
    row = sum(
        int(np.prod(field.shape)) * np.dtype(field.dtype).itemsize
        for field in stream.fields.values()
    )
    return shard.samples * (PLACE_BYTES + row)
