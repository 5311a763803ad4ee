"""What reading raw data costs: GeoTIFF tiles by compression, large photos, and the two layouts of
shards for tiles. CPU time of one core, the median of some turns.

    python benchmarks/sources.py [tiles] [photos] [layouts]

With `pip install tifffile imagecodecs`, tiles are read by tifffile too.
"""

import io
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from raytrain.data.shards import COLUMNS, SAMPLES, read_shard
from raytrain.data.sources import pictures
from raytrain.data.sources.pictures import Picture
from raytrain.data.sources.tiles import TilesSource
from raytrain.data.writer import Observations, write_shards

RNG = np.random.default_rng(0)
TURNS = 15


def main() -> None:
    parts = {"tiles": tiles, "photos": photos, "layouts": layouts}
    for name in sys.argv[1:] or parts:
        parts[name]()


def tiles() -> None:
    """Sentinel-2's size, smooth with noise, in every way that GDAL writes it."""
    smooth = np.stack([gaussian_filter(RNG.normal(size=(256, 256)), 3) for _ in range(12)])
    noise = RNG.normal(0, 60, smooth.shape)
    pixels = (1500 + 8000 * smooth + noise).clip(0, 10_000).astype(np.uint16)
    every, three = TilesSource(), TilesSource(bands=(4, 3, 2))
    print("tile of 12 x 256 x 256        KB   all bands   three   tifffile (ms)")
    forms = itertools.product(
        ["none", "lzw", "deflate", "zstd"], [1, 2], ["strips", "blocks"], ["pixel", "band"]
    )
    for compress, predictor, stored, interleave in forms:
        if compress == "none" and predictor == 2:
            continue
        options: dict[str, Any] = {"interleave": interleave}
        if compress != "none":
            options |= {"compress": compress, "predictor": predictor}
        if stored == "blocks":
            options |= {"tiled": True, "blockxsize": 128, "blockysize": 128}
        with rasterio.MemoryFile() as file:
            with file.open(
                driver="GTiff", width=256, height=256, count=12, dtype="uint16", **options
            ) as made:
                made.write(pixels)
            content = bytes(file.read())
        took = [milliseconds(lambda: source.read(content)) for source in (every, three)]  # noqa: B023
        other = by_tifffile(content)
        print(
            f"{compress:8} predictor {predictor} {stored} {interleave:5} {len(content) // 1024:5} "
            f"{took[0]:8.1f} {took[1]:8.1f} {other:>10}"
        )


def by_tifffile(content: bytes) -> str:
    try:
        import imagecodecs  # noqa: F401
        import tifffile
    except ImportError:
        return "-"
    return f"{milliseconds(lambda: tifffile.imread(io.BytesIO(content), maxworkers=1)):.1f}"


def photos() -> None:
    """JPEG files to squares of 224, decoded whole or at a fraction of their size."""
    print("\nphoto, JPEG       KB   whole   by fraction (ms)   mean difference of a pixel")
    for width, height in ((500, 375), (1024, 768), (4000, 3000)):
        waves = [gaussian_filter(RNG.normal(size=(height // 4, width // 4)), 2) for _ in range(3)]
        pixels = (np.stack(waves, axis=2) * 400 + 128).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).resize((width, height)).save(stream, "JPEG", quality=90)
        content, made, took = stream.getvalue(), [], []
        for factor in (1000, 2):
            pictures.DRAFT = factor
            square = Picture(size_px=224)
            took.append(milliseconds(lambda: square.store(content, (3, 224, 224))))  # noqa: B023
            made.append(square.pixels(pictures.opened(content)).astype(float))
        difference = np.abs(made[0] - made[1]).mean()
        print(
            f"{width:4} x {height:4} {len(content) // 1024:8} {took[0]:7.1f} {took[1]:13.1f} "
            f"{difference:22.2f}"
        )


def layouts() -> None:
    """64 tiles of a shard, all of them in an order drawn at random, as streams read them."""
    print("\nshard of 64 tiles     columns   samples (GB/s)")
    for bands, size_px in ((12, 256), (3, 256), (12, 64)):
        some = RNG.integers(0, 10_000, (4, bands, size_px, size_px)).astype(np.uint16)
        array: NDArray[Any] = some[np.arange(64) % 4]
        offered = Observations.of_arrays(np.tile([[100.0, 40.0]], (64, 1)), {"tile": array})
        rates = []
        for layout in (COLUMNS, SAMPLES):
            with tempfile.TemporaryDirectory() as folder:
                made = write_shards(folder, replace(offered, layout=layout), modality="tiles")
                order = RNG.permutation(64)
                took = milliseconds(
                    lambda: read_shard(folder, made.shards[0], made.fields, layout, rows=order)  # noqa: B023
                )
            rates.append(array.nbytes / took / 1e6)
        print(f"{bands:3} x {size_px} x {size_px} {rates[0]:14.2f} {rates[1]:9.2f}")


def milliseconds(work: Callable[[], object]) -> float:
    """CPU time of a call, the median of some."""
    work()
    took = []
    for _ in range(TURNS):
        started = time.process_time()
        work()
        took.append(time.process_time() - started)
    return 1000 * statistics.median(took)


if __name__ == "__main__":
    main()
