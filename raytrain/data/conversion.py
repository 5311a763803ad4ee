"""Raw rows of any number to shards: what is to be done, by whom, and what came of it.

Each part and each bin leaves a small file when it is done, so a command that was killed goes on
where it was, and nothing here grows with the rows but the list of the shards.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytrain import settings, storage
from raytrain.data.manifest import MANIFEST, Field, Manifest, Shard
from raytrain.data.packing import GROUP_ROWS, forget_manifest, with_statistics
from raytrain.data.passes import AT_SEA, WORKING, Work, bin_name, pack_bin, part_name, sort_part
from raytrain.data.report import Report
from raytrain.data.rows import Part, RowSource
from raytrain.data.shards import COLUMNS
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.tables import SWAPPED, SWAPPED_SHARE
from raytrain.data.writer import HOLDOUT
from raytrain.errors import UserError

BIN_SHARDS, BIN_BYTES = 16, 128 << 20  # of a bin, at most
AT_ONCE = 16  # requests to a store
PLAN = "plan.json"
OURS = re.compile(r"\.?(train|val)-\d{5,}(-\d{3,})?\.tar(\.\d+\.part)?")  # begun ones too

OnRows = Callable[[int, int, str], None]
"""Hears of rows done so far, rows in all, and what is being done with them."""


Spread = Callable[[Callable[[int], int], Sequence[int]], Iterator[int]]


def write_rows(
    url: str,
    source: RowSource,
    context: Context,
    *,
    described: settings.Tree,
    licence: str = "",
    credit: str = "",
    start_ray: Callable[[], object] = lambda: None,
    on_rows: OnRows = lambda done, rows, doing: None,
) -> tuple[Manifest, Report]:
    """Write a folder of shards of a source's rows, its manifest last; returns that, and the report.

    Equal sources give equal bytes, by however many workers. A command that was stopped or killed
    goes on. What is more than one part or one bin is spread by Ray Data, after `start_ray`. Raises
    UserError for rows that cannot be read or used.
    """
    parts = source.parts(context)
    work = _work(url, source, context, parts)
    forget_manifest(url)
    _make_room(work, described)
    spread = _over_cluster(start_ray) if len(parts) > 1 or work.bins > 1 else _in_turn

    total, report, pieces = sum(part.rows for part in parts), Report(), []
    names = [part_name(number) for number in range(len(parts))]
    missing = _missing(work, names)
    sorting = functools.partial(sort_part, work)
    _follow(spread(sorting, missing), total, "reading", on_rows)
    for done in _reports(work, names):
        pieces.append(done["pieces"])
        report.add(Report.from_dict(done["report"]))
    _check(report, source)

    names = [bin_name(number) for number in range(work.bins)]
    missing = _missing(work, names)
    packing = functools.partial(pack_bin, work, pieces)
    good = report.rows - sum(report.bad.values())
    _follow(spread(packing, missing), good, "writing", on_rows)
    shards: list[Shard] = []
    sums: dict[str, NDArray[np.float64]] = {}
    for done in _reports(work, names):
        shards += [Shard(**shard) for shard in done["shards"]]
        report.add(Report.from_dict(done["report"]))
        for field, of_field in done["sums"].items():
            sums[field] = sums.get(field, 0.0) + np.array(of_field)
    _check(report, source)

    manifest = Manifest(
        modality=context.modality,
        layout=source.layout,
        fields=with_statistics(work.fields, report.kept["train"], sums),
        shards=tuple(sorted(shards, key=lambda shard: shard.split)),
        holdout=work.holdout,
        source={**described, "group_rows": GROUP_ROWS, "rows": report.rows, "bins": work.bins},
        licence=licence,
        credit=credit,
    )
    _finish(url, manifest, report)
    return manifest, report


def _work(url: str, source: RowSource, context: Context, parts: list[Part]) -> Work:
    fields = source.fields(context)
    bins = _bins(sum(part.rows for part in parts), source, fields)
    return Work(source, context, url, tuple(parts), fields, bins, HOLDOUT)


def _bins(rows: int, source: RowSource, fields: dict[str, Field]) -> int:
    """How many bins: each is about 16 shards, or fewer where rows are large."""
    most = BIN_SHARDS * source.shard_rows
    if source.layout == COLUMNS:
        row_bytes = sum(
            int(np.prod(field.shape)) * np.dtype(field.dtype).itemsize for field in fields.values()
        )
        most = min(most, max(source.shard_rows, BIN_BYTES // max(1, row_bytes)))
    return max(1, round(rows / most))


def _make_room(work: Work, described: settings.Tree) -> None:
    """Keep what an interrupted command of the same plan has done, and delete that of another."""
    kept = {key: value for key, value in described.items() if key != "max_bad_share"}
    files = [*dict.fromkeys(part.file for part in work.parts)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        stamps = [*pool.map(_stamp, files)]
    plan = repr((kept, files, stamps, work.parts, work.fields, work.bins, work.holdout))
    content = json.dumps({"plan": hashlib.sha256(plan.encode()).hexdigest()}).encode()
    try:
        if storage.read(work.working(PLAN)) == content:
            return
    except FileNotFoundError:
        pass
    storage.remove_folder(storage.join(work.url, WORKING))
    storage.write(work.working(PLAN), content)


def _stamp(file: str) -> str:
    """What tells a file from what it was; "" for a folder of a store that does not know."""
    try:
        return storage.stamp(file)
    except (FileNotFoundError, KeyError, UserError):
        return ""


def _in_turn(work: Callable[[int], int], numbers: Sequence[int]) -> Iterator[int]:
    return map(work, numbers)


def _over_cluster(start_ray: Callable[[], object]) -> Spread:
    """Work on numbers by Ray, which starts when there are some."""

    def over_cluster(work: Callable[[int], int], numbers: Sequence[int]) -> Iterator[int]:
        from raytrain.data.spread import spread  # importing Ray Data takes a second

        if numbers:
            start_ray()
        return spread(work, numbers)

    return over_cluster


def _follow(done: Iterator[int], rows: int, doing: str, on_rows: OnRows) -> None:
    """Tell of rows as they are done."""
    so_far = 0
    on_rows(so_far, rows, doing)
    for more in done:
        so_far += more
        on_rows(so_far, max(rows, so_far), doing)


def _missing(work: Work, names: Sequence[str]) -> list[int]:
    """The numbers of the files that are not there yet, or that name shards which are not."""
    there = storage.sizes(storage.join(work.url, WORKING))
    shards = storage.sizes(work.url)
    done = [name for name in names if name in there]
    whole = {
        name
        for name, came in zip(done, _reports(work, done), strict=True)
        if all(shards.get(shard["name"]) == shard["bytes"] for shard in came.get("shards", ()))
    }
    return [number for number, name in enumerate(names) if name not in whole]


def _reports(work: Work, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What came of each part or bin, in their order, read some at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in range(0, len(names), AT_ONCE):
            some = [work.working(name) for name in names[first : first + AT_ONCE]]
            try:
                yield from map(json.loads, pool.map(storage.read, some))
            except FileNotFoundError as error:
                raise UserError(
                    f"{work.url}: what workers on other nodes have written is on disks of their "
                    f"own ({error}); give --root a URL, or a folder that all nodes share"
                ) from None


def _check(report: Report, source: RowSource) -> None:
    """Raise SourceError where too many rows are of no use."""
    swapped, counts = report.bad.get(SWAPPED, 0), {**report.bad, AT_SEA: 0}
    bad = sum(counts.values())
    if swapped > SWAPPED_SHARE * report.rows:
        raise SourceError(
            f"{source.raw}: {swapped:,} of {report.rows:,} rows have a latitude beyond 90°; the "
            "columns of longitude and latitude seem swapped: set `source.lon` and `source.lat`"
        )
    if bad > source.max_bad_share * report.rows or sum(report.bad.values()) == report.rows:
        listed = "; ".join(f"{reason}: {rows:,}" for reason, rows in counts.items() if rows)
        raise SourceError(
            f"{source.raw}: {bad:,} of {report.rows:,} rows cannot be used "
            f"({listed or 'it is empty'}). "
            f"Mend it, or allow it with `source.max_bad_share` (now {source.max_bad_share})"
        )


def _finish(url: str, manifest: Manifest, report: Report) -> None:
    """Write report and manifest, and remove what is not needed any more: the working folder, and
    shards of other sources or plans."""
    there = storage.sizes(url)
    for shard in manifest.shards:
        if there.get(shard.name) != shard.bytes:
            raise UserError(
                f"{storage.join(url, shard.name)} is not there as it was written: it is on the "
                "disk of another node, or somebody changed it. Give --root a URL or a folder that "
                "all nodes share, or delete what is there and give the same command again"
            )
    report.save(url)
    storage.write(storage.join(url, MANIFEST), manifest.to_json().encode())
    ours = {shard.name for shard in manifest.shards}
    for name in there:
        if OURS.fullmatch(name) and name not in ours:
            storage.remove(storage.join(url, name))
    storage.remove_folder(storage.join(url, WORKING))
