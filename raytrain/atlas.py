"""Pictures of an embedding: `python -m raytrain.atlas ENCODER [--output FOLDER]`.

Writes index.html, one interactive page without a network, and four PNGs: map (principal
components), regions (k-means), similarity (to one place) and seams (where the embedding jumps).
"""

import argparse
import io
import sys
from collections.abc import Sequence

from PIL import Image
from rich.console import Console
from rich.markup import escape

from raytrain import geo, storage
from raytrain.data.sources.land import land_mask
from raytrain.errors import UserError
from raytrain.evaluation import roster
from raytrain.evaluation.probes import embed
from raytrain.evaluation.similarity import directions
from raytrain.maps import page, world
from raytrain.maps.survey import find_regions, pack, survey

AMAZON = (-60.0, -5.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status: 0 when all is written, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m raytrain.atlas", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("encoder", help="a run, a checkpoint, earth, geoclip, or module:function")
    parser.add_argument("--output", help="folder or URL (default: atlas/ENCODER's name)")
    parser.add_argument(
        "--at",
        nargs=2,
        type=float,
        default=AMAZON,
        metavar=("LON", "LAT"),
        help="place that similarity.png is of (default: %(default)s)",
    )
    parser.add_argument("--regions", type=int, default=12, help="number (default %(default)s)")
    parser.add_argument(
        "--degrees", type=float, default=1.0, help="size of the cells (default %(default)s)"
    )
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    name = options.encoder.rstrip("/").rpartition("/")[2]
    output = options.output or f"atlas/{name.replace(':', '.')}"
    try:
        for file, content in _files(options, name).items():
            storage.write(storage.join(output, file), content)
            console.print(f"wrote {escape(output)}/{file} ({len(content) / 1e6:.1f} MB)")
    except UserError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        return 2
    return 0


def _files(options: argparse.Namespace, name: str) -> dict[str, bytes]:
    """What to write, by name."""
    place = geo.as_lonlat([options.at[0]], [options.at[1]], "--at")
    if not 2 <= options.regions <= 255:
        raise UserError(f"--regions {options.regions}: give a number from 2 to 255")
    if not 0.1 <= options.degrees <= 30:
        raise UserError(f"--degrees {options.degrees:g}: give a size from 0.1 to 30")
    encode, untrained = roster.learned(options.encoder)
    land = land_mask()
    found = survey(encode, land, options.degrees)
    regions, packed = find_regions(found, options.regions), pack(found)
    (query,) = directions(embed(encode, place), found.mean)
    cosine = (found.direction @ query).reshape(found.shape)
    pictures = {
        "map.png": world.colour_map(
            found.colours, found.explained, land=land, untrained=untrained, title=name
        ),
        "regions.png": world.region_map(regions.labels, regions.colours, land=land, title=name),
        "similarity.png": world.similarity_map(cosine, place, found.low, land=land, title=name),
        "seams.png": world.jump_map(found.jumps, found.seams, land=land, title=name),
    }
    index = page.render(found, regions, packed, land, place, name)
    return {"index.html": index.encode(), **{file: _png(p) for file, p in pictures.items()}}


def _png(picture: Image.Image) -> bytes:
    stored = io.BytesIO()
    picture.save(stored, "PNG")
    return stored.getvalue()


if __name__ == "__main__":
    sys.exit(main())
