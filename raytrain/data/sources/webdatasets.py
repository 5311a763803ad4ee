"""WebDatasets of others: tar archives in which files of one name but for the end are a sample."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raytrain.data import codecs
from raytrain.data.codecs import CodecError
from raytrain.data.manifest import Field
from raytrain.data.packing import Observed
from raytrain.data.rows import LAT, LON, Part, RowSource
from raytrain.data.shards import COLUMNS, SAMPLES
from raytrain.data.sources.archives import DAMAGED, Member, Remote, each_member, find_archives
from raytrain.data.sources.file_rows import (
    LeftOut,
    Span,
    first_good,
    inside,
    left_out,
    observe_files,
    table_of,
)
from raytrain.data.sources.files import Context
from raytrain.data.sources.pictures import Picture, opened
from raytrain.data.sources.tabular import LAT_NAMES, LON_NAMES

NOWHERE = Span(None)
PICTURES, ARRAYS, TEXTS = ("jpg", "jpeg", "png", "webp"), ("npy",), ("txt", "text")


@dataclass(frozen=True, kw_only=True)
class WebdatasetSource(RowSource):
    """The members `{key}.{member}` of all samples: pictures, arrays (npy) or texts (txt).

    The place is in `{key}.json`, under the usual names or those of `lon` and `lat` (`geo.lon` for
    one inside another), or in members of these names that hold a number as text. Pictures become
    squares of `size_px`, or stay as they are where all have the size of the first; PNG stays PNG,
    others become JPEG of `quality`.
    """

    kind: Literal["webdataset"] = "webdataset"
    files: str = "*.tar"
    member: str = "jpg"
    lon: str | None = None
    lat: str | None = None
    size_px: int | None = None
    quality: int = 90
    units: str = ""
    shard_rows: int = 1024

    def __post_init__(self) -> None:
        if self._end not in PICTURES + ARRAYS + TEXTS:
            known = ", ".join(PICTURES + ARRAYS + TEXTS)
            raise ValueError(f"`member: {self.member}` is not read; there are: {known}")
        self._picture()

    @property
    def raw(self) -> str:
        """Where the archives are."""
        return self.files

    @property
    def layout(self) -> str:
        """Arrays lie many in a member, others have one each."""
        return COLUMNS if self._end in ARRAYS else SAMPLES

    def parts(self, context: Context) -> list[Part]:
        """The archives."""
        return find_archives(self.files, context)

    def rows(self, part: Part, context: Context) -> Iterator[pa.Table]:
        """The samples of an archive, of which headers and places are read; and its damage."""
        archive, file = Remote(part.file), inside(context, part.file)
        name = file.rpartition("/")[2]
        samples, damage = [_Sample("")], []
        try:
            for member in each_member(archive):
                key, end = _key_and_end(member.name)
                if key != samples[-1].key:
                    samples.append(_Sample(key))
                self._add(samples[-1], end, member, archive)
        except CodecError as error:
            damage.append(f"{name}: {error}")
        samples, none = samples[1:], f"the sample has no member `{self.member}`"
        yield table_of(
            [sample.place.get(LON) for sample in samples],
            [sample.place.get(LAT) for sample in samples],
            [f"{name}/{sample.key}" for sample in samples],
            [sample.reason or (None if sample.member else none) for sample in samples],
            [Span(file, s.member.first, s.member.stop) if s.member else NOWHERE for s in samples],
        )
        yield left_out(damage, DAMAGED)

    def fields(self, context: Context) -> dict[str, Field]:
        """As in the first good sample. Raises SourceError."""
        return {context.field: _first(self, context)}

    def observe(self, rows: pa.Table, context: Context) -> tuple[Observed, dict[int, str]]:
        """Files of pictures, an array [n, ...], or texts."""
        spec = _first(self, context)
        if self._end in TEXTS:
            texts, reasons = observe_files(rows, context, _text, "member")
            return {context.field: [text or "" for text in texts]}, reasons
        if self._end in PICTURES:
            picture = self._picture()
            files, reasons = observe_files(
                rows, context, lambda content: picture.store(content, spec.shape), "member"
            )
            return {context.field: [file or b"" for file in files]}, reasons
        arrays = np.zeros((len(rows), *spec.shape), spec.dtype)
        found, reasons = observe_files(
            rows, context, lambda content: _array(content, spec), "member"
        )
        for row, array in enumerate(found):
            if array is not None:
                arrays[row] = array
        return {context.field: arrays}, reasons

    def look(self, content: bytes) -> Field:
        """The field of which a member's content is one. Raises LeftOut."""
        if self._end in TEXTS:
            _text(content)
            return Field(dtype="str", shape=(), encoding="txt", units=self.units)
        if self._end in ARRAYS:
            array = _array(content)
            return Field(dtype=str(array.dtype), shape=array.shape, units=self.units)
        picture = self._picture()
        shape = picture.pixels(opened(content)).shape
        return Field(dtype="uint8", shape=shape, encoding=picture.encoding, units=self.units)

    @property
    def _end(self) -> str:
        return self.member.lower().rpartition(".")[2]

    def _picture(self) -> Picture:
        encoding: Literal["jpg", "png"] = "png" if self._end == "png" else "jpg"
        return Picture(size_px=self.size_px, encoding=encoding, quality=self.quality)

    def _add(self, sample: "_Sample", end: str, member: Member, archive: Remote) -> None:
        """What a member says of its sample."""
        if end == self.member.lower():
            sample.member = member
        elif end == "json":
            try:
                values = json.loads(archive[member.first : member.stop])
            except ValueError:
                sample.reason = "the sample's json is not readable"
                return
            for axis, named, tried in self._axes():
                number = _number(_inside(values, (named,) if named else tried))
                sample.place.setdefault(axis, number)
        else:
            for axis, named, tried in self._axes():
                if end in ((named.lower(),) if named else tried):
                    sample.place[axis] = _number(archive[member.first : member.stop])

    def _axes(self) -> Iterator[tuple[str, str | None, tuple[str, ...]]]:
        yield LON, self.lon, LON_NAMES
        yield LAT, self.lat, LAT_NAMES


@dataclass
class _Sample:
    key: str
    place: dict[str, float | None] = field(default_factory=dict)
    member: Member | None = None
    reason: str | None = None


@lru_cache(maxsize=8)
def _first(source: WebdatasetSource, context: Context) -> Field:
    return first_good(source, context, source.look, "member")


def _key_and_end(name: str) -> tuple[str, str]:
    """`a/b.photo.jpg` is the member photo.jpg of the sample a/b."""
    folder, slash, file = name.rpartition("/")
    stem, _, end = file.partition(".")
    return folder + slash + stem, end.lower()


def _inside(values: Any, names: tuple[str, ...]) -> Any:
    """The value of nested JSON at the first of some dotted names that there is; else None."""
    for name in names:
        found = values
        for part in name.split("."):
            lower = (
                {str(key).lower(): value for key, value in found.items()}
                if isinstance(found, dict)
                else {}
            )
            found = lower.get(part.lower())
        if found is not None:
            return found
    return None


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _text(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise LeftOut("the text is not UTF-8") from None
    if not text.strip():
        raise LeftOut("the text is empty")
    return text


def _array(content: bytes, spec: Field | None = None) -> NDArray[Any]:
    try:
        array = codecs.decode_npy(memoryview(content))
    except CodecError:
        raise LeftOut("the array is no .npy file of numbers, or a damaged one") from None
    if spec is not None and (array.shape, str(array.dtype)) != (spec.shape, spec.dtype):
        raise LeftOut("the array has another shape or type than the first")
    if array.dtype.kind not in "uif" or not np.isfinite(array).all():
        raise LeftOut("the array holds what is no finite number")
    return array
