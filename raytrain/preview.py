"""`python -m raytrain.preview CARD | SHARDS`: one page of what is in a modality's shards.

python -m raytrain.preview satellite                      a card, with the shards under --root
python -m raytrain.preview soil.yaml --root s3://bucket/data
python -m raytrain.preview s3://bucket/data/photos        a folder of shards, without a card
"""

import argparse
import datetime
import shlex
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from raytrain import storage
from raytrain.checks.finding import Finding
from raytrain.data.cards import MINI, card_names, load_card
from raytrain.data.manifest import MANIFEST
from raytrain.data.preparation import ready
from raytrain.errors import UserError
from raytrain.inspection.faults import faults
from raytrain.inspection.look import Look, look
from raytrain.inspection.page import looked, page
from raytrain.settings import redacted


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status: 0 when the page is written, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m raytrain.preview", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("what", help="a card by name or path, or a folder or URL of shards")
    parser.add_argument("--root", default=MINI, help="data.root of a card (default: %(default)s)")
    parser.add_argument("--output", help="the page (default: previews/NAME.html)")
    parser.add_argument(
        "--shards", type=int, default=16, help="the most to look at (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of their choice")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    typed = sys.argv[1:] if arguments is None else arguments
    command = redacted(f"python -m raytrain.preview {shlex.join(typed)}")
    try:
        if options.shards < 1 or options.seed < 0:
            raise UserError("--shards must be at least 1, and --seed not negative")
        name, url = _shards(options.what, options.root)
        output = options.output or f"previews/{name}.html"
        with console.status(f"looking at {escape(url)}"):
            seen = look(url, options.shards, options.seed)
            found = faults(seen)
            now = f"{datetime.datetime.now():%Y-%m-%d %H:%M}"
            content = page(seen, found, name, command, now).encode()
        storage.write(output, content)
    except UserError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        return 2
    _show(console, name, seen, found)
    console.print(f"wrote {escape(output)} ({len(content) / 1e6:.1f} MB)")
    return 0


def _shards(what: str, root: str) -> tuple[str, str]:
    """The name and URL of the shards that a word of the command line means."""
    if not what.endswith((".yaml", ".yml")) and what not in card_names():
        url = storage.absolute(what)
        if storage.size(storage.join(url, MANIFEST)) is not None or "/" in what:
            return url.rstrip("/").rpartition("/")[2], url
    card = load_card(what)
    return card.name, ready([card], root)[card.name]


def _show(console: Console, name: str, seen: Look, found: list[Finding]) -> None:
    """The page in a few lines."""
    manifest = seen.manifest
    counts = ", ".join(f"{manifest.samples(split):,} {split}" for split in ("train", "val"))
    megabytes = sum(shard.bytes for shard in manifest.shards) / 1e6
    console.print(f"[bold]{escape(name)}[/bold]: {counts}, {megabytes:,.1f} MB; {looked(seen)}")
    for field, spec in manifest.fields.items():
        units = f", {spec.units}" if spec.units else ""
        shape = [*spec.shape] if spec.shape else ""
        console.print(escape(f"  {field}: {spec.dtype} {shape} as {spec.encoding}{units}"))
    console.print(escape(f"  {manifest.licence or 'no licence'}; {manifest.credit or 'no credit'}"))
    for fault in found:
        mark = "[red]BAD[/red]" if fault.state == "red" else "[yellow]see[/yellow]"
        remedy = f" ({fault.remedy})" if fault.remedy else ""
        console.print(f"  {mark} {escape(f'{fault.name}: {fault.words}{remedy}')}")
    if not found:
        console.print("  [green]ok[/green]  nothing wrong in what was looked at")


if __name__ == "__main__":
    sys.exit(main())
