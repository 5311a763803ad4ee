"""A folder of feature shards that an interrupted command goes on with.

Beside each shard that is done lies what the manifest will say of it, until all are: then the
manifest is written. Every file appears complete or not at all.
"""

import json
from collections import Counter
from typing import Any

from raytrain import settings, storage
from raytrain.bulk.pieces import DONE
from raytrain.data.features import Features
from raytrain.data.manifest import FEATURE, MANIFEST, Field, Manifest, Shard, ShardError
from raytrain.data.packing import train_sums, with_statistics
from raytrain.data.shards import check_shards
from raytrain.data.writer import PROGRESS
from raytrain.encoders.frozen import FrozenEncoder
from raytrain.errors import UserError


class FeaturesFolder:
    """The folder or URL for features, new or to be gone on with. `manifest` is there where they are
    complete; else `done` holds by name what is known of the shards that are.

    With `overwrite` features that are there go. Raises UserError where there are others, or shards
    of another kind.
    """

    def __init__(self, features: Features, encoder: FrozenEncoder, overwrite: bool) -> None:
        self.features, self.url, self.batch = features, features.output, encoder.batch
        self.field = Field(
            dtype="float16",
            shape=(features.views, encoder.dim) if features.views > 1 else (encoder.dim,),
            units=f"features by {features.encoder.kind}",
            views=features.views,
        )
        self.source = _plain(source(features, encoder))
        self.manifest = self._manifest(overwrite)
        self.done: dict[str, dict[str, Any]] = {}
        if self.manifest is None:
            self._open(overwrite)

    @property
    def skipped(self) -> dict[str, int]:
        """Rows of the raw shards that could not be used, by reason."""
        if self.manifest is not None:
            return dict(self.manifest.source["skipped"])
        return dict(sum((Counter(entry["skipped"]) for entry in self.done.values()), Counter()))

    @property
    def rows(self) -> int:
        """Of the feature shards that are there."""
        if self.manifest is not None:
            return sum(shard.samples for shard in self.manifest.shards)
        return sum(entry["shard"]["samples"] for entry in self.done.values())

    def add(self, name: str) -> None:
        """A shard is done: read what is known of it."""
        self.done[name] = json.loads(storage.read(storage.join(self.url, name + DONE)))

    def finish(self) -> None:
        """Write the manifest of all shards, in the order of those that were read. Raises UserError
        where some are not there, since other nodes wrote them to disks of their own."""
        entries = [self.done[shard.name] for shard in self.features.manifest.shards]
        raw, encoder = self.features.manifest, self.features.encoder
        manifest = Manifest(
            modality=raw.modality,
            layout="columns",
            fields=with_statistics({FEATURE: self.field}, *train_sums(entries)),
            shards=tuple(Shard(**entry["shard"]) for entry in entries),
            holdout=raw.holdout,
            source={**self.source, "skipped": self.skipped},
            licence=_joined(raw.licence, encoder.licence),
            credit=_joined(raw.credit, encoder.credit or encoder.kind),
        )
        try:
            check_shards(self.url, manifest)
        except ShardError as error:
            raise UserError(
                f"{error} Shards that other nodes wrote are on their disks: give --output a URL, "
                "or a folder that all nodes share"
            ) from None
        storage.write(storage.join(self.url, MANIFEST), manifest.to_json().encode())
        for name in [PROGRESS, *(name + DONE for name in self.done)]:
            storage.remove(storage.join(self.url, name))
        self.manifest = manifest

    def _manifest(self, overwrite: bool) -> Manifest | None:
        """That of the complete features that are there, if it is to stay."""
        if storage.size(storage.join(self.url, MANIFEST)) is None:
            return None
        found = Manifest.load(self.url)
        if "encoder" not in found.source:
            raise UserError(f"{self.url} holds shards that are no features; name another --output")
        if overwrite:
            self._empty()
            return None
        same_weights = {"weights_sha256": self.source["weights_sha256"]}
        changed = self.features.differences(found) or settings.differences(
            {"weights_sha256": found.source.get("weights_sha256")}, same_weights
        )
        if changed:
            raise self._refused("features", changed)
        check_shards(self.url, found)
        return found

    def _open(self, overwrite: bool) -> None:
        progress = storage.join(self.url, PROGRESS)
        if storage.size(progress) is not None:
            begun = json.loads(storage.read(progress))["source"]
            changed = settings.differences(settings.flat(begun), settings.flat(self.source))
            if overwrite:
                self._empty()
            elif changed:
                raise self._refused("a part of features", changed)
            else:
                self._take_up()
                return
        storage.write(progress, json.dumps({"source": self.source}, indent=1).encode())

    def _take_up(self) -> None:
        """Find the shards that are done."""
        sizes = storage.sizes(self.url)
        for shard in self.features.manifest.shards:
            if shard.name + DONE in sizes:
                self.add(shard.name)
                if sizes.get(shard.name) != self.done[shard.name]["shard"]["bytes"]:
                    del self.done[shard.name]

    def _empty(self) -> None:
        """Remove features; the manifest first, so that nobody reads a mixture."""
        names = [n for n in storage.sizes(self.url) if n.endswith((".tar", DONE)) or n == PROGRESS]
        for name in [MANIFEST, *names]:
            storage.remove(storage.join(self.url, name))

    def _refused(self, what: str, changed: str) -> UserError:
        return UserError(
            f"{self.url} holds {what} by other settings ({changed}); name another --output, or "
            "give --overwrite"
        )


def source(features: Features, encoder: FrozenEncoder) -> settings.Tree:
    """All that features are determined by."""
    about = dict(encoder.about)
    return {
        **features.described,
        "weights_sha256": about.pop("weights_sha256"),
        "versions": about.pop("versions"),
        "resolved": about,
        "dtype": "float16",
        "computed_in": "float32",
        "shards": features.manifest.source,
    }


def _joined(raw: str, encoder: str) -> str:
    return "; ".join(filter(None, (raw, f"encoder: {encoder}" if encoder else "")))


def _plain(values: settings.Tree) -> settings.Tree:
    """As JSON gives it back."""
    plain: settings.Tree = json.loads(json.dumps(values))
    return plain
