"""Rows whose observation is a file, or lies in one: their table, and how they are observed."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from raytrain import storage
from raytrain.data.rows import KEY, LAT, LON, REASON, RowSource
from raytrain.data.sources.files import Context, SourceError

T = TypeVar("T")

FILE, FIRST, STOP = "file", "first", "stop"  # the bytes from FIRST to STOP, or all where it is null
ROWS = pa.schema(
    {
        **{LON: pa.float64(), LAT: pa.float64(), KEY: pa.string(), REASON: pa.string()},
        **{FILE: pa.string(), FIRST: pa.int64(), STOP: pa.int64()},
    }
)
AT_ONCE = 8  # requests to a store; of what they bring, so much is held that is not yet made smaller
LOOKED_AT = 64  # rows, for what a good one looks like


class LeftOut(Exception):  # noqa: N818
    """A row that has no observation. The message says why, alike for all rows of its kind."""


class Span(NamedTuple):
    """Bytes of a file, whose path may start in the card's folder; all where there is no `stop`."""

    file: str | None
    first: int | None = None
    stop: int | None = None

    def read(self, context: Context) -> bytes:
        """Its bytes, by one request. Raises FileNotFoundError, StorageError."""
        assert self.file is not None
        url = storage.join(str(context.folder), self.file)
        if self.first is None or self.stop is None:
            return storage.read(url)
        return storage.read_range(url, self.first, self.stop)


def inside(context: Context, url: str) -> str:
    """A path of the card's folder as it starts there, so that rows are the same wherever it is."""
    return url.removeprefix(f"{storage.absolute(str(context.folder))}/")


def table_of(lon: Any, lat: Any, keys: Any, reasons: Any, spans: Sequence[Span]) -> pa.Table:
    """Rows of ROWS from columns of equal length."""
    where = [[span[i] for span in spans] for i in range(3)]
    return pa.table([lon, lat, keys, reasons, *where], schema=ROWS)


def left_out(keys: Sequence[str], reason: str) -> pa.Table:
    """Rows without a place, for one reason."""
    none = [None] * len(keys)
    return table_of(none, none, keys, [reason] * len(keys), [Span(None)] * len(keys))


def observe_files(
    rows: pa.Table, context: Context, make: Callable[[bytes], T], what: str
) -> tuple[list[T | None], dict[int, str]]:
    """What `make` gives for the bytes of each row, in the order of the rows; and by number why rows
    have None: `make` raised LeftOut, or the file (in words: `what`) is not there. A few are read at
    a time."""
    found: list[T | None] = [None] * len(rows)
    reasons: dict[int, str] = {}
    spans = [Span(*span) for span in zip(*(_values(rows, n) for n in Span._fields), strict=True)]

    def observe(row: int) -> None:
        try:
            found[row] = make(spans[row].read(context))
        except FileNotFoundError:
            reasons[row] = f"the {what} is missing"
        except LeftOut as error:
            reasons[row] = str(error)

    if all(storage.is_local(span.file or "") for span in spans):
        for row in range(len(rows)):
            observe(row)
    else:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(observe, range(len(rows))))
    return found, dict(sorted(reasons.items()))


def first_good(source: RowSource, context: Context, make: Callable[[bytes], T], what: str) -> T:
    """What `make` gives for the first row that has an observation. Raises SourceError where none of
    the first rows has one."""
    looked_at, reason = 0, "there is none"
    for rows in (rows for part in source.parts(context) for rows in source.rows(part, context)):
        for row in range(min(len(rows), LOOKED_AT - looked_at)):
            looked_at, reason = looked_at + 1, rows[REASON][row].as_py()
            if reason is not None:
                continue
            (found,), reasons = observe_files(rows.slice(row, 1), context, make, what)
            if found is not None:
                return found
            reason = reasons[0]
        if looked_at == LOOKED_AT:
            break
    raise SourceError(
        f"{context.modality}: none of the first {what}s can be used; the last: {reason}"
    )


def _values(rows: pa.Table, name: str) -> list[Any]:
    return list(rows[name].to_pylist())
