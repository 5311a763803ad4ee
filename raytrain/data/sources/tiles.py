"""Satellite tiles: GeoTIFF files of many bands, in a folder or in tar archives, as in S2-100K."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raytrain import storage
from raytrain.data.manifest import Field
from raytrain.data.packing import Observed
from raytrain.data.rows import Part
from raytrain.data.shards import SAMPLES
from raytrain.data.sources.archives import DAMAGED, TAR, Remote, find_archives, members
from raytrain.data.sources.file_rows import (
    LeftOut,
    Span,
    first_good,
    inside,
    left_out,
    observe_files,
    table_of,
)
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.geotiffs import centre, needed, opened_tiff
from raytrain.data.sources.indexed import IndexedFiles

TIFF = (".tif", ".tiff")
HEAD, MANY = 1 << 16, 1 << 62  # bytes of a file in which its georeference nearly always is
PART_FILES = 1024  # of a folder without an index


@dataclass(frozen=True, kw_only=True)
class TilesSource(IndexedFiles):
    """Tiles [bands, height, width] in the numbers of their files.

    `bands` counts from 1; 0 among them is a band of zeros, which encoders want in the place of one
    that the files do not have. `size_px` asks for a square: the central one of so many pixels, or
    with `fit: resize` the largest, brought to that size. Without it all tiles must be as large as
    the first. `index: null` takes every TIFF file, and its place from its own georeference: its
    centre.
    """

    kind: Literal["tiles"] = "tiles"
    bands: tuple[int, ...] = ()
    size_px: int | None = None
    fit: Literal["crop", "resize"] = "crop"
    units: str = "reflectance x 10,000"
    shard_rows: int = 64  # 100 MB of S2-100K

    what: ClassVar[str] = "tile"

    def __post_init__(self) -> None:
        if self.bands and (min(self.bands) < 0 or max(self.bands) == 0):
            raise ValueError(f"bands {[*self.bands]}: give numbers from 1, or 0 for a zero band")
        if self.size_px is not None and self.size_px < 1:
            raise ValueError(f"size_px is {self.size_px}; choose at least 1")

    @property
    def layout(self) -> str:
        """A member each costs nothing beside a tile, and its rows are copied once, not twice."""
        return SAMPLES

    def parts(self, context: Context) -> list[Part]:
        """As of files with an index; without one, the archives or pieces of the folder's list."""
        if self.index is not None:
            return super().parts(context)
        if self.files.endswith(TAR):
            return find_archives(self.files, context)
        folder, count = self._folder(context), len(_tiffs(self._folder(context)))
        if not count:
            raise SourceError(f"{context.modality}: there is no .tif file in {folder}")
        pieces = [(n, min(n + PART_FILES, count)) for n in range(0, count, PART_FILES)]
        return [Part(file=folder, rows=b - a, first=a, stop=b) for a, b in pieces]

    def rows(self, part: Part, context: Context) -> Iterator[pa.Table]:
        """As of files with an index; without one, the files and where they say that they lie."""
        if self.index is not None:
            yield from super().rows(part, context)
            return
        if part.stop is not None:
            urls = _tiffs(part.file)[part.first : part.stop]
            names = [inside(context, url) for url in urls]
            yield _georeferenced([Span(name) for name in names], names, context)
            return
        found, damage = members(Remote(part.file))
        tiffs = [member for member in found if member.name.lower().endswith(TIFF)]
        file = inside(context, part.file)
        spans = [Span(file, member.first, member.stop) for member in tiffs]
        yield _georeferenced(spans, [member.name for member in tiffs], context)
        archive = part.file.rpartition("/")[2]
        yield left_out([f"{archive}: {damage}"] if damage else [], DAMAGED)

    def fields(self, context: Context) -> dict[str, Field]:
        """The type and shape of the first good tile. Raises SourceError."""
        first = _first(self, context)
        return {context.field: Field(dtype=str(first.dtype), shape=first.shape, units=self.units)}

    def observe(self, rows: pa.Table, context: Context) -> tuple[Observed, dict[int, str]]:
        """The tiles [n, bands, height, width]."""
        first = _first(self, context)

        def checked(content: bytes) -> NDArray[Any]:
            tile = self.read(content)
            if tile.shape != first.shape or tile.dtype != first.dtype:
                raise LeftOut("the tile has another size, type or number of bands than the first")
            return tile

        found, reasons = observe_files(rows, context, checked, self.what)
        tiles = [first if tile is None else tile for tile in found]
        return {context.field: np.stack(tiles) if tiles else first[None][:0]}, reasons

    def read(self, content: bytes) -> NDArray[Any]:
        """A TIFF file's tile [bands, height, width]. Raises LeftOut."""
        enums = needed("rasterio.enums", "a GeoTIFF file")
        with opened_tiff(content) as dataset:
            bands = self.bands or dataset.indexes
            if max(bands) > dataset.count:
                raise LeftOut("the tile has not all of the `bands`")
            window, shape = self._part(dataset.height, dataset.width)
            stored = dataset.read(
                [band for band in bands if band],
                window=window,
                out_shape=(sum(map(bool, bands)), *shape),
                resampling=enums.Resampling.average,
            )
        if not stored.any() or not np.isfinite(stored).all():
            raise LeftOut("the tile is empty: all zero, or not finite somewhere")
        if 0 not in bands:
            return np.asarray(stored)
        tile = np.zeros((len(bands), *shape), stored.dtype)
        tile[[band > 0 for band in bands]] = stored
        return tile

    def _part(self, height: int, width: int) -> tuple[Any, tuple[int, int]]:
        """The window of a file of this size that is read, and the size in which it is given."""
        if self.size_px is None:
            return None, (height, width)
        side = self.size_px if self.fit == "crop" else min(height, width)
        if side > min(height, width):
            raise LeftOut("the tile is smaller than `size_px`")
        top, left = (height - side) // 2, (width - side) // 2
        return ((top, top + side), (left, left + side)), (self.size_px, self.size_px)

    def _folder(self, context: Context) -> str:
        return storage.absolute(storage.join(str(context.folder), self.files))


@lru_cache(maxsize=8)
def _first(source: TilesSource, context: Context) -> NDArray[Any]:
    """The first good tile, which the others must be like."""
    return first_good(source, context, source.read, source.what)


@lru_cache(maxsize=1)
def _tiffs(folder: str) -> list[str]:
    """The TIFF files of a folder and of those in it."""
    return [url for url in storage.files(folder) if url.lower().endswith(TIFF)]


def _georeferenced(spans: list[Span], keys: list[str], context: Context) -> pa.Table:
    """Rows of TIFF files, at their centres."""
    empty = [None] * len(spans)
    heads = [Span(s.file, s.first or 0, min((s.first or 0) + HEAD, s.stop or MANY)) for s in spans]
    rows = table_of(empty, empty, keys, empty, heads)
    places, reasons = observe_files(rows, context, centre, "tile")
    if reasons:  # or the georeference lies behind the pixels
        again = [*reasons]
        rows = table_of(empty, empty, keys, empty, spans).take(again)
        found, left = observe_files(rows, context, centre, "tile")
        for row, place in zip(again, found, strict=True):
            places[row] = place
        reasons = {again[row]: reason for row, reason in left.items()}
    lon, lat = ([place and place[axis] for place in places] for axis in (0, 1))
    return table_of(lon, lat, keys, [reasons.get(row) for row in range(len(spans))], spans)
