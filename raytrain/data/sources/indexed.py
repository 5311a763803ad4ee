"""Files with an index. They lie in a folder or, many together, in tar archives."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raytrain import storage
from raytrain.data.rows import LAT, LON, REASON, Part, RowSource
from raytrain.data.sources.archives import (
    DAMAGED,
    TAR,
    Remote,
    find_archives,
    first_member,
    members,
    names_of,
)
from raytrain.data.sources.file_rows import AT_ONCE, Span, inside, left_out, table_of
from raytrain.data.sources.files import Context
from raytrain.data.sources.index import NAME, Parts, index_parts, index_rows, whole_index

Names = Any  # pa.Array or pa.ChunkedArray of strings

UNLISTED = "the index does not name the file"


@dataclass(frozen=True, kw_only=True)
class IndexedFiles(RowSource):
    """`files` is the folder in which the files lie, or a path, URL or pattern of tar archives.

    `index` is a CSV or Parquet file with a place and a file's name in every row; its columns are
    found by their names, or `lon`, `lat` and `name` tell them. `suffix` is added to the names.
    Names of index and archives are compared by as many of their folders as both have.
    """

    files: str = "."
    index: str | None = "index.csv"
    lon: str | None = None
    lat: str | None = None
    name: str | None = None
    suffix: str = ""

    what: ClassVar[str] = "file"  # in reasons

    @property
    def raw(self) -> str:
        """Where the files are."""
        return self.files

    def parts(self, context: Context) -> list[Part]:
        """Those of the index; or each archive, and the index for what is in none of them."""
        assert self.index is not None
        index = index_parts(self.index, context, self.lon, self.lat, self.name)
        if not self.files.endswith(TAR):
            return [*index]
        archives = find_archives(self.files, context)
        about = Archives(tuple(part.file for part in archives), index, self._depth(index, archives))
        return [
            replace(part, about=about) for part in (*archives, Part(file=index[0].file, rows=0))
        ]

    def rows(self, part: Part, context: Context) -> Iterator[pa.Table]:
        """The rows of the index, with where their files are."""
        if not isinstance(part.about, Archives):
            for rows in index_rows(part, self.suffix):
                yield self._in_folder(rows)
        elif part.file in part.about.urls:
            yield from self._in_archive(part.file, part.about, context)
        else:
            yield from self._nowhere(part.about)

    def _in_folder(self, rows: pa.Table) -> pa.Table:
        names = rows[NAME].to_pylist()
        spans = [Span(storage.join(self.files, name) if name else None) for name in names]
        return table_of(rows[LON], rows[LAT], rows[NAME], rows[REASON], spans)

    def _in_archive(self, url: str, about: "Archives", context: Context) -> Iterator[pa.Table]:
        """The rows whose files are in an archive; its files that have none; and its damage."""
        found, damage = members(Remote(url))
        keys, listed = _keys(names_of(found), about.depth), np.zeros(len(found), np.bool_)
        for rows in whole_index(about.index_parts, self.suffix):
            at = pc.index_in(_keys(rows[NAME], about.depth), keys, skip_nulls=True)
            here, numbers = rows.filter(at.is_valid()), at.drop_null().to_numpy()
            listed[numbers] = True
            mine, file = [found[n] for n in numbers.tolist()], inside(context, url)
            spans = [Span(file, member.first, member.stop) for member in mine]
            yield table_of(here[LON], here[LAT], here[NAME], here[REASON], spans)
        listed |= pc.is_in(keys, keys.filter(pa.array(listed))).to_numpy(False)  # twice in there
        archive = url.rpartition("/")[2]
        names = [f"{archive}/{found[number].name}" for number in np.flatnonzero(~listed)]
        yield left_out(names, UNLISTED)
        yield left_out([f"{archive}: {damage}"] if damage else [], DAMAGED)

    def _nowhere(self, about: "Archives") -> Iterator[pa.Table]:
        """The rows whose files are in no archive."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            names = pool.map(lambda url: names_of(members(Remote(url))[0]), about.urls)
            there = _keys(pa.chunked_array(names, pa.string()), about.depth)
        for rows in whole_index(about.index_parts, self.suffix):
            found = pc.is_in(_keys(rows[NAME], about.depth), there, skip_nulls=True)
            lost = rows.filter(pc.invert(found))
            reasons = pc.coalesce(lost[REASON], f"the {self.what} is missing")
            nowhere = [Span(None)] * len(lost)
            yield table_of(lost[LON], lost[LAT], lost[NAME], reasons, nowhere)

    def _depth(self, index: Parts, archives: Sequence[Part]) -> int:
        """Of how many parts, folders and the file, names are compared: as many as both have where
        the index and the archives have their first."""
        member, rows = first_member(archives[0].file), index_rows(index[0], self.suffix)
        named = next((name for some in rows for name in some[NAME].to_pylist() if name), "")
        return 1 + min(member.name.count("/") if member else 0, named.count("/"))


class Archives(NamedTuple):
    """What is known of all archives and their index when parts are listed."""

    urls: tuple[str, ...]
    index_parts: Parts
    depth: int


def _keys(names: Names, depth: int) -> Names:
    """The last parts of names."""
    return pc.replace_substring_regex(names, rf"^.*?((?:[^/]+/){{{depth - 1}}}[^/]+)$", r"\1")
