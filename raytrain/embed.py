"""Embeddings of many places: `python -m raytrain.embed ENCODER --input PLACES --output OUTPUT`.

PLACES is a table with columns lon and lat in degrees, or GeoParquet of points; its other columns
are passed through. Instead of it, --grid gives the cells of a global grid. Ray Data spreads the
work over a cluster. What was interrupted goes on with the same command.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn

from raytrain import storage
from raytrain.bulk import netcdf
from raytrain.bulk.folder import LEFT_OUT, EmbeddingFolder
from raytrain.bulk.places import Grid, Table
from raytrain.bulk.write import Dtype, Written, listed, open_folder, write_embeddings
from raytrain.errors import UserError
from raytrain.evaluation import roster
from raytrain.evaluation.probes import Encoder
from raytrain.training.config import ScalingConfig
from raytrain.training.launch import connect


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status: 0 when all is written, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m raytrain.embed", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("encoder", help="a run, a checkpoint, earth, geoclip, or module:function")
    parser.add_argument("--input", metavar="PLACES", help="CSV or Parquet: file, folder, pattern")
    parser.add_argument("--grid", type=float, metavar="DEGREES", help="cells of a global grid")
    parser.add_argument("--output", required=True, help="folder for Parquet, or a grid's .nc file")
    parser.add_argument("--dtype", choices=get_args(Dtype), default="float32")
    parser.add_argument("--overwrite", action="store_true", help="begin anew")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    try:
        written = _embed(options, console)
    except UserError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        return 2
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on")
        return 130
    new = written.rows - written.before
    there = f", {written.before:,} of them there before" if written.before else ""
    pace = f" in {written.seconds:.1f} s ({new / written.seconds:,.0f} places/s)" if new else ""
    console.print(
        f"{written.rows:,} places of {written.dim} {options.dtype} columns{there}{pace}: "
        f"{escape(options.output)}"
    )
    if written.left_out:
        where = storage.join(options.output, LEFT_OUT)
        console.print(f"[yellow]left out: {listed(written.left_out)}: {escape(where)}[/yellow]")
    return 0


def _embed(options: argparse.Namespace, console: Console) -> Written:
    """Check all that can be checked before Ray starts, then write with a line of progress."""
    if (options.input is None) == (options.grid is None):
        raise UserError("give either --input PLACES or --grid DEGREES")
    places = Table(options.input) if options.grid is None else Grid(options.grid)
    as_netcdf = options.output.endswith(netcdf.ENDING)
    if as_netcdf:
        netcdf.check_netcdf(options.output, places, options.overwrite)
    encode = roster.encoder(options.encoder)
    url = f"{options.output}.parts" if as_netcdf else options.output  # of these it is made
    folder = open_folder(options.encoder, encode, places, url, options.dtype, options.overwrite)
    written = _written(encode, places, folder, console)
    if as_netcdf and isinstance(places, Grid):
        netcdf.write_netcdf(folder, places, options.output, options.encoder, encode)
        storage.remove_folder(folder.url)
    return written


def _written(
    encode: Encoder, places: Grid | Table, folder: EmbeddingFolder, console: Console
) -> Written:
    if folder.complete:
        return Written(folder.rows, folder.rows, folder.description["dim"], 0, folder.left_out)
    if folder.rows:
        console.print(f"going on: {folder.rows:,} places are there already")
    connect(ScalingConfig())
    columns = TextColumn("{task.completed:,} places"), TextColumn("{task.fields[of]}")
    of = f"of {places.rows:,}" if places.rows else ""
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        bar = progress.add_task("", total=places.rows, of=of)
        return write_embeddings(encode, places, folder, lambda rows: progress.advance(bar, rows))


if __name__ == "__main__":
    sys.exit(main())
