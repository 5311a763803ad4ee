"""Cards: one YAML file a modality says where its shards are, how they are encoded and made."""

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from raytrain import settings, storage
from raytrain.data.augment import AugmentConfig
from raytrain.data.manifest import FEATURE
from raytrain.data.sources.encoders import EncoderSource
from raytrain.data.sources.photos import PhotosSource
from raytrain.data.sources.places import PlacesSource
from raytrain.data.sources.points import PointsSource
from raytrain.data.sources.rasters import RasterSource
from raytrain.data.sources.tables import TableSource
from raytrain.data.sources.texts import TextSource
from raytrain.data.sources.tiles import TilesSource
from raytrain.data.sources.webdatasets import WebdatasetSource
from raytrain.encoders.frozen import AUTO, FrozenConfig
from raytrain.encoders.modality import MLPTowerConfig, TowerConfig
from raytrain.errors import UserError
from raytrain.storage import datasets_dir

__all__ = ["Card", "CardError", "Source", "datasets_dir", "load_card", "load_cards", "root_url"]

Source = (
    RasterSource
    | TableSource
    | TextSource
    | TilesSource
    | PhotosSource
    | WebdatasetSource
    | PointsSource
    | PlacesSource
    | EncoderSource
)

MINI, EARTH = "earth-mini", "earth"
LIKE = "like"
NOT_PORTABLE = ("folder", "command_name")  # settings that differ between machines


class CardError(UserError):
    """A card that does not exist."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A modality. `name` is that of the YAML file unless given; `folder` is where the file lies.

    `shards` is a folder of data.root, an absolute path or a URL (default: the name); `field` the
    observation in its manifest. `source` says how `python -m raytrain.prepare` makes the shards;
    `mini` changes settings of it for earth-mini. `leaks` names the tasks whose labels it contains.

    With `features`, a frozen encoder (`auto`: efficientnet-lite0 for images, minilm for texts),
    training reads features of the observations, which `python -m raytrain.featurize` makes. A card
    that is `like` another, named so in its file, has all that it does not say from that one.
    `command_name` is what the card is called on a command line.
    """

    name: str
    folder: Path
    command_name: str = ""
    shards: str = ""
    field: str = "observation"
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    tower: TowerConfig = dataclasses.field(default_factory=MLPTowerConfig)
    source: Source | None = None
    mini: dict[str, Any] = dataclasses.field(default_factory=dict)
    licence: str = ""
    credit: str = ""
    leaks: tuple[str, ...] = ()
    features: FrozenConfig | Literal["auto"] | None = None

    def url(self, root: str) -> str:
        """Where the shards are, for a `data.root`."""
        return storage.absolute(storage.join(root_url(root), self.shards or self.name))

    def observed_url(self, root: str) -> str:
        """Where the shards are that training reads: those of the features, if it has any."""
        return features_url(self.url(root)) if self.features else self.url(root)

    @property
    def observed_field(self) -> str:
        """The field of these that training reads."""
        return FEATURE if self.features else self.field

    @property
    def observed_augment(self) -> AugmentConfig:
        """How these are augmented. Features are not: they may have views instead."""
        return AugmentConfig() if self.features else self.augment

    def is_embedded(self, root: str) -> bool:
        """Whether the shards are made on first use: for earth-mini, of what lies in datasets/, and
        of any raster."""
        shipped = self.folder == datasets_dir().resolve()
        return root == MINI and (shipped or isinstance(self.source, RasterSource))

    def source_for(self, root: str) -> Source | None:
        """How the shards are made: as the card says, for earth-mini with the changes of `mini`."""
        if self.source is None or root != MINI:
            return self.source
        as_it_is = {"source": settings.to_dict(self.source)}
        changed = settings.with_paths(as_it_is, settings.flat({"source": self.mini}))
        return settings.build(_Holder, changed, f"{self.name}.mini").source


@dataclass(frozen=True, kw_only=True)
class _Holder:
    source: Source


def root_url(root: str) -> str:
    """The folder or URL that `data.root` stands for: earth and earth-mini lie in the cache."""
    return str(storage.cache_dir() / root) if root in (MINI, EARTH) else root


def features_url(url: str) -> str:
    """Where the features of the shards at `url` are."""
    return f"{url.rstrip('/')}-features"


def load_card(name_or_path: str) -> Card:
    """A card by its name in datasets/ or the path of its file. Raises CardError, SettingsError."""
    values, folder = _read(name_or_path)
    features = values.get("features")
    if isinstance(features, str) and features != AUTO:  # a kind that needs no settings
        values["features"] = {"kind": features}
    own = {**values, "folder": folder, "command_name": name_or_path}
    return settings.build(Card, own, Path(name_or_path).name.removesuffix(".yaml") + ".yaml")


def _read(name_or_path: str) -> tuple[settings.Tree, Path]:
    """The settings of a card, and the folder where its relative paths start."""
    is_path = name_or_path.endswith((".yaml", ".yml"))
    path = Path(name_or_path) if is_path else datasets_dir() / f"{name_or_path}.yaml"
    if not path.is_file():
        raise CardError(_missing(name_or_path, is_path))
    values = settings.load_yaml(path)
    if like := str(values.pop(LIKE, "")):
        is_path = like.endswith((".yaml", ".yml"))
        base, folder = _read(str(path.parent / like) if is_path else like)
        return {**base, **values}, folder
    return {"name": path.stem, **values}, path.resolve().parent


def load_cards(names_or_paths: Sequence[str]) -> dict[str, Card]:
    """Cards by their names, in the order given. Raises CardError when two have the same name."""
    cards: dict[str, Card] = {}
    for name_or_path in names_or_paths:
        card = load_card(name_or_path)
        if card.name in cards:
            raise CardError(f"two cards are named `{card.name}`; give one of them another `name`")
        cards[card.name] = card
    return cards


def card_names() -> list[str]:
    """The modalities that have a card in datasets/."""
    return sorted(path.stem for path in datasets_dir().glob("*.yaml"))


def _missing(name: str, is_path: bool) -> str:
    if is_path:
        return f"there is no card {name}"
    known = card_names()
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    advice = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)};"
    return (
        f"there is no card `{name}` in {datasets_dir()}; {advice} or give the path of a YAML file"
    )
