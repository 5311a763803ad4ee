"""Features that are not there yet, made before the user's eyes."""

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from raytrain.bulk.features import Featured, Pool, open_features, write_features
from raytrain.bulk.features_folder import FeaturesFolder
from raytrain.data.cards import Card
from raytrain.data.features import features_of_card, problem
from raytrain.data.manifest import FEATURE


def make_missing(cards: Iterable[Card], root: str, gpu: bool, console: Console) -> None:
    """Make the features that runs on the cards read and that are not there, by Ray, which must run.
    Raises UserError, too where others are there."""
    for card in cards:
        if card.features and problem(card, root):
            features = features_of_card(card, root)
            console.print(
                f"making features of {card.name} by {features.encoder.kind}, once: "
                f"{escape(features.output)}",
                highlight=False,
                soft_wrap=True,
            )
            made = with_progress(open_features(features), Pool(gpu=gpu), console)
            console.print(said(made), highlight=False)


def with_progress(folder: FeaturesFolder, pool: Pool, console: Console) -> Featured:
    """Make what the folder lacks, with a bar."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        total = sum(shard.samples for shard in folder.features.manifest.shards)
        bar = progress.add_task("", total=total)
        return write_features(folder, pool, lambda rows: progress.update(bar, completed=rows))


def said(made: Featured) -> str:
    """What came of it, in words."""
    field = made.manifest.field(FEATURE)
    rows = sum(shard.samples for shard in made.manifest.shards)
    megabytes = sum(shard.bytes for shard in made.manifest.shards) / 1e6
    new = rows - made.before
    there = f", {made.before:,} of them there before" if made.before else ""
    pace = f" in {made.seconds:.1f} s ({new / made.seconds:,.1f} rows/s)" if new else ""
    return f"{rows:,} features {[*field.shape]} float16, {megabytes:,.1f} MB{there}{pace}"
