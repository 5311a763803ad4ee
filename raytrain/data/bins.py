"""Files of rows that are sorted into bins, of which one bin's rows can be read without the others.

A file is a table of three numbers a bin (first byte, byte behind the last, checksum), and behind it
the rows of each bin as a stream of Arrow.
"""

import zlib

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raytrain import storage
from raytrain.errors import UserError

ENTRY = np.dtype("<i8")
ENTRY_BYTES = 3 * ENTRY.itemsize


def write_bins(url: str, rows: pa.Table, bin_of: NDArray[np.int64], bins: int) -> None:
    """Write rows, each of which belongs to one of the bins 0 … `bins` - 1, in their order."""
    grouped = rows.take(pa.array(np.argsort(bin_of, kind="stable"))).combine_chunks()
    counts = np.bincount(bin_of, minlength=bins)
    entries = np.zeros((bins, 3), ENTRY)
    first, at, contents = 0, bins * ENTRY_BYTES, []
    for number, count in enumerate(counts.tolist()):
        if count:
            stream = pa.BufferOutputStream()
            with pa.ipc.new_stream(stream, rows.schema) as writer:
                writer.write_table(grouped.slice(first, count))
            content = stream.getvalue()
            entries[number] = at, at + content.size, zlib.crc32(content)
            first, at = first + count, at + content.size
            contents.append(content)
    with storage.writing(url) as file:
        file.write(entries.tobytes())
        for content in contents:
            file.write(content)


def read_bin(url: str, number: int) -> pa.Table | None:
    """The rows of a bin; None where there are none. Raises UserError for a file that is missing or
    damaged, the latter where it is so when it is read again."""
    for _ in range(2):
        try:
            place = number * ENTRY_BYTES
            entry = storage.read_range(url, place, place + ENTRY_BYTES)
            first, stop, checksum = np.frombuffer(entry.ljust(ENTRY_BYTES, b"\xff"), ENTRY).tolist()
            if first == stop == 0:
                return None
            content = storage.read_range(url, first, stop) if first < stop else b""
        except FileNotFoundError:
            raise UserError(
                f"{url} is not there: workers on other nodes wrote it to disks of their own. Give "
                "--root a URL, or a folder that all nodes share"
            ) from None
        if content and zlib.crc32(content) == checksum:
            return pa.ipc.open_stream(pa.py_buffer(content)).read_all()
    raise UserError(f"{url} is damaged; delete it and give the same command again")
