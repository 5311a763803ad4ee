"""The storage of runs, as every node sees it."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import ray

from raytrain import storage
from raytrain.checks.finding import Finding
from raytrain.checks.nodes import Node, everywhere
from raytrain.errors import UserError

NAME = "storage"
OBJECT_MB = 16  # 10⁶ bytes
SHARED = (
    "on several nodes `storage` must be a file system that all share, mounted at the same path, "
    "or s3://…"
)


class Rate(NamedTuple):
    """MB/s of one stream; a file system may read from its cache."""

    write: float
    read: float


def storage_findings(url: str, nodes: list[Node]) -> Iterator[Finding]:
    """Every node writes an object, reads it back, sees those of the others and deletes its own."""
    folder = storage.join(storage.absolute(url), f".doctor-{secrets.token_hex(4)}")
    written = everywhere(nodes, write_and_read, folder)
    yield from _red(written.failed)
    able = [node for node in nodes if node.name in written.given]
    listed = everywhere(able, seen, folder)
    yield from _red(listed.failed)
    everyone = {node.id for node in able}
    blind = {
        name: f"does not see in {url} what other nodes wrote there"
        for name, there in listed.given.items()
        if not everyone <= there
    }
    yield from _red(blind, SHARED)
    cleared = everywhere(able, clear, folder)
    yield from _red(cleared.failed)
    if len(cleared.given) == len(nodes) and not listed.failed and not blind:
        write, read = map(min, zip(*written.given.values(), strict=True))
        rate = f"{OBJECT_MB} MB written at {write:,.0f} MB/s, read at {read:,.0f} MB/s"
        slowest = " by the slowest node" * (len(nodes) > 1)
        yield Finding(NAME, "green", f"{url} is written, read, listed, deleted; {rate}{slowest}")


def _red(problems: dict[str, str], remedy: str = "") -> Iterator[Finding]:
    for node, problem in problems.items():
        yield Finding(NAME, "red", f"{node}: {problem}", remedy)


def write_and_read(folder: str) -> Rate:
    """Of this node's object in a folder. Raises StorageError, or UserError where it changes."""
    url, content = storage.join(_own(folder), "object"), os.urandom(OBJECT_MB * 10**6)
    began = time.perf_counter()
    storage.write(url, content)
    between = time.perf_counter()
    if storage.read(url) != content:
        raise UserError(f"{url} is not read as it was written; this storage cannot be used")
    ended = time.perf_counter()
    return Rate(OBJECT_MB / (between - began), OBJECT_MB / (ended - between))


def seen(folder: str) -> set[str]:
    """The ids of the nodes whose objects this node sees."""
    return {*storage.folders(folder, "")}


def clear(folder: str) -> None:
    """Delete this node's object, and the folder after the last of them."""
    storage.remove(storage.join(_own(folder), "object"))
    if storage.is_local(folder):
        os.rmdir(_own(folder))
        with suppress(OSError):  # others are still there
            os.rmdir(folder)


def _own(folder: str) -> str:
    return storage.join(folder, ray.get_runtime_context().get_node_id())
