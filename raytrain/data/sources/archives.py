"""Tar archives of others: their members found by headers alone, wherever the archive lies."""

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import pyarrow as pa

from raytrain import storage
from raytrain.data.codecs import BLOCK, CodecError, tar_spans
from raytrain.data.rows import Part
from raytrain.data.sources.files import Context, SourceError

TAR = ".tar"
NEAR, FAR = 1 << 20, 1 << 14  # bytes asked for at a time: close behind the last ones, and elsewhere
CLOSE = 1 << 18
DAMAGED = "the archive is damaged here"


class Member(NamedTuple):
    """A file in an archive: its name, first byte, and the byte behind its last."""

    name: str
    first: int
    stop: int


class Remote:
    """A file in slices, of which those that lie near to each other come by one request."""

    def __init__(self, url: str) -> None:
        self.url, self.size = url, storage.size(url) or 0
        self.first, self.content = 0, b""

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self.size)
        behind = self.first + len(self.content)
        if not self.first <= start <= stop <= behind:
            # Archives of small files are read as they come, of large ones from header to header.
            ahead = NEAR if self.first <= start < behind + CLOSE else FAR
            end = min(self.size, max(stop, start + ahead))
            self.first, self.content = start, storage.read_range(self.url, start, end)
        return self.content[start - self.first : stop - self.first]


def members(archive: Remote) -> tuple[list[Member], str | None]:
    """The files of an archive but for hidden ones, and what is wrong with it behind the last of
    them (None: nothing)."""
    found: list[Member] = []
    try:
        for member in each_member(archive):
            found.append(member)
    except CodecError as error:
        return found, str(error)
    return found, None


def each_member(archive: Remote) -> Iterator[Member]:
    """The files of an archive but for hidden ones, as their headers are read. Raises CodecError
    where it is damaged."""
    for name, start, stop in tar_spans(archive):
        if not name.rpartition("/")[2].startswith("."):
            yield Member(name.removeprefix("./"), start, stop)


def names_of(found: list[Member]) -> pa.Array:
    """The names of members."""
    return pa.array([member.name for member in found], pa.string())


def find_archives(files: str, context: Context) -> list[Part]:
    """A part for every archive that a path, URL or pattern means, in the order of their names.
    Raises SourceError where there is none, or one is compressed."""
    pattern = storage.join(str(context.folder), files)
    urls = storage.files(pattern)
    if not urls:
        raise SourceError(f"{context.modality}: there is no archive {pattern}")
    if packed := [url for url in urls if not url.endswith(TAR)]:
        raise SourceError(
            f"{packed[0]} is no .tar that can be read in pieces; unpack it once, or let the "
            "pattern end in *.tar"
        )
    folders = {url.rpartition("/")[0] for url in urls}
    sizes = {storage.join(f, n): s for f in folders for n, s in storage.sizes(f).items()}
    first = first_member(urls[0])
    row_bytes = first.stop - first.first + BLOCK if first else NEAR
    return [Part(file=url, rows=max(1, sizes[url] // row_bytes)) for url in urls]


def first_member(url: str) -> Member | None:
    """The first file of an archive; None where there is none."""
    with suppress(CodecError):
        for member in each_member(Remote(url)):
            return member
    return None
