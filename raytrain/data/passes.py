"""The two passes that make shards of raw rows: parts are sorted into bins, bins become shards.

The bin of a row is told by the fingerprint of its content. So equal rows meet in a bin, where all
but the first are dropped, and rows in the order of their fingerprints are shuffled, the same way
whatever the parts were. All that is written depends on the source alone, not on who does it when.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import compress
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raytrain import geo, storage
from raytrain.data.bins import read_bin, write_bins
from raytrain.data.fingerprints import fingerprints
from raytrain.data.manifest import Field, Holdout, Shard
from raytrain.data.packing import Observed, Sums, pack, write_shard
from raytrain.data.report import LeftOut, Report
from raytrain.data.rows import KEY, LAT, LON, REASON, Part, RowSource
from raytrain.data.sources.files import Context
from raytrain.data.sources.land import land_mask
from raytrain.data.sources.tables import why_no_places

WORKING = ".working"  # a folder below that of the shards, until they are done
FINGERPRINT = ("fingerprint_0", "fingerprint_1")
OBSERVED_ROWS = 512  # observed at a time
AT_ONCE = 8  # requests of a worker to a store
NULL_ISLAND, AT_SEA = "exactly at 0, 0", "at sea"


@dataclass(frozen=True)
class Work:
    """What a worker needs to know to do any part or bin."""

    source: RowSource
    context: Context
    url: str
    parts: tuple[Part, ...]
    fields: dict[str, Field]
    bins: int
    holdout: Holdout

    def working(self, name: str) -> str:
        """A file of the folder that is there until the shards are done."""
        return storage.join(self.url, WORKING, name)


def part_name(part: int) -> str:
    """The file that says that a part is sorted, and what came of it."""
    return f"part-{part:06d}.json"


def bin_name(number: int) -> str:
    """The file that says that a bin's shards are written, and what is in them."""
    return f"bin-{number:06d}.json"


def _piece_name(part: int, piece: int) -> str:
    return f"part-{part:06d}-{piece:04d}.bins"


def sort_part(work: Work, number: int) -> int:
    """Sort the rows of a part into bins; how many there are."""
    report, pieces = Report(), 0
    for rows in work.source.rows(work.parts[number], work.context):
        good = sifted(rows, work.source, report)
        if not len(good):
            continue
        words = fingerprints(good.drop_columns([KEY]))
        for name, word in zip(FINGERPRINT, words.T, strict=True):
            good = good.append_column(name, pa.array(word))
        # Bins follow one another as fingerprints do.
        bin_of = (words[:, 0] >> np.uint64(32)) * np.uint64(work.bins) >> np.uint64(32)
        name = _piece_name(number, pieces)
        write_bins(work.working(name), good, bin_of.astype(np.int64), work.bins)
        pieces += 1
    _save(work.working(part_name(number)), {"pieces": pieces, "report": report.to_dict()})
    return report.rows


def sifted(rows: pa.Table, source: RowSource, report: Report) -> pa.Table:
    """The rows that are of use, without a reason; the others are counted."""
    lonlat_deg = lonlat_of(rows)
    known = rows[REASON].to_pylist() if REASON in rows.column_names else [None] * len(rows)
    reasons = np.array([reason or "" for reason in known], object)
    found = {**why_no_places(lonlat_deg), NULL_ISLAND: (lonlat_deg == 0).all(axis=1)}
    for reason, where in found.items():
        reasons[where & (reasons == "")] = reason
    placed = np.flatnonzero(~np.any([*found.values()], axis=0))
    sea = placed[~land_mask()[geo.raster_pixels(lonlat_deg[placed], *land_mask().shape)]]
    if source.land:
        reasons[sea] = np.where(reasons[sea] == "", AT_SEA, reasons[sea])
    report.rows += len(rows)
    report.at_sea += len(sea)
    for reason in sorted({*reasons} - {""}):
        report.leave_out(reason, LeftOut.of(rows.filter(pa.array(reasons == reason))))
    others = [name for name in rows.column_names if name != REASON]
    return rows.filter(pa.array(reasons == "")).select(others)


def pack_bin(work: Work, pieces: Sequence[int], number: int) -> int:
    """Write the shards of a bin, of which each part has so many pieces; how many rows it has."""
    report, shards = Report(), []
    sums: dict[str, NDArray[np.float64]] = {}
    rows = _gathered(work, pieces, number, report)
    count = 0 if rows is None else len(rows)
    if rows is not None:
        holdout = work.holdout
        held_out = geo.held_out(lonlat_of(rows), holdout.degrees, holdout.share, holdout.seed)
        split_of = {"train": np.flatnonzero(~held_out), "val": np.flatnonzero(held_out)}
        for split, index in split_of.items():
            cuts = -(-len(index) // work.source.shard_rows)
            for cut, chosen in enumerate(np.array_split(index, cuts) if cuts else []):
                name = f"{split}-{number:05d}-{cut:03d}.tar"
                made = _shard(work, rows.take(pa.array(chosen)), name, split, report)
                if made is not None:
                    shards.append(asdict(made[0]))
                    for field, of_field in made[1].items() if split == "train" else ():
                        sums[field] = sums.get(field, 0.0) + np.array(of_field)
    listed = {field: total.tolist() for field, total in sums.items()}
    values = {"shards": shards, "sums": listed, "report": report.to_dict()}
    _save(work.working(bin_name(number)), values)
    return count


def _gathered(work: Work, pieces: Sequence[int], number: int, report: Report) -> pa.Table | None:
    """The rows of a bin, in the order of their fingerprints; of those that are equal, the first."""
    names = [_piece_name(part, piece) for part, n in enumerate(pieces) for piece in range(n)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda name: read_bin(work.working(name), number), names)
        tables = [table for table in found if table is not None]
    if not tables:
        return None
    rows = pa.concat_tables(tables).combine_chunks()
    words = np.stack([np.asarray(rows[name]) for name in FINGERPRINT])
    order = np.lexsort(words[::-1])  # stable: equal ones as the parts are
    again = np.zeros(len(order), np.bool_)
    again[1:] = (words[:, order[1:]] == words[:, order[:-1]]).all(axis=0)
    report.duplicates.add(LeftOut.of(rows.take(pa.array(order[again]))))
    return rows.take(pa.array(order[~again])).drop_columns([*FINGERPRINT])


def _shard(
    work: Work, rows: pa.Table, name: str, split: str, report: Report
) -> tuple[Shard, dict[str, Sums]] | None:
    """Write a shard of the observations of rows, and the sums of its fields; None where no row has
    an observation."""
    taken: list[Observed] = []
    good = np.ones(len(rows), np.bool_)
    for first in range(0, len(rows), OBSERVED_ROWS):
        piece = rows.slice(first, OBSERVED_ROWS)
        observed, bad = work.source.observe(piece, work.context)
        for row, reason in bad.items():
            report.leave_out(reason, LeftOut.of(piece.slice(row, 1)))
            good[first + row] = False
        taken.append(_without(observed, good[first : first + len(piece)]))
    if not good.any():
        return None
    lonlat_deg = lonlat_of(rows)[good]
    columns = {field: _joined([observed[field] for observed in taken]) for field in work.fields}
    content, sums = pack(work.source.layout, lonlat_deg, columns, work.fields)
    report.keep(split, lonlat_deg)
    return write_shard(work.url, name, split, len(lonlat_deg), content), sums


def _without(observed: Observed, good: NDArray[np.bool_]) -> Observed:
    """The observations of the good rows."""
    return observed if good.all() else {name: _of(c, good) for name, c in observed.items()}


def _of(column: Any, good: NDArray[np.bool_]) -> Any:
    return column[good] if isinstance(column, np.ndarray) else [*compress(column, good)]


def _joined(columns: Sequence[Any]) -> Any:
    if isinstance(columns[0], np.ndarray):
        return np.concatenate(columns)
    return [value for column in columns for value in column]


def lonlat_of(rows: pa.Table) -> geo.Array:
    """The places [n, 2] of rows, nan where a coordinate is none."""
    columns = [rows[name].cast(pa.float64()).to_numpy() for name in (LON, LAT)]
    return np.stack(columns, axis=1)


def _save(url: str, values: dict[str, Any]) -> None:
    storage.write(url, json.dumps(values, ensure_ascii=False).encode())
