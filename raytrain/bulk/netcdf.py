"""Embeddings of a global grid as one NetCDF file by the CF conventions, for GIS and xarray."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from raytrain import geo, storage
from raytrain.bulk.folder import EmbeddingFolder
from raytrain.bulk.places import EMBEDDING, Grid, Table
from raytrain.encoders.pretrained import PlaceEncoder
from raytrain.errors import UserError
from raytrain.evaluation.probes import Encoder

ENDING = ".nc"
CHUNK_COLUMNS = 16  # of the embedding that lie together: a map of one reads 16, a place 1 in 16


def check_netcdf(output: str, places: Grid | Table, overwrite: bool) -> None:
    """Raise UserError unless the places are a grid, `output` is a file of this machine that may be
    written, and the library is there."""
    if not isinstance(places, Grid):
        raise UserError(f"{output}: only a --grid becomes NetCDF; name a folder for Parquet")
    try:
        import netCDF4  # noqa: F401
    except ImportError:
        raise UserError(
            f"{output} needs netCDF4: pip install 'raytrain[grid]', or name a folder for Parquet"
        ) from None
    if not storage.is_local(output):
        raise UserError(f"{output}: NetCDF needs a path of this machine; copy it afterwards")
    if Path(output).exists() and not overwrite:
        raise UserError(f"{output} exists; name another --output, or give --overwrite")


def write_netcdf(
    folder: EmbeddingFolder, grid: Grid, output: str, spec: str, encode: Encoder
) -> None:
    """Write the complete embeddings of a grid as variable `embedding` (column, lat, lon) float32.

    It takes a part of the folder at a time, which is some rows of latitude. NetCDF knows no
    float16: such numbers are stored as float32 and deflated, which leaves about half.
    """
    import netCDF4

    height, width = grid.shape
    dim, rows = folder.description["dim"], folder.description["part_rows"] // width
    path = Path(output)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    short = folder.description["dtype"] == "float16"
    with netCDF4.Dataset(unfinished, "w") as file:
        file.setncatts({**_about(spec, encode), "Conventions": "CF-1.11"})
        _add_axes(file, dim, height, width)
        embedding = file.createVariable(
            EMBEDDING,
            "f4",
            ("column", "lat", "lon"),
            chunksizes=(min(dim, CHUNK_COLUMNS), min(rows, height), width),
            compression="zlib" if short else None,
            complevel=1,
        )
        embedding.setncatts({"long_name": "embedding of the cell's centre", "units": "1"})
        for number, name in enumerate(sorted(folder.parts)):
            part = pyarrow.parquet.read_table(f"{folder.url}/{name}", columns=[EMBEDDING])
            x = part[EMBEDDING].combine_chunks().flatten().to_numpy().reshape(-1, width, dim)
            first = number * rows
            embedding[:, first : first + len(x)] = np.moveaxis(x, 2, 0).astype(np.float32)
    os.replace(unfinished, path)


def _add_axes(file: Any, dim: int, height: int, width: int) -> None:
    """Coordinates of the columns, and of the cells' centres from the north-west."""
    lat = geo.cell_centres(np.arange(height) * width, height, width)[:, 1]
    lon = geo.cell_centres(np.arange(width), height, width)[:, 0]
    for name, kind, values, attributes in (
        ("column", "i4", np.arange(dim), {"long_name": "column of the embedding", "units": "1"}),
        ("lat", "f8", lat, {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}),
        ("lon", "f8", lon, {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}),
    ):
        file.createDimension(name, len(values))
        variable = file.createVariable(name, kind, (name,))
        variable.setncatts(attributes)
        variable[:] = values


def _about(spec: str, encode: Encoder) -> dict[str, str]:
    """The encoder, and the licences and credits of what it was trained on, as far as known."""
    owner = getattr(encode, "__self__", None)
    config: Mapping[str, Any] = owner.config if isinstance(owner, PlaceEncoder) else {}
    cards = config.get("cards", {})
    sources = {"": config, **cards}

    def listed(key: str) -> str:
        named = {name: about.get(key) for name, about in sources.items()}
        return "; ".join(f"{k}: {v}" if k else str(v) for k, v in named.items() if v)

    known = {
        "title": f"Embedding of the Earth by the location encoder {spec}",
        "source": listed("source") if not cards else f"location encoder {spec}, by raytrain",
        "license": listed("licence"),
        "acknowledgement": listed("credit"),
    }
    return {key: value for key, value in known.items() if value}
