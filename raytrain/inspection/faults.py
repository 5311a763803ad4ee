"""What is wrong, or looks wrong, with shards that were looked at."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from raytrain import geo
from raytrain.checks.finding import Finding, State
from raytrain.data.manifest import Field
from raytrain.data.sources.land import land_mask
from raytrain.inspection.look import Look
from raytrain.inspection.tally import Copies, Numbers, Texts

FAR = 20.0  # robust deviations from the median
MANY = 0.01  # of all rows
AT_SEA, EVEN_CELLS_DEG = 0.02, 2.0
NULL_ISLAND_DEG = 0.01


def faults(seen: Look) -> list[Finding]:
    """Of the shards, the places and each field; red ones first."""
    found = [*_of_shards(seen), *_of_places(seen)]
    for name, tally in seen.fields.items():
        if isinstance(tally, Texts):
            found += _of_texts(name, tally)
        else:
            found += _of_numbers(name, seen.manifest.fields[name], tally)
    return sorted(found, key=lambda finding: finding.state != "red")


def _of_shards(seen: Look) -> Iterator[Finding]:
    for problem in seen.problems:
        yield Finding("shards", "red", problem)
    for reason, (count, first) in seen.skipped.items():
        state: State = "red" if count > MANY * seen.rows else "yellow"
        yield Finding(
            "shards", state, f"{count:,} of {seen.rows:,} rows cannot be used: {reason} ({first})"
        )
    for split in ("train", "val"):
        if not seen.manifest.samples(split):
            yield Finding(
                "shards", "red", f"no rows in the split {split}", "prepare the modality with more"
            )
    lacks = [term for term in ("licence", "credit") if not getattr(seen.manifest, term)]
    if lacks:
        remedy = "add it to the card and prepare the modality again"
        yield Finding("terms", "yellow", f"the manifest has no {' and no '.join(lacks)}", remedy)


def _of_places(seen: Look) -> Iterator[Finding]:
    places, n = seen.lonlat_deg, len(seen.lonlat_deg)
    if not n:
        return
    holdout = seen.manifest.holdout
    held_out = geo.held_out(places, holdout.degrees, holdout.share, holdout.seed)
    if mixed := int((held_out != seen.is_val).sum()):
        words = f"{mixed:,} of {n:,} places are in the split that their block is not in"
        yield Finding("places", "red", words, "prepare the modality again: validation leaks")
    figures = place_figures(places)
    if zero := figures["at 0, 0"]:
        words = f"{zero:,} of {n:,} places are at 0, 0, which is sea: mostly a missing value"
        yield Finding("places", "red", words, "leave such rows out")
    sea = figures["at sea"] / n
    if sea > AT_SEA:
        swapped = places[:, ::-1]
        other = at_sea(swapped).mean() if geo.valid_lonlat(swapped).all() else 1.0
        if sea > 0.5 and other < sea / 2:
            words = f"{sea:.0%} of the places are at sea, and {other:.0%} were lon and lat swapped"
            yield Finding("places", "red", words, "see which column is which in the card's source")
        else:
            yield Finding("places", "yellow", f"{sea:.1%} of the places are at sea")
    if figures["at a place of another row"] > MANY * n:
        words = f"{figures['at a place of another row'] / n:.1%} of the rows share their place"
        yield Finding("places", "yellow", words, "these are no negatives: objective.near.kind=mask")
    if figures["in whole degrees"] > MANY * n:
        words = f"{figures['in whole degrees'] / n:.1%} of the places are in whole degrees"
        yield Finding("places", "yellow", words, "places that were rounded are wrong by 100 km")
    cells, half = crowding(places)
    if cells >= 100 and half < 0.1 * cells:
        words = f"half of the places lie in {half:,} of {cells:,} cells of {EVEN_CELLS_DEG:g}°"
        yield Finding("places", "yellow", words, "data.balance.exponent=0.5 draws such cells less")


def place_figures(places: geo.Array) -> dict[str, int]:
    """Numbers of places [n, 2] by what is odd about them."""
    _, place, times = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    zero = (np.abs(places) < NULL_ISLAND_DEG).all(axis=1)
    whole = (places == np.round(places)).all(axis=1)
    return {
        "at a place of another row": int((times[place.reshape(-1)] > 1).sum()),
        "at sea": int(at_sea(places).sum()),
        "at 0, 0": int(zero.sum()),
        "in whole degrees": int((whole & ~zero).sum()),
    }


def at_sea(places: geo.Array) -> NDArray[np.bool_]:
    """Which places [n, 2] are water on the land mask, whose pixels are 0.05°."""
    land = land_mask()
    return ~land[geo.raster_pixels(places, *land.shape)]


def crowding(places: geo.Array) -> tuple[int, int]:
    """Cells that have any of the places [n, 2], and in how many of these half of them lie."""
    _, counts = np.unique(geo.blocks(places, EVEN_CELLS_DEG), return_counts=True)
    share = np.cumsum(np.sort(counts)[::-1]) / max(1, len(places))
    return len(counts), int(np.searchsorted(share, 0.5) + 1)


def _of_numbers(name: str, spec: Field, tally: Numbers) -> Iterator[Finding]:
    if not tally.rows:
        return
    if not_finite := int(tally.not_finite.sum()):
        where = _listed(tally.not_finite > 0)
        words = f"{not_finite:,} values are not finite, in {where}"
        yield Finding(name, "red", words, "leave such rows out, or fill them")
    constant = (tally.low == tally.high) & (tally.count > 1)
    if constant.any():
        words = f"{_listed(constant)} {'is' if constant.sum() == 1 else 'are'} constant"
        yield Finding(name, "yellow", words, "leave out what tells nothing")
    if tally.flat > MANY * tally.rows:
        words = f"{tally.flat:,} of {tally.rows:,} rows hold one value throughout"
        yield Finding(name, "yellow", words, "missing data, if not a desert or the sea")
    far = [c for c in range(tally.channels) if outliers(tally, c)]
    if far:
        low, high = tally.low[far[0]], tally.high[far[0]]
        words = f"{_listed(np.isin(np.arange(tally.channels), far))}: values far from all others"
        words += f" ({low:g} to {high:g}, the middle is {np.median(tally.sample(far[0])):g})"
        yield Finding(name, "yellow", words, "a mark of missing data that was read as a number?")
    if np.prod(spec.shape) > 1:
        yield from _of_copies(name, tally.copies, tally.rows)
    yield from _of_statistics(name, spec, tally)


def outliers(tally: Numbers, channel: int) -> bool:
    """Whether a channel's lowest or highest value is FAR from its middle."""
    known = tally.sample(channel)
    if len(known) < 100:
        return False
    low, middle, high = np.quantile(known, [0.159, 0.5, 0.841])
    spread = (high - low) / 2 or known.std()
    reach = max(middle - tally.low[channel], tally.high[channel] - middle)
    return bool(spread > 0 and reach > FAR * spread)


def _of_statistics(name: str, spec: Field, tally: Numbers) -> Iterator[Finding]:
    """The manifest's mean and deviation, by which observations are standardised, beside those of
    what was looked at."""
    if spec.mean is None or spec.std is None:
        words = "the manifest has no mean and deviation: towers read the values as they are"
        yield Finding(name, "yellow", words, "prepare the modality again")
        return
    mean, std = np.array(spec.mean), np.array(spec.std)
    if mean.shape != tally.mean.shape or std.shape != tally.std.shape:
        words = f"the manifest has statistics of {len(mean)} channels, the field {tally.channels}"
        yield Finding(name, "red", words, "prepare the modality again")
        return
    within = max(0.05, 6 / np.sqrt(tally.rows))
    unit = np.maximum(std, 1e-12 + 1e-6 * np.abs(mean))
    wrong = np.abs(tally.mean - mean) > within * unit
    wrong |= np.abs(tally.std - std) > 2 * within * unit
    if wrong.any():
        c = int(wrong.argmax())
        words = f"{_listed(wrong)}: mean and deviation are not those of the manifest (in "
        words += f"{c}: {tally.mean[c]:.4g} ± {tally.std[c]:.4g}, and {mean[c]:.4g} ± {std[c]:.4g})"
        yield Finding(name, "red", words, "prepare the modality again")


def _of_texts(name: str, tally: Texts) -> Iterator[Finding]:
    if tally.empty:
        state: State = "red" if tally.empty > MANY * tally.rows else "yellow"
        yield Finding(name, state, f"{tally.empty:,} of {tally.rows:,} texts are empty")
    yield from _of_copies(name, tally.copies, tally.rows)


def _of_copies(name: str, copies: Copies, rows: int) -> Iterator[Finding]:
    if copies.most > max(1, MANY * rows):
        words = f"one and the same observation is there {copies.most:,} times in {rows:,} rows"
        yield Finding(name, "yellow", words, "is it a placeholder?")


def _listed(which: NDArray[np.bool_]) -> str:
    """channel 3; 2 of 5 channels (0, 4)."""
    numbers = np.flatnonzero(which)
    if len(numbers) == 1 and len(which) > 1:
        return f"channel {numbers[0]}"
    if len(which) == 1:
        return "its one channel"
    first = ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")
    return f"{len(numbers)} of {len(which)} channels ({first})"
