"""Embeddings of many places: `python -m raytrain.embed ENCODER PLACES --output FOLDER_OR_URL`.

PLACES is a table with columns lon and lat in degrees; its other columns are passed through. Instead
of it, --grid gives the cells of a global grid. Ray Data spreads the work over a cluster.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn

from raytrain.errors import UserError
from raytrain.evaluation import roster
from raytrain.evaluation.embeddings import (
    Dtype,
    Grid,
    Table,
    Written,
    listed,
    make_room,
    write_embeddings,
)
from raytrain.training.config import ScalingConfig
from raytrain.training.launch import connect


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status: 0 when all is written, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m raytrain.embed", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("encoder", help="a run, a checkpoint, geoclip, or module:function")
    parser.add_argument("places", nargs="?", help="CSV or Parquet: a file, folder, pattern or URL")
    parser.add_argument("--grid", type=float, metavar="DEGREES", help="cells of a global grid")
    parser.add_argument("--output", required=True, help="folder or URL for Parquet files")
    parser.add_argument("--dtype", choices=get_args(Dtype), default="float32")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace Parquet files in --output"
    )
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    try:
        written = _embed(options, console)
    except UserError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        return 2
    except KeyboardInterrupt:
        console.print(f"stopped; {escape(options.output)} is incomplete: --overwrite begins anew")
        return 130
    console.print(
        f"{written.rows:,} places of {written.dim} {options.dtype} columns in "
        f"{written.seconds:.1f} s ({written.rows / written.seconds:,.0f} places/s): "
        f"{escape(options.output)}"
    )
    if written.left_out:
        console.print(f"[yellow]left out: {listed(written.left_out)}[/yellow]")
    return 0


def _embed(options: argparse.Namespace, console: Console) -> Written:
    """Check all that can be checked before Ray starts, then write with a line of progress."""
    if (options.places is None) == (options.grid is None):
        raise UserError("give either PLACES or --grid DEGREES")
    places = Table(options.places) if options.grid is None else Grid(options.grid)
    encode = roster.encoder(options.encoder)
    make_room(options.output, options.overwrite, places.files)
    connect(ScalingConfig())
    columns = TextColumn("{task.completed:,} places"), TextColumn("{task.fields[of]}")
    of = f"of {places.rows:,}" if places.rows else ""
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        bar = progress.add_task("", total=places.rows, of=of)
        return write_embeddings(
            encode, places, options.output, options.dtype, lambda rows: progress.advance(bar, rows)
        )


if __name__ == "__main__":
    sys.exit(main())
