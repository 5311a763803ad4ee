"""Embeddings of many places, a table's or a grid's, written as Parquet by Ray Data."""

import functools
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import ray
import ray.data
import torch
from numpy.typing import NDArray

from raytrain import storage
from raytrain.bulk.folder import LEFT_OUT, EmbeddingFolder, part_name
from raytrain.bulk.places import EMBEDDING, Grid, Table
from raytrain.data import spread
from raytrain.data.rows import REASON
from raytrain.data.sources.geoparquet import METADATA
from raytrain.data.sources.tables import why_no_places
from raytrain.encoders.pretrained import PlaceEncoder, location_weights
from raytrain.errors import UserError
from raytrain.evaluation import probes
from raytrain.evaluation.probes import Encoder
from raytrain.geo import Array

Dtype = Literal["float32", "float16"]

PART_BYTES = 128 << 20  # of embeddings in a file; between two files a worker waits for a moment
PART_ROWS = 1 << 17  # at most, however narrow the embedding
ROWS = 2048  # places embedded, and written as a row group, at a time: what is made of them stays in
# a core's cache, while large buffers cost page faults
READ_CPUS, EMBED_CPUS = 0.25, 0.5  # half as many again embed as there are CPUs: some wait for the
# disk, or for their next part


class Written(NamedTuple):
    """Embeddings [rows, dim] and the rows left out by reason; of these were `before` there already,
    and the others took so many seconds."""

    rows: int
    before: int
    dim: int
    seconds: float
    left_out: dict[str, int]


@dataclass(frozen=True)
class Work:
    """What a worker needs to embed any part."""

    encode: "ray.ObjectRef[Encoder]"
    places: Grid | Table
    part_rows: int
    dim: int
    dtype: Dtype
    url: str


def open_folder(
    spec: str, encode: Encoder, places: Grid | Table, output: str, dtype: Dtype, overwrite: bool
) -> EmbeddingFolder:
    """The folder or URL `output` for the embeddings of places, new or to be gone on with; `encode`
    is the encoder that the user named `spec`. Raises UserError where `output` holds other things.
    """
    if storage.absolute(output).startswith(f"{storage.absolute(places.url).rstrip('/')}/"):
        raise UserError(f"{output} lies in {places.url} and would be read; name another --output")
    dim = probes.embed(encode, np.zeros((1, 2))).shape[1]
    most = min(PART_ROWS, max(1, PART_BYTES // (dim * np.dtype(dtype).itemsize)))
    description = {
        "encoder": _identity(spec, encode),
        "input": places.identity(),
        "dtype": dtype,
        "dim": dim,
        "part_rows": places.part_rows(most),
    }
    return EmbeddingFolder(output, description, overwrite)


def _identity(spec: str, encode: Encoder) -> str:
    """What tells an encoder from others: its weights; of a function, only the name is known."""
    owner = getattr(encode, "__self__", None)
    if not isinstance(owner, PlaceEncoder):
        return spec
    return f"weights of sha256 {hashlib.sha256(location_weights(owner.encoder)).hexdigest()}"


def write_embeddings(
    encode: Encoder,
    places: Grid | Table,
    folder: EmbeddingFolder,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Written:
    """Write what the folder lacks, by all CPUs of Ray, which must run.

    Columns are lon, lat (float64, degrees), those of the table, and `embedding`, a list of fixed
    length. A row without a place goes into a file below `_left_out`, as it is and with the reason.
    `on_rows` hears how many more rows are done. Raises UserError for what cannot be read, embedded
    or written.
    """
    began = time.perf_counter()
    described = folder.description
    dtype, dim, part_rows = (described[key] for key in ("dtype", "dim", "part_rows"))
    work = Work(ray.put(encode), places, part_rows, dim, dtype, folder.url)
    rows, left_out, parts = folder.rows, folder.left_out.copy(), {*folder.parts}
    on_rows(rows + left_out.total())
    for report in spread.rows_of(_dataset(work, folder.parts)):
        parts.add(report.pop("name"))
        on_rows(sum(report.values()))
        rows += report.pop(EMBEDDING)
        left_out.update(report)
    left_out = +left_out  # the reasons that there were
    if not rows:
        raise UserError(f"{places.url}: no row has a place ({listed(left_out) or 'it is empty'})")
    folder.finish(rows, left_out, parts)
    return Written(rows, folder.rows, dim, time.perf_counter() - began, dict(left_out))


def _dataset(work: Work, done: set[str]) -> ray.data.Dataset:
    """A row for every part that is not done, which reports it: first read, then embedded. Between
    the two a part is one row and one block, so that Ray may deal parts out and cannot cut them."""
    numbers = [{"source": number} for number in range(len(work.places.sources))]
    sources = ray.data.from_items(numbers, override_num_blocks=len(numbers))
    spread.make_quiet(sources.context)
    sources.context.target_max_block_size = 1
    read = functools.partial(_read, work=work, done=done)
    return sources.map_batches(read, batch_size=1, num_cpus=READ_CPUS).map_batches(
        functools.partial(_embed, work=work),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=EMBED_CPUS,
    )


def _read(
    batch: dict[str, NDArray[np.int64]], work: Work, done: set[str]
) -> Iterator[dict[str, list[Any]]]:
    """The parts of an input file that are not done."""
    (source,) = map(int, batch["source"])
    for number, part in enumerate(work.places.parts_of(source, work.part_rows)):
        if (name := part_name(source, number)) not in done:
            content = pa.BufferOutputStream()
            with pa.ipc.new_stream(content, part.schema) as stream:
                stream.write_table(part)
            yield {"name": [name], "content": [content.getvalue().to_pybytes()]}


def _embed(batch: pa.Table, work: Work) -> dict[str, list[Any]]:
    """Write the files of a part; returns one row that reports it."""
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own gives pages back, and faults again
    name = batch["name"][0].as_py()
    part = pa.ipc.open_stream(batch["content"][0].as_buffer()).read_all()
    lonlat_deg, others = work.places.split(part)
    bad = why_no_places(lonlat_deg)
    good = ~np.any([*bad.values()], axis=0)
    if not good.all():
        reasons = np.select([*bad.values()], [*bad], "")[~good]
        left_out = part.filter(pa.array(~good)).append_column(REASON, pa.array(reasons))
        _write(iter([left_out]), storage.join(work.url, LEFT_OUT, name))
        lonlat_deg, others = lonlat_deg[good], others.filter(pa.array(good))
    # Last, since this file says that the part is done.
    groups = range(0, max(1, len(lonlat_deg)), ROWS)
    _write((_group(lonlat_deg, others, first, work) for first in groups), f"{work.url}/{name}")
    report = {EMBEDDING: good.sum(), **{reason: rows.sum() for reason, rows in bad.items()}}
    return {"name": [name], **{key: [int(count)] for key, count in report.items()}}


def _group(lonlat_deg: Array, others: pa.Table, first: int, work: Work) -> pa.Table:
    """The next rows of the output, from row `first` on; none where there are none."""
    places = lonlat_deg[first : first + ROWS]
    return _with_embeddings(places, others[first : first + ROWS], _embeddings(places, work))


def _embeddings(lonlat_deg: Array, work: Work) -> NDArray[np.floating]:
    """The embeddings [n, dim] of places [n, 2]."""
    kind = getattr(torch, work.dtype)
    if not len(lonlat_deg):
        return torch.empty(0, work.dim, dtype=kind).numpy()
    x = torch.from_numpy(probes.given(_kept(work.encode), lonlat_deg))
    low, high = x.aminmax()
    if (most := max(float(high), -float(low))) > torch.finfo(kind).max:
        raise UserError(f"an embedding of {most:g} is too large for {work.dtype}")
    return x.to(kind).numpy()  # numpy takes 20 times as long to float16


@functools.cache
def _kept(encode: "ray.ObjectRef[Encoder]") -> Encoder:
    """The encoder, which each worker process fetches once."""
    encoder: Encoder = ray.get(encode)
    return encoder


def _with_embeddings(lonlat_deg: Array, others: pa.Table, x: NDArray[np.floating]) -> pa.Table:
    """Places [n, 2], other columns and embeddings [n, dim] as one table; what makes the other
    columns GeoParquet is kept."""
    lists = pa.list_(pa.field("element", pa.from_numpy_dtype(x.dtype), nullable=False), x.shape[1])
    fields = [pa.field("lon", pa.float64()), pa.field("lat", pa.float64()), *others.schema]
    fields.append(pa.field(EMBEDDING, lists, nullable=False))
    metadata = {k: v for k, v in (others.schema.metadata or {}).items() if k == METADATA}
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), type=lists)
    columns = [*map(pa.array, lonlat_deg.T.copy()), *others.columns, embedding]
    return pa.table(columns, pa.schema(fields, metadata))


def _write(groups: Iterator[pa.Table], url: str) -> None:
    """Write a Parquet file of row groups. Embeddings neither repeat nor shrink: a dictionary,
    statistics and compression of theirs would cost time for nothing. Batches and pages of other
    sizes than Arrow's own save a quarter of the time that their lists take."""
    first = next(groups)
    others = [name for name in first.column_names if name != EMBEDDING]
    with (
        storage.writing(url) as file,
        pyarrow.parquet.ParquetWriter(
            file,
            first.schema,
            use_dictionary=others,
            write_statistics=others,
            compression=dict.fromkeys(others, "snappy"),
            write_batch_size=2**14,
            data_page_size=2**18,
        ) as parquet,
    ):
        for group in itertools.chain([first], groups):
            parquet.write_table(group)


def listed(left_out: Mapping[str, int]) -> str:
    """Rows by reason, in words."""
    return "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
