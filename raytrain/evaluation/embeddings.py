"""Embeddings of many places, a table's or a grid's, written as Parquet by Ray Data."""

import functools
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet
import ray
import ray.data
from numpy.typing import NDArray
from ray.exceptions import RayTaskError

from raytrain import geo, storage
from raytrain.data.sources.tables import LAT_NAMES, LON_NAMES, why_no_places
from raytrain.errors import UserError
from raytrain.evaluation import probes
from raytrain.evaluation.probes import Encoder

Dtype = Literal["float32", "float16"]

EMBEDDING = "embedding"
KINDS = {"csv": (".csv", ".csv.gz"), "parquet": (".parquet", ".geoparquet", ".pq")}
FILE_BYTES = 64 << 20  # of embeddings in a file; a worker holds several times as much
BLOCK_BYTES = 1 << 20  # of places between the stages: little, so that all workers get some
READ_CPUS, EMBED_CPUS = 0.25, 0.75  # a CPU holds one of each, so that neither starves the other


class Written(NamedTuple):
    """What was written: embeddings [rows, dim], in how long, and the rows left out by reason."""

    rows: int
    dim: int
    seconds: float
    left_out: dict[str, int]


@dataclass(frozen=True)
class Grid:
    """The centres of a global grid of cells of `degrees`, or the nearest size that divides 180."""

    degrees: float
    lon, lat, url, files = "lon", "lat", "--grid", ()

    def __post_init__(self) -> None:
        if not 0 < self.degrees <= 180:
            raise UserError(f"--grid {self.degrees:g}: give the size of a cell in (0, 180] degrees")

    @property
    def rows(self) -> int | None:
        height, width = geo.grid_shape(self.degrees)
        return height * width

    def dataset(self, batch_rows: int) -> ray.data.Dataset:
        """Columns lon, lat; row by row from the north-west, made on the workers."""
        height, width = geo.grid_shape(self.degrees)
        firsts = [{"first": first} for first in range(0, height * width, batch_rows)]
        parts = ray.data.from_items(firsts, override_num_blocks=len(firsts))
        cells = functools.partial(_cells, rows=batch_rows, height=height, width=width)
        return parts.map_batches(cells, batch_size=1, num_cpus=READ_CPUS)


def _cells(
    batch: dict[str, NDArray[np.int64]], rows: int, height: int, width: int
) -> dict[str, NDArray[np.float64]]:
    """Centres of the next `rows` cells of a grid, from the one whose number the batch holds."""
    first = int(batch["first"][0])
    numbers = np.arange(first, min(first + rows, height * width))
    lon, lat = geo.cell_centres(numbers, height, width).T
    return {"lon": lon, "lat": lat}


class Table:
    """Files of one kind, CSV or Parquet, with places in degrees and any other columns.

    `url` is a file, a pattern of files, or a folder with all files below it. Raises UserError where
    there are none or they have no places.
    """

    rows: int | None = None  # known at the end

    def __init__(self, url: str) -> None:
        kinds = {file: _kind(file) for file in storage.files(storage.absolute(url))}
        self.url, self.files = url, [file for file, kind in kinds.items() if kind]
        found = {kind for kind in kinds.values() if kind}
        if len(found) != 1:
            what = "CSV and Parquet side by side" if found else "no CSV or Parquet file"
            raise UserError(f"{url}: {what}; name a file, or a folder or pattern of one kind")
        self.kind = found.pop()
        try:
            names = pyarrow.dataset.dataset(self.files[0], format=self.kind).schema.names
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self.files[0]} is not readable as {self.kind}: {error}") from None
        self.lon, self.lat = (self._column(names, tried) for tried in (LON_NAMES, LAT_NAMES))
        if EMBEDDING in names:
            raise UserError(f"{url} has a column `{EMBEDDING}` already; rename it or leave it out")

    def _column(self, names: list[str], tried: tuple[str, ...]) -> str:
        by_lower = {name.lower(): name for name in names}
        for name in tried:
            if name in by_lower:
                return by_lower[name]
        raise UserError(f"{self.url} has no column `{tried[0]}`; it has: {', '.join(names)}")

    def dataset(self, batch_rows: int) -> ray.data.Dataset:
        """The columns as they are; the coordinates of a CSV file are still text."""
        if self.kind == "parquet":
            return ray.data.read_parquet(
                self.files, file_extensions=None, partitioning=None, num_cpus=READ_CPUS
            )
        text = {self.lon: pa.string(), self.lat: pa.string()}  # a bad cell is a bad row, no more
        options = pyarrow.csv.ConvertOptions(column_types=text)
        return ray.data.read_csv(
            self.files, convert_options=options, partitioning=None, num_cpus=READ_CPUS
        )


def _kind(file: str) -> str | None:
    return next((kind for kind, ends in KINDS.items() if file.lower().endswith(ends)), None)


def write_embeddings(
    encode: Encoder,
    places: Grid | Table,
    output: str,
    dtype: Dtype = "float32",
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Written:
    """Write Parquet files into the folder or URL `output`, by all CPUs of Ray, which must run.

    Their columns are lon, lat (float64, degrees), those of the table, and `embedding`, a list of
    fixed length. Rows come in any order; those without a place are left out and counted. `on_rows`
    hears how many more places are done. Raises UserError for what cannot be read, embedded or
    written.
    """
    began = time.perf_counter()
    dim = probes.embed(encode, np.zeros((1, 2))).shape[1]
    batch_rows = max(1, FILE_BYTES // (dim * np.dtype(dtype).itemsize))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.target_max_block_size = False, BLOCK_BYTES
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what matters is raised
    work = functools.partial(
        _write_batch,
        encode=ray.put(encode),
        columns=(places.lon, places.lat),
        output=storage.absolute(output),
        dtype=dtype,
    )
    batches = places.dataset(batch_rows).map_batches(
        work, batch_size=batch_rows, batch_format="pyarrow", num_cpus=EMBED_CPUS
    )
    rows: dict[str, int] = {}
    left_out: Counter[str] = Counter()
    try:
        for report in batches.iter_rows():
            if error := report.pop("error"):  # bad input: no retry will mend it
                raise UserError(error)
            rows[report.pop("file")] = report["rows"]
            on_rows(sum(report.values()))
            left_out.update(report)
    except RayTaskError as error:
        reason = str(error.cause).partition(". ")[0].partition("\n")[0]
        raise UserError(
            f"{places.url}: {reason}. A damaged file, or columns whose type changes: in CSV the "
            "first rows decide it, in Parquet all files must agree"
        ) from None
    total = left_out.pop("rows", 0)
    left_out = +left_out  # the reasons that there were
    if not total:
        raise UserError(f"{places.url}: no row has a place ({listed(left_out) or 'it is empty'})")
    _keep_only({name for name, count in rows.items() if count}, output)
    return Written(total, dim, time.perf_counter() - began, dict(left_out))


def _write_batch(
    batch: pa.Table,
    encode: "ray.ObjectRef[Encoder]",
    columns: tuple[str, str],
    output: str,
    dtype: Dtype,
) -> dict[str, Any]:
    """Write the embeddings of a batch into a file of its own; returns one row that reports it."""
    lonlat_deg = np.stack([_numbers(batch[name]) for name in columns], axis=1)
    bad = why_no_places(lonlat_deg)
    good = ~np.any([*bad.values()], axis=0)
    report = {"rows": good.sum(), **{reason: rows.sum() for reason, rows in bad.items()}}
    file, error = f"{uuid.uuid4().hex}.parquet", ""
    try:
        if good.any():
            x = probes.embed(_kept(encode), lonlat_deg[good])
            if np.abs(x).max() > np.finfo(dtype).max:
                raise UserError(f"an embedding of {np.abs(x).max():g} is too large for {dtype}")
            others = batch.drop_columns(list(columns)).filter(pa.array(good))
            content = _parquet(lonlat_deg[good], others, x.astype(dtype))
            storage.write(storage.join(output, file), content)
    except UserError as problem:
        error = str(problem)
    return {name: [value] for name, value in {"file": file, "error": error, **report}.items()}


@functools.cache
def _kept(encode: "ray.ObjectRef[Encoder]") -> Encoder:
    """The encoder, which each worker process fetches once."""
    encoder: Encoder = ray.get(encode)
    return encoder


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """A column [n] of numbers, or of text that holds them; nan where it does not."""
    return np.asarray(pd.to_numeric(column.to_pandas(), errors="coerce"), np.float64)


def _parquet(lonlat_deg: geo.Array, others: pa.Table, x: NDArray[np.floating]) -> memoryview:
    """The content of a file: places [n, 2], other columns, embeddings [n, d]."""
    lon, lat = lonlat_deg.T
    places = {"lon": lon, "lat": lat, **dict(zip(others.column_names, others.columns, strict=True))}
    flat = pa.array(x.reshape(-1))
    table = pa.table({**places, EMBEDDING: pa.FixedSizeListArray.from_arrays(flat, x.shape[1])})
    content = pa.BufferOutputStream()
    few = [*places]  # a dictionary of embeddings, which do not repeat, costs time and room
    pyarrow.parquet.write_table(table, content, use_dictionary=few, write_statistics=few)
    return memoryview(content.getvalue())


def _keep_only(files: set[str], output: str) -> None:
    """Remove what a task wrote that was lost afterwards and done again. Raises UserError where
    files are not there, since other nodes wrote them to disks of their own."""
    there = {url.rpartition("/")[2]: url for url in storage.files(storage.absolute(output))}
    if missing := files - there.keys():
        raise UserError(
            f"{output}: {len(missing)} of {len(files)} files are on disks of other nodes; give "
            "--output a URL, or a folder that all nodes share"
        )
    for name in there.keys() - files:
        storage.remove(there[name])


def make_room(output: str, overwrite: bool, inputs: Sequence[str] = ()) -> None:
    """See that `output` is empty; with `overwrite` its Parquet files, and nothing else, go.

    Raises UserError where it holds files that must stay.
    """
    there = storage.files(storage.absolute(output))
    if there and not overwrite:
        raise UserError(f"{output} is not empty; name another --output, or give --overwrite")
    foreign = [file for file in there if _kind(file) != "parquet" or file in inputs]
    if foreign:
        raise UserError(f"{output} holds {foreign[0]}, which must stay; name another --output")
    for file in there:
        storage.remove(file)


def listed(left_out: Mapping[str, int]) -> str:
    """Rows by reason, in words."""
    return "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
