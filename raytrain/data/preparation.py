"""From a card to its shards: what `raytrain.prepare` does, and the first use of earth-mini."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from raytrain import geo, settings, storage
from raytrain.data import features
from raytrain.data.cards import MINI, Card, Source, card_names, load_card
from raytrain.data.conversion import write_rows
from raytrain.data.manifest import MANIFEST, Manifest, ShardError
from raytrain.data.report import LeftOut, Report
from raytrain.data.rows import RowSource
from raytrain.data.sources.files import Context
from raytrain.data.sources.land import land_mask
from raytrain.data.sources.rasters import RasterSource
from raytrain.data.writer import HOLDOUT, Observations, write_shards
from raytrain.errors import UserError

OnRows = Callable[[str, int, int, str], None]
"""Hears of a modality, rows done so far, rows in all, and what is being done with them."""


class PreparationError(UserError):
    """Shards that are not there and cannot be made without being asked to."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What came of one card: its shards and, but for those of old, the report beside them."""

    modality: str
    url: str
    manifest: Manifest
    seconds: float
    report: Report | None

    @property
    def dropped(self) -> dict[str, int]:
        """How many raw rows are in no shard, by reason."""
        if self.report is None:
            return {}
        twice = self.report.duplicates.rows
        return {**self.report.bad, **({"the same as another row": twice} if twice else {})}


def silent(modality: str, done: int, rows: int, doing: str) -> None:
    """Shows no progress."""


def ready(cards: Iterable[Card], root: str, on_rows: OnRows = silent) -> dict[str, str]:
    """The URL of every card's shards under `data.root` that training reads, by name.

    Raises PreparationError for shards and features that are missing, with the command that makes
    them; but see `raw_ready`.
    """
    cards = list(cards)
    raw_ready(cards, root, on_rows)
    for card in cards:
        if card.features and (problem := features.problem(card, root)):
            raise PreparationError(f"{card.name}: {problem}. {features.advice(card, root)}")
    return {card.name: card.observed_url(root) for card in cards}


def raw_ready(cards: Iterable[Card], root: str, on_rows: OnRows = silent) -> None:
    """Raise PreparationError for shards that are missing, with the command that makes them.

    What earth-mini embeds is made here on first use, in seconds and without a download, and again
    when its card has changed; not for another number of places or other modalities beside it,
    since a run may be reading it.
    """
    cards = list(cards)
    for card in cards:
        source = card.source_for(root)
        if source is not None and card.is_embedded(root):
            if not _is_made(card, source, root, cards, but_for=("places", "dealt_among")):
                prepare(card, root, cards, on_rows=on_rows)
        elif not _are_there(card.url(root), card.observed_url(root)):
            raise PreparationError(_advice(card, root))


def _are_there(*urls: str) -> bool:
    """Whether finished shards are at any of them: features do without what they were made of."""
    return any(storage.size(storage.join(url, MANIFEST)) is not None for url in urls)


def prepare(
    card: Card,
    root: str,
    cards: Sequence[Card] = (),
    places: int | None = None,
    on_rows: OnRows = silent,
    collection: str | None = None,
    start_ray: Callable[[], object] = lambda: None,
) -> Prepared:
    """Make the shards of a card under `data.root`; those that are there already stay.

    `cards` are the modalities prepared together: rasters among them, and those of datasets/, share
    the land so that no two see the same place. `places` replaces a raster's number of places, and
    `collection` (earth-mini: the embedded files) the one whose source is taken, that of `root`.
    `start_ray` is called before the first work that is spread over a cluster.
    """
    started = time.monotonic()
    source = card.source_for(collection or root)
    if source is None:
        raise PreparationError(f"{card.name}: the card has no `source` to make shards from")
    if places is not None and isinstance(source, RasterSource):
        source = replace(source, places=places)
    url = card.url(root)
    if _is_made(card, source, root, cards):
        manifest, report = Manifest.load(url), Report.load(url)
        return Prepared(modality=card.name, url=url, manifest=manifest, seconds=0.0, report=report)
    dealt_among = _rasters(cards)
    context = Context(
        modality=card.name, field=card.field, folder=card.folder, dealt_among=dealt_among
    )
    described = _described(source, dealt_among)
    if isinstance(source, RowSource):
        manifest, report = write_rows(
            url,
            source,
            context,
            described=described,
            licence=card.licence,
            credit=card.credit,
            start_ray=start_ray,
            on_rows=lambda *done: on_rows(card.name, *done),
        )
    else:
        manifest, report = _write(card, url, source.observe(context), described, on_rows)
    seconds = time.monotonic() - started
    return Prepared(modality=card.name, url=url, manifest=manifest, seconds=seconds, report=report)


def _write(
    card: Card, url: str, observations: Observations, described: settings.Tree, on_rows: OnRows
) -> tuple[Manifest, Report]:
    """The shards of observations that are in memory."""
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        on_rows(card.name, done, len(observations.lonlat_deg), "writing")

    report = _report(observations)
    report.save(url)
    manifest = write_shards(
        url,
        observations,
        modality=card.name,
        source=described,
        licence=card.licence,
        credit=card.credit,
        on_rows=count,
    )
    return manifest, report


def _report(observations: Observations) -> Report:
    lonlat_deg, dropped = observations.lonlat_deg, observations.dropped
    left_out = {reason: LeftOut(rows) for reason, rows in dropped.items()}
    report = Report(rows=len(lonlat_deg) + sum(dropped.values()), left_out=left_out)
    land = land_mask()[geo.raster_pixels(lonlat_deg, *land_mask().shape)]
    report.at_sea = int(np.sum(~land))
    held_out = geo.held_out(lonlat_deg, HOLDOUT.degrees, HOLDOUT.share, HOLDOUT.seed)
    report.keep("train", lonlat_deg[~held_out])
    report.keep("val", lonlat_deg[held_out])
    return report


def _is_made(
    card: Card, source: Source, root: str, cards: Sequence[Card], but_for: tuple[str, ...] = ()
) -> bool:
    """Whether finished shards of exactly this source are there."""
    try:
        found = Manifest.load(card.url(root)).source
    except ShardError:
        return False
    wanted = _described(source, _rasters(cards))
    but_for = (*but_for, "max_bad_share")  # of which nothing in them depends
    return all(found.get(key) == value for key, value in wanted.items() if key not in but_for)


def _described(source: Source, dealt_among: tuple[str, ...]) -> settings.Tree:
    described = settings.to_dict(source)
    if isinstance(source, RasterSource):
        described["dealt_among"] = list(dealt_among)
    return described


def _rasters(cards: Sequence[Card]) -> tuple[str, ...]:
    """The modalities that the land is dealt among: rasters of datasets/ and of the given cards."""
    shipped = [load_card(name) for name in card_names()]
    rasters = [card for card in (*shipped, *cards) if isinstance(card.source, RasterSource)]
    return tuple(sorted({card.name for card in rasters}))


def _advice(card: Card, root: str) -> str:
    missing = f"{card.name}: there are no shards in {card.url(root)}"
    if card.source is None:
        return f"{missing}, and its card has no `source` to make them from"
    where = "" if root == MINI else f" --root {root}"
    return (
        f"{missing}. Make them with `python -m raytrain.prepare {card.command_name}{where}`, "
        f"or leave {card.name} out of data.modalities"
    )
