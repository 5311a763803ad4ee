"""One self-contained HTML page of a modality's shards, the faults that were found first."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import raytrain
from raytrain.checks.finding import Finding
from raytrain.data.sources.land import land_mask
from raytrain.evaluation import charts
from raytrain.evaluation.charts import Axis
from raytrain.evaluation.pages import template
from raytrain.inspection import pictures
from raytrain.inspection.faults import EVEN_CELLS_DEG, crowding, outliers, place_figures
from raytrain.inspection.look import Look, Sample
from raytrain.inspection.tally import Numbers, Texts
from raytrain.maps.world import where

TABLE, PLOTS, BARS = 24, 12, 64  # channels in a table, with a histogram, as bars of a sample
BINS = 32
LETTERS = 400  # of a text
EXAMPLES = 5  # of a list in a report


@dataclass(frozen=True)
class Histogram:
    """Heights 0..100 of bins of equal width on an axis."""

    title: str
    alt: str
    x: Axis
    bars: tuple[tuple[float, float, float], ...]  # left, width, height, in per cent


@dataclass(frozen=True)
class FieldView:
    """What the page shows of a field: rows of its table and histograms, of the channels that are
    `shown`, those with faults first."""

    name: str
    rows: tuple[dict[str, Any], ...]
    channels: int
    plots: tuple[Histogram, ...]
    tally: Numbers | Texts


def page(seen: Look, found: list[Finding], name: str, command: str, created: str) -> str:
    """The page of what was seen, and of the faults found."""
    cells, half = crowding(seen.lonlat_deg)
    density, most = pictures.density_map(seen.lonlat_deg, land_mask())
    split = pictures.split_map(seen.lonlat_deg, seen.is_val, land_mask())
    return template(Path(__file__).with_name("page.html")).render(
        name=name,
        command=command,
        created=created,
        raytrain=raytrain.__version__,
        seen=seen,
        manifest=seen.manifest,
        faults=found,
        looked=looked(seen),
        counts=_counts(seen),
        fields=[_field_view(seen, name) for name in seen.manifest.fields],
        is_text=lambda tally: isinstance(tally, Texts),
        has_texts=any(isinstance(tally, Texts) for tally in seen.fields.values()),
        places=place_figures(seen.lonlat_deg) if len(seen.lonlat_deg) else {},
        cells=cells,
        half=half,
        cell_deg=EVEN_CELLS_DEG,
        density=_uri(density),
        split=_uri(split),
        most=most,
        colours=pictures.scale_colours(12),
        samples=[_sample(seen, sample) for sample in seen.samples],
        report=list(_report_rows(seen.report)) if seen.report is not None else [],
        source=json.dumps(seen.manifest.source, indent=2, ensure_ascii=False),
    )


def looked(seen: Look) -> str:
    """How much was looked at, in words."""
    shards, there = len(seen.shards), len(seen.manifest.shards)
    if seen.is_whole:
        return f"all {seen.rows:,} rows of {there:,} shards were looked at"
    return (
        f"{seen.rows:,} of {seen.samples_in_all:,} rows were looked at, in {shards:,} of {there:,} "
        "shards drawn by chance"
    )


def _counts(seen: Look) -> list[tuple[str, int, int, int]]:
    """Split, rows, shards, bytes."""
    found = []
    for split in ("train", "val"):
        shards = seen.manifest.shards_of(split)
        found.append(
            (split, seen.manifest.samples(split), len(shards), sum(s.bytes for s in shards))
        )
    return found


def _field_view(seen: Look, name: str) -> FieldView:
    tally, spec = seen.fields[name], seen.manifest.fields[name]
    if isinstance(tally, Texts):
        lengths = (_histogram("characters", tally.lengths),) if tally.rows else ()
        return FieldView(name, (), 0, lengths, tally)
    odd = (tally.low == tally.high) | (tally.not_finite > 0)
    odd |= np.array([outliers(tally, c) for c in range(tally.channels)])
    order = np.argsort(~odd, kind="stable").tolist()
    rows = []
    for c in sorted(order[:TABLE]) if tally.rows else []:
        of_manifest = [s[c] if s and c < len(s) else None for s in (spec.mean, spec.std)]
        known = tally.sample(c)
        quantiles = np.quantile(known, [0.01, 0.5, 0.99]).tolist() if len(known) else [None] * 3
        rows.append(
            {
                "channel": c,
                "mean": tally.mean[c],
                "std": tally.std[c],
                "manifest_mean": of_manifest[0],
                "manifest_std": of_manifest[1],
                "low": tally.low[c],
                "high": tally.high[c],
                "quantiles": quantiles,
                "not_finite": int(tally.not_finite[c]),
                "odd": bool(odd[c]),
            }
        )
    drawn = sorted(order[:PLOTS]) if tally.rows else []
    plots = [_histogram(f"channel {c}", tally.sample(c)) for c in drawn if len(tally.sample(c))]
    return FieldView(name, tuple(rows), tally.channels, tuple(plots), tally)


def _histogram(title: str, values: NDArray[np.float64]) -> Histogram:
    """Of the values between their 0.2nd and 99.8th percentile."""
    low, high = np.quantile(values, [0.002, 0.998]).tolist()
    x = charts.linear([low, high])
    counts, edges = np.histogram(values, bins=BINS, range=(x.low, x.high))
    heights = 100 * counts / max(1, counts.max())
    bars = [
        (x.at(left), round(x.at(right) - x.at(left), 2), round(float(height), 2))
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True)
    ]
    middle = np.median(values)
    alt = f"Histogram of {title}: most between {low:.4g} and {high:.4g}, the middle {middle:.4g}"
    return Histogram(title, alt, x, tuple(bars))


def _sample(seen: Look, sample: Sample) -> dict[str, Any]:
    """A sample as the page shows it."""
    shown: list[dict[str, Any]] = []
    for name, value in sample.observed.items():
        tally = seen.fields[name]
        if isinstance(tally, Texts):
            text = str(value)
            shown.append({"kind": "words", "words": text[:LETTERS] + "…" * (len(text) > LETTERS)})
        elif np.ndim(value) == 3:
            images = pictures.observation_images(value, tally)
            shown.append({"kind": "images", "images": [_uri(image) for image in images]})
        else:
            shown.append({"kind": "bars", "bars": _bars(np.ravel(value), tally)})
    return {"place": where(np.round(sample.lonlat_deg[None], 2)), "shown": shown}


def _bars(values: NDArray[Any], tally: Numbers) -> list[float]:
    """The first BARS columns in deviations from their mean, -3 to 3."""
    if len(values) != tally.channels:
        return []
    deviations = (values.astype(np.float64) - tally.mean) / np.maximum(tally.std, 1e-30)
    return [round(float(d), 2) for d in np.clip(np.nan_to_num(deviations), -3, 3)[:BARS]]


def _report_rows(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    """What `prepare` reported, as lines of a name and a value; a list by its first items."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _report_rows(item, f"{path} · {key}" if path else str(key))
    elif not isinstance(value, list):
        yield path, _inline(value)
    elif value:
        more = f"; and {len(value) - EXAMPLES:,} more" if len(value) > EXAMPLES else ""
        yield path, "; ".join(map(_inline, value[:EXAMPLES])) + more


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_inline(item)}" for key, item in value.items())
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()
