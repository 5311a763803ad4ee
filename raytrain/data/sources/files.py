"""Raw files of a source: inside a pinned wheel, beside the card, or at any path or URL."""

from dataclasses import dataclass
from pathlib import Path

from raytrain import storage, wheels
from raytrain.errors import UserError


class SourceError(UserError):
    """Raw data that is missing or not what the card says."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a source knows of the card that it belongs to.

    `folder` is where relative paths start. `dealt_among` names the modalities that share the land:
    each 0.1° cell belongs to one of them, so that no two see the same place.
    """

    modality: str
    field: str
    folder: Path
    dealt_among: tuple[str, ...] = ()


def read_file(file: str, folder: Path) -> bytes:
    """Bytes of `wheel://PACKAGE/MEMBER`, of a URL, or of a path (relative to `folder`)."""
    if file.startswith(wheels.SCHEME):
        return wheels.read(file)
    url = storage.join(str(folder), file)
    try:
        return storage.read(url)
    except (FileNotFoundError, IsADirectoryError):
        raise missing(url) from None


def missing(url: str) -> SourceError:
    """What to say of raw data that is not there."""
    return SourceError(
        f"the source file {url} does not exist; a path in a card is relative to the card"
    )
