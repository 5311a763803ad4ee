"""Features of shards by a frozen encoder: what they are made of, and whether they are there.

The features of the shards at URL lie in URL-features: a shard for each, with the same name, split,
places and order. `raytrain.bulk.featurize` makes them.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

from raytrain import settings, storage
from raytrain.data.cards import MINI, Card, features_url
from raytrain.data.manifest import MANIFEST, Field, Manifest, ShardError
from raytrain.encoders.frozen import AUTO, FrozenConfig, chosen
from raytrain.encoders.modality import FieldSpec
from raytrain.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features to be made, or made: of which shards, by which encoder, where. Picklable."""

    url: str  # of the shards that the encoder reads
    manifest: Manifest
    manifest_sha256: str
    field: str
    encoder: FrozenConfig
    output: str

    @property
    def read(self) -> Field:
        """What the encoder reads."""
        return self.manifest.field(self.field)

    @property
    def spec(self) -> FieldSpec:
        """The same, for the encoder."""
        read = self.read
        return FieldSpec(shape=read.shape, dtype=read.dtype, mean=read.mean, std=read.std)

    @property
    def views(self) -> int:
        """Views of each sample; one where the encoder has no such setting."""
        return getattr(self.encoder, "views", 1)

    @property
    def described(self) -> settings.Tree:
        """What a run asks of features, as their manifest's `source` has it."""
        encoder = settings.to_dict(self.encoder)
        return {"encoder": encoder, "field": self.field, "shards_sha256": self.manifest_sha256}

    def differences(self, found: Manifest) -> str:
        """In what features that are there are others than these, in words; "" in nothing."""
        wanted = self.described
        there = {key: found.source.get(key, {}) for key in wanted}
        return settings.differences(settings.flat(there), settings.flat(wanted))


@dataclass(frozen=True, kw_only=True)
class _Holder:
    encoder: FrozenConfig


def configured(values: settings.Tree) -> FrozenConfig:
    """An encoder by its `kind` and settings. Raises SettingsError."""
    return settings.build(_Holder, {"encoder": values}).encoder


def features_of(
    url: str,
    encoder: FrozenConfig | Literal["auto"],
    field: str | None = None,
    output: str | None = None,
) -> Features:
    """The features of the shards at `url` by an encoder or AUTO. Raises UserError."""
    url = storage.absolute(url)
    try:
        content = storage.read(storage.join(url, MANIFEST))
    except FileNotFoundError:
        raise ShardError(
            f"no shards in {url}; make them with `python -m raytrain.prepare CARD` first"
        ) from None
    manifest = Manifest.load(url)
    field = field or _only(manifest, url)
    read = manifest.field(field)
    spec = FieldSpec(shape=read.shape, dtype=read.dtype)
    return Features(
        url=url,
        manifest=manifest,
        manifest_sha256=hashlib.sha256(content).hexdigest(),
        field=field,
        encoder=chosen(encoder, spec),
        output=storage.absolute(output or features_url(url)),
    )


def features_of_card(card: Card, root: str) -> Features:
    """The features that a card's runs read, of shards that are there. Raises UserError."""
    try:
        return features_of(card.url(root), card.features or AUTO, card.field)
    except UserError as error:
        raise type(error)(f"{card.name}: {error}") from None


def problem(card: Card, root: str) -> str | None:
    """Why a run cannot read the features of a card that has some; None where it can.

    Features without the shards that they were made of are taken as they are.
    """
    url = card.observed_url(root)
    try:
        found = Manifest.load(url)
    except ShardError:
        return f"there are no features in {url}"
    if storage.size(storage.join(card.url(root), MANIFEST)) is None:
        return None
    changed = features_of_card(card, root).differences(found)
    return f"{url} holds other features ({changed})" if changed else None


def advice(card: Card, root: str) -> str:
    """How the features of a card are made."""
    where = "" if root == MINI else f" --root {root}"
    again = ", with --overwrite where others are there"
    return f"Make them with `python -m raytrain.featurize {card.command_name}{where}`{again}"


def _only(manifest: Manifest, url: str) -> str:
    if len(manifest.fields) != 1:
        names = ", ".join(manifest.fields)
        raise UserError(f"{url} has the fields {names}; name one of them with --field")
    return next(iter(manifest.fields))
