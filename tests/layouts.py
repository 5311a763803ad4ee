"""Archives in the layouts in which location encoders' data is published, with small pictures, and
with the faults that the real ones suffer from."""

import io
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine, from_origin

from raytrain.data import codecs

S2_BANDS = 12


def tiff(
    pixels: NDArray[Any],
    transform: Affine | None = None,
    crs: str | None = "EPSG:32633",
    **options: Any,
) -> bytes:
    """A GeoTIFF of pixels [bands, height, width]; by default 10 m of them in UTM zone 33 N."""
    bands, height, width = pixels.shape
    with rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff",
            width=width,
            height=height,
            count=bands,
            dtype=pixels.dtype,
            transform=transform or from_origin(500_000, 5_000_000, 10, 10),
            crs=crs,
            **options,
        ) as dataset:
            dataset.write(pixels)
        return bytes(file.read())


def tile(number: int, size_px: int = 16, bands: int = S2_BANDS) -> NDArray[np.uint16]:
    """What a Sentinel-2 tile holds: reflectance x 10,000. Each is another."""
    rng = np.random.default_rng(number)
    smooth = rng.uniform(500, 4000, (bands, 1, 1)) + rng.normal(0, 100, (bands, size_px, size_px))
    return smooth.astype(np.uint16)


def picture(number: int, width: int = 40, height: int = 30) -> Image.Image:
    """A photo, left red and right blue, of a shade of its own."""
    columns = np.linspace(0, 255, width).astype(np.uint8)
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[...] = np.stack([255 - columns, np.full(width, number % 200, np.uint8), columns], axis=1)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """A picture as a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(image: Image.Image, orientation: int) -> bytes:
    """A JPEG whose EXIF says how it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, exif=exif, quality=95)


def huge_png() -> bytes:
    """A small file whose header promises 100,000 x 100,000 pixels."""
    content = bytearray(encoded(picture(0), "PNG"))
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    checksum = zlib.crc32(content[12:29])
    content[29:33] = checksum.to_bytes(4, "big")
    return bytes(content)


def archive(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """A tar of files, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as made:
        for name, content in files:
            codecs.add_member(made, name, content)
    return path


def folder(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """The same files in a folder."""
    for name, content in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def index(path: Path, header: str, rows: Sequence[Sequence[Any]]) -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path
