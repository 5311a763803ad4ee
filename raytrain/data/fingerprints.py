"""Fingerprints of rows: equal for equal rows, on every machine, and otherwise as if at random."""

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raytrain import geo

WORDS = 2  # of 64 bits: among 10⁹ different rows, two have the same with a chance of 10⁻²¹

Words = NDArray[np.uint64]


def fingerprints(rows: pa.Table) -> Words:
    """The fingerprints [n, 2] of rows by all their columns, of which the order counts."""
    state = np.zeros((len(rows), WORDS), np.uint64)
    for column in rows.columns:
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        for word in _words(array):
            for lane in range(WORDS):
                state[:, lane] = geo.mix((state[:, lane] ^ word).view(np.int64), lane)
    return state


def _words(column: pa.Array) -> Iterator[Words]:
    """A column as numbers [n], and which of its values there are."""
    valid = np.asarray(column.is_valid())
    yield valid.astype(np.uint64)
    width, values = 1, column
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        values = column.values.slice(column.offset * width, len(column) * width)
    if pa.types.is_primitive(values.type) and not pa.types.is_boolean(values.type):
        numbers = np.asarray(values.fill_null(0)).reshape(len(column), width)
        content = numbers.view(np.uint8).reshape(len(column), -1)
    else:
        digests = [_digest(value) for value in column.to_pylist()]
        content = np.frombuffer(b"".join(digests), np.uint8).reshape(len(column), -1)
    padded = np.zeros((len(column), -(-content.shape[1] // 8) * 8), np.uint8)
    padded[:, : content.shape[1]] = content
    padded[~valid] = 0
    yield from padded.view(np.uint64).T


def _digest(value: object) -> bytes:
    content = value if isinstance(value, bytes) else str(value).encode()
    return blake2b(content, digest_size=8 * WORDS).digest()
