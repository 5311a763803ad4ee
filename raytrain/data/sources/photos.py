"""Photos with a place each: an index beside JPEG, PNG or WebP files, as in MP-16."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa

from raytrain.data.manifest import Field
from raytrain.data.packing import Observed
from raytrain.data.shards import SAMPLES
from raytrain.data.sources.file_rows import observe_files
from raytrain.data.sources.files import Context
from raytrain.data.sources.indexed import IndexedFiles
from raytrain.data.sources.pictures import Picture


@dataclass(frozen=True, kw_only=True)
class PhotosSource(IndexedFiles):
    """Photos as JPEG files of `size_px` a side: turned as EXIF says, in RGB, the shorter side
    brought to that size and the middle taken, compressed with `quality`."""

    kind: Literal["photos"] = "photos"
    size_px: int = 224
    quality: int = 90
    shard_rows: int = 1024  # 150 MB when they are decoded

    what: ClassVar[str] = "photo"

    def __post_init__(self) -> None:
        if self.index is None:
            raise ValueError("photos need an `index` of their places")
        self.picture()

    @property
    def layout(self) -> str:
        """A file each."""
        return SAMPLES

    def picture(self) -> Picture:
        """What becomes of a photo."""
        return Picture(size_px=self.size_px, quality=self.quality)

    def fields(self, context: Context) -> dict[str, Field]:
        """JPEG files of one size."""
        return {context.field: self._field()}

    def observe(self, rows: pa.Table, context: Context) -> tuple[Observed, dict[int, str]]:
        """The JPEG files."""
        picture, shape = self.picture(), self._field().shape
        found, reasons = observe_files(
            rows, context, lambda content: picture.store(content, shape), self.what
        )
        return {context.field: [photo or b"" for photo in found]}, reasons

    def _field(self) -> Field:
        shape = (3, self.size_px, self.size_px)
        return Field(dtype="uint8", shape=shape, encoding="jpg", units="RGB, 0-255")
