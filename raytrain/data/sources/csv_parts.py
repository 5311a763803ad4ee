"""Where rows of a CSV file end, so that parts of it can be read by themselves.

A line end inside quotes ends no row. As in pyarrow, a quote opens only where a field begins.
"""

import re
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from raytrain import storage
from raytrain.data.sources.files import SourceError

BLOCK_BYTES = 16 << 20  # a part, but for the row that its end cuts
LONGEST_ROW = 64 << 20
HEAD_BYTES = 1 << 20
AHEAD = 4  # blocks that are read while one is looked at
QUOTED = re.compile(rb'"[^"]*(?:""[^"]*)*"')


class Rows(NamedTuple):
    """Whole rows of a file: the bytes from `first` to before `stop`."""

    first: int
    stop: int
    rows: int


def split_rows(url: str) -> Iterator[Rows]:
    """The rows of a file in parts, its header the first of them. Reads it once, in blocks. Raises
    FileNotFoundError, StorageError, and SourceError for a row without end."""
    first, held, header = 0, b"", True
    for block in _blocks(url, storage.size(url) or 0):
        held += block
        ends = _row_ends(held)
        if header and ends.rows:
            yield Rows(0, ends.first, 1)
            first, held, header = ends.first, held[ends.first :], False
            ends = _row_ends(held)
        if ends.rows:
            yield Rows(first, first + ends.last, ends.rows)
            first, held = first + ends.last, held[ends.last :]
        if len(held) > LONGEST_ROW:
            raise SourceError(
                f"{url}: the row that begins at byte {first:,} has no end within "
                f"{LONGEST_ROW >> 20} MB; is a quote left open there?"
            )
    if held:
        yield Rows(first, first + len(held), 1)


def packed_rows(url: str) -> int:
    """About how many rows a gzip file has: as many for its size as its beginning."""
    head = storage.read_range(url, 0, HEAD_BYTES)
    content = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head)
    return max(1, _row_ends(content).rows * (storage.size(url) or 0) // max(1, len(head)))


class _Ends(NamedTuple):
    """How many rows end in a buffer, and behind which of its bytes the first and the last do."""

    rows: int
    first: int
    last: int


def _row_ends(buffer: bytes) -> _Ends:
    """The ends of rows in a buffer, which begins with a row."""
    count, first, last = 0, 0, 0
    for start, stop in _unquoted(buffer):
        if found := buffer.count(b"\n", start, stop):
            count += found
            first = first or buffer.find(b"\n", start, stop) + 1
            last = buffer.rfind(b"\n", start, stop) + 1
    return _Ends(count, first, last)


def _unquoted(buffer: bytes) -> Iterator[tuple[int, int]]:
    """What lies between quoted fields, and before one that the buffer cuts."""
    start = at = 0
    while (quote := buffer.find(b'"', at)) >= 0:
        if quote and buffer[quote - 1] not in b",\n\r":
            at = quote + 1
            continue
        yield start, quote
        if (field := QUOTED.match(buffer, quote)) is None:
            return
        start = at = field.end()
    yield start, len(buffer)


def _blocks(url: str, size: int) -> Iterator[bytes]:
    """The content of a file, some of it read ahead."""
    with ThreadPoolExecutor(AHEAD) as pool:
        ahead: deque[Future[bytes]] = deque()
        for first in range(0, size, BLOCK_BYTES):
            ahead.append(pool.submit(storage.read_range, url, first, first + BLOCK_BYTES))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
