"""The shards of all modalities, as every node sees them."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import ray

from raytrain import storage
from raytrain.checks.finding import Finding
from raytrain.checks.nodes import Node, everywhere
from raytrain.data import features
from raytrain.data.cards import Card
from raytrain.data.manifest import MANIFEST, Manifest, ShardError
from raytrain.data.shards import check_shards, read_shard
from raytrain.errors import UserError

NAME = "data"
LEAST_BYTES_PER_S = 5e6  # of a node that reads all shards; a slower one is given up


class Seen(NamedTuple):
    """A modality's shards on a node: what its manifest says, or what is wrong with them."""

    problem: str = ""
    are_missing: bool = False
    digest: str = ""  # of the manifest, which has those of all shards
    samples: int = 0
    bytes: int = 0
    lacks: str = ""


def data_findings(cards: Mapping[str, Card], root: str, nodes: list[Node]) -> Iterator[Finding]:
    """Manifests, sizes of all shards, licence and credit of each card's shards."""
    urls = {name: card.observed_url(root) for name, card in cards.items()}
    looked = everywhere(nodes, look, urls)
    for node, problem in looked.failed.items():
        yield Finding(NAME, "red", f"{node}: {problem}")
    drivers = {node.name for node in nodes if node.is_here}
    for name, card in cards.items():
        seen = {node: there[name] for node, there in looked.given.items()}
        missing = {node for node, s in seen.items() if s.are_missing}
        if card.features and not missing and (stale := features.problem(card, root)):
            yield Finding(NAME, "red", f"{name}: {stale}", features.advice(card, root))
            continue
        for node in drivers & missing if _are_made(card, root) else ():
            del seen[node]
            made = "features, on first use" if card.features else "shards, in seconds"
            yield Finding(NAME, "green", f"{name}: the run makes its {made}")
        yield from _of_modality(name, seen)


def _are_made(card: Card, root: str) -> bool:
    """Whether a run makes what is missing by itself."""
    raw = storage.size(storage.join(card.url(root), MANIFEST)) is not None
    return card.is_embedded(root) or (card.features is not None and raw)


def _of_modality(name: str, seen: Mapping[str, Seen]) -> Iterator[Finding]:
    problems: dict[str, list[str]] = {}
    for node, s in seen.items():
        if s.problem:
            problems.setdefault(s.problem, []).append(node)
    for problem, on in problems.items():
        where = f"{', '.join(on)}: " if len(seen) > 1 else ""
        yield Finding(NAME, "red", f"{where}{name}: {problem}")
    whole = {node: s for node, s in seen.items() if not s.problem}
    if len({s.digest for s in whole.values()}) > 1:
        differ = ", ".join(f"{node} has {s.digest[:8]}…" for node, s in whole.items())
        remedy = "copy one node's shards to the others, or keep them on S3"
        yield Finding(NAME, "red", f"{name}: shards differ between nodes: {differ}", remedy)
    elif whole and not problems:
        s = next(iter(whole.values()))
        yield Finding(NAME, "green", f"{name}: {s.samples:,} places, {s.bytes / 1e6:,.1f} MB")
        if s.lacks:
            remedy = f"add {s.lacks} to the card and prepare the modality again"
            yield Finding(NAME, "yellow", f"{name}: its manifest has no {s.lacks}", remedy)


def look(urls: Mapping[str, str]) -> dict[str, Seen]:
    """The shards of all modalities, seen from the node that this runs on."""
    return {name: _seen(url) for name, url in urls.items()}


def _seen(url: str) -> Seen:
    try:
        missing = storage.size(storage.join(url, MANIFEST)) is None
        manifest = Manifest.load(url)
        check_shards(url, manifest)
    except ShardError as error:
        return Seen(problem=str(error), are_missing=missing)
    except UserError as error:
        return Seen(problem=str(error))
    return Seen(
        digest=hashlib.sha256(manifest.to_json().encode()).hexdigest(),
        samples=manifest.samples("train") + manifest.samples("val"),
        bytes=_bytes(manifest),
        lacks=" and ".join(term for term in ("licence", "credit") if not getattr(manifest, term)),
    )


def content_findings(cards: Mapping[str, Card], root: str, nodes: list[Node]) -> Iterator[Finding]:
    """All shards read whole and compared with their sha256: where they are files, by every node,
    else by one of the nodes each. Takes as long as that takes."""
    urls = [card.observed_url(root) for card in cards.values()]
    urls = [url for url in urls if storage.size(storage.join(url, MANIFEST)) is not None]
    total = sum(_bytes(Manifest.load(url)) for url in urls)
    began = time.monotonic()
    order = [node.id for node in nodes]
    read = everywhere(nodes, damaged, urls, order, seconds=60 + total / LEAST_BYTES_PER_S)
    problems = {f"{node}: {problem}" for node, problem in read.failed.items()}
    problems |= {problem for found in read.given.values() for problem in found}
    for problem in sorted(problems):
        yield Finding("content", "red", problem)
    if not problems:
        words = (
            f"{total / 1e6:,.1f} MB are what the manifests say, in {time.monotonic() - began:.0f} s"
        )
        yield Finding("content", "green", words)


def damaged(urls: list[str], order: list[str]) -> list[str]:
    """What is wrong with the content of this node's part of the shards."""
    part, parts = order.index(ray.get_runtime_context().get_node_id()), len(order)
    problems = []
    for url in urls:
        manifest = Manifest.load(url)
        mine = manifest.shards if storage.is_local(url) else manifest.shards[part::parts]
        for shard in mine:
            try:
                read_shard(url, shard, {}, manifest.layout, verify=True)
            except UserError as error:
                problems.append(str(error))
    return problems


def _bytes(manifest: Manifest) -> int:
    return sum(shard.bytes for shard in manifest.shards)
