"""Photos and other pictures of the world's making: upright, RGB, of one size, or a reason."""

import io
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from raytrain.data.codecs import IMAGE_DECODERS, encode_image
from raytrain.data.sources.file_rows import LeftOut

FORMATS = ("JPEG", "PNG", "WEBP")
MOST_PIXELS = 100_000_000  # which take 300 MB decoded
DRAFT = 2  # libjpeg decodes at a half, a quarter or an eighth; it stays at least so much too large
ORIENTATION = 0x0112  # of EXIF


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What becomes of a picture: `size_px` is the side of the central square, to which its shorter
    side is brought first; None leaves it as it is. Stored as `encoding`, JPEG of `quality`."""

    size_px: int | None
    encoding: Literal["jpg", "png"] = "jpg"
    quality: int = 90

    def __post_init__(self) -> None:
        if self.size_px is not None and self.size_px < 1:
            raise ValueError(f"size_px is {self.size_px}; choose at least 1")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}; choose 1 to 100")

    def store(self, content: bytes, shape: tuple[int, ...]) -> bytes:
        """A JPEG, PNG or WebP file as the file that is stored, of `shape` [3, height, width]. One
        that is right already stays as it is: no JPEG is compressed twice. Raises LeftOut."""
        image = opened(content)
        if self._is_right(image, shape) and self._is_readable(content, shape):
            return content
        pixels = self.pixels(image)
        if pixels.shape != shape:
            raise LeftOut("the picture has another size than the first")
        return encode_image(pixels, self.encoding, self.quality)

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """RGB pixels [3, height, width], turned as EXIF says; grey and CMYK are converted, alpha is
        dropped. Raises LeftOut."""
        if image.mode.startswith(("I", "F")):
            raise LeftOut("the picture has more than 8 bits a channel")
        try:
            if self.size_px is not None:
                image.draft(None, (DRAFT * self.size_px, DRAFT * self.size_px))
            rgb = image.convert("RGB")
            if self.size_px is not None:
                rgb = _square(rgb, self.size_px)
            return np.asarray(ImageOps.exif_transpose(rgb)).transpose(2, 0, 1)
        except Exception:  # decoders raise what they like of bytes that are not theirs
            raise LeftOut("the picture is truncated or damaged") from None

    def _is_right(self, image: Image.Image, shape: tuple[int, ...]) -> bool:
        return (
            image.format == {"jpg": "JPEG", "png": "PNG"}[self.encoding]
            and image.mode == "RGB"
            and (3, image.height, image.width) == shape
            and image.getexif().get(ORIENTATION, 1) == 1
        )

    def _is_readable(self, content: bytes, shape: tuple[int, ...]) -> bool:
        """Whether the reader of shards decodes it, which forgives less than Pillow."""
        try:
            IMAGE_DECODERS[self.encoding](memoryview(content), np.empty((*shape[1:], 3), np.uint8))
        except Exception:
            return False
        return True


def opened(content: bytes) -> Image.Image:
    """A picture whose pixels are not decoded yet, and are not too many. Raises LeftOut."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise LeftOut(_TOO_LARGE) from None
    except Exception:
        raise LeftOut("no JPEG, PNG or WebP picture") from None
    if image.width * image.height > MOST_PIXELS:
        raise LeftOut(_TOO_LARGE)
    return image


_TOO_LARGE = f"the picture has more than {MOST_PIXELS // 10**6} million pixels"


def _square(image: Image.Image, size_px: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box)
