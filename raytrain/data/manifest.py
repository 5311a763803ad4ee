"""The manifest of a folder of shards: fields, splits, checksums, source and terms."""

import dataclasses
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from raytrain import storage
from raytrain.errors import UserError

FORMAT = "raytrain-shards/1"
MANIFEST = "manifest.json"
FEATURE = "feature"  # the field of feature shards


class ShardError(UserError):
    """A shard or manifest that is missing, damaged or not what the manifest says."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One observation of a sample. `mean` and `std` are per channel (images) or column (vectors),
    over the training rows; None for text, whose `dtype` is "str" and `shape` (). With `views` > 1
    the first axis of `shape` is so many views of the same sample, of which training takes one."""

    dtype: str
    shape: tuple[int, ...]
    encoding: str = "npy"  # npy | jpg | png | txt
    units: str = ""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    views: int = 1

    @property
    def view_shape(self) -> tuple[int, ...]:
        """The shape of one view: of an observation as training takes it."""
        return self.shape[1:] if self.views > 1 else self.shape


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file of a split ("train" or "val")."""

    name: str
    split: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """Which places are the "val" split: spatial blocks, as in geo.held_out."""

    degrees: float = 10.0
    share: float = 0.05
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a folder of shards holds, where it came from and on what terms."""

    modality: str
    layout: str
    fields: dict[str, Field]
    shards: tuple[Shard, ...]
    holdout: Holdout = Holdout()
    source: dict[str, Any] = dataclasses.field(default_factory=dict)  # its resolved settings
    licence: str = ""
    credit: str = ""

    @classmethod
    def load(cls, url: str) -> "Manifest":
        """Read `url`/manifest.json. Raises ShardError."""
        where = storage.join(url, MANIFEST)
        try:
            return cls.from_json(storage.read(where))
        except FileNotFoundError:
            raise ShardError(
                f"no shards in {url}: {where} does not exist. Make them with "
                "`python -m raytrain.prepare`, or correct `data.root` or the card's `shards`"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ShardError(f"{where} is not a {FORMAT} manifest: {error!r}") from None

    @classmethod
    def from_json(cls, text: bytes | str) -> "Manifest":
        """Parse a manifest. Raises ValueError, KeyError, TypeError, AttributeError or
        RecursionError where it is none."""
        values = json.loads(text)
        if values.pop("format", None) != FORMAT:
            raise ValueError(f"`format` is not {FORMAT}")
        del values["samples"]
        values["fields"] = {name: _field(field) for name, field in values["fields"].items()}
        values["shards"] = tuple(map(_shard, values["shards"]))
        values["holdout"] = Holdout(**values["holdout"])
        return cls(**values)

    def to_json(self) -> str:
        """The text of manifest.json."""
        counts = {split: self.samples(split) for split in ("train", "val")}
        values = {"format": FORMAT, **asdict(self), "samples": counts}
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"

    def shards_of(self, split: str) -> tuple[Shard, ...]:
        """The shards of "train" or "val", in the order of the manifest."""
        return tuple(shard for shard in self.shards if shard.split == split)

    def samples(self, split: str) -> int:
        """Rows of a split."""
        return sum(shard.samples for shard in self.shards_of(split))

    def field(self, name: str) -> Field:
        """A field by name. Raises ShardError that lists those there are."""
        if name not in self.fields:
            known = f"they hold {', '.join(self.fields)}"
            raise ShardError(f"the shards of {self.modality} have no field `{name}`; {known}")
        return self.fields[name]


def _shard(values: dict[str, Any]) -> Shard:
    """A shard whose name leads nowhere else, and whose rows, 16 bytes at least, fit into it."""
    shard = Shard(**values)
    if not re.fullmatch(r"[^/\\:]+", shard.name) or shard.name in (".", ".."):
        raise ValueError(f"`{shard.name}` is no name of a file beside the manifest")
    if not 0 <= 16 * shard.samples <= shard.bytes:
        raise ValueError(f"{shard.name}: {shard.samples:,} samples in {shard.bytes:,} bytes")
    return shard


def _field(values: dict[str, Any]) -> Field:
    keys = [key for key in ("shape", "mean", "std") if values.get(key) is not None]
    lists = {key: tuple(values[key]) for key in keys}
    return Field(**{**values, **lists})
