"""`python -m raytrain.featurize CARD|SHARDS…`: features of observations by a frozen encoder, once.

python -m raytrain.featurize features/satellite text --root earth      as the cards say
python -m raytrain.featurize satellite --encoder efficientnet-lite0 channels=0,1,2 image_px=64
python -m raytrain.featurize photos/shards --encoder timm name=resnet50 weights=resnet50.safetensors

Cards by name or file, or folders or URLs of shards; path=value are settings of the encoder. Ray
Data spreads the work over a cluster. What was interrupted goes on with the same command.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Literal

from rich.console import Console
from rich.markup import escape

from raytrain import storage
from raytrain.bulk.features import Pool, open_features
from raytrain.bulk.missing import said, with_progress
from raytrain.bulk.write import listed
from raytrain.data import preparation
from raytrain.data.cards import MINI, datasets_dir, load_card
from raytrain.data.features import Features, configured, features_of
from raytrain.data.manifest import MANIFEST
from raytrain.encoders.frozen import AUTO, FrozenConfig
from raytrain.errors import UserError
from raytrain.settings import apply_overrides, to_dict
from raytrain.training.config import ScalingConfig
from raytrain.training.launch import connect

KINDS = "auto, efficientnet-lite0, minilm, timm, sentence, onnx"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status: 0 when all features are there, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m raytrain.featurize", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument(
        "what",
        nargs="+",
        help="cards by name or file, or folders or URLs of shards; path=value: of the encoder",
    )
    parser.add_argument("--encoder", metavar="KIND", help=f"{KINDS}; else as the card says")
    parser.add_argument("--views", type=int, help="views of an image: itself, and augmented ones")
    parser.add_argument("--field", help="of shards that have several")
    parser.add_argument("--root", help="of a card, as data.root")
    parser.add_argument("--output", help="folder or URL; else that of the shards with -features")
    parser.add_argument("--gpu", action="store_true", help="an actor for every GPU, not CPU")
    parser.add_argument("--actors", type=int, help="how many, in their stead")
    parser.add_argument("--threads", type=int, default=1, help="of torch in each actor")
    parser.add_argument("--overwrite", action="store_true", help="begin anew")
    options = parser.parse_intermixed_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    pool = Pool(gpu=options.gpu, actors=options.actors, threads=options.threads)
    changes = [word for word in options.what if "=" in word]
    try:
        names = [word for word in options.what if word not in changes]
        if not names or (options.output and len(names) > 1):
            raise UserError("name the cards or shards; with --output, one of them")
        for what in names:
            _featurize(_features(what, changes, options), pool, options.overwrite, console)
    except UserError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        return 2
    except KeyboardInterrupt:
        console.print("stopped; finished shards are kept: the same command goes on behind them")
        return 130
    return 0


def _featurize(features: Features, pool: Pool, overwrite: bool, console: Console) -> None:
    console.print(f"{features.encoder.kind} reads `{features.field}` of {escape(features.url)}")
    folder = open_features(features, overwrite)
    if folder.manifest is None:
        connect(ScalingConfig())
    made = with_progress(folder, pool, console)
    console.print(f"{said(made)}: {escape(features.output)}")
    if made.skipped:
        console.print(f"[yellow]left out: {escape(listed(made.skipped))}[/yellow]")


def _features(what: str, changes: list[str], options: argparse.Namespace) -> Features:
    """What the command line asks for, of shards that are there."""
    encoder: FrozenConfig | Literal["auto"] = AUTO
    url, field = what, options.field
    if _is_card(what):
        card, root = load_card(what), options.root or MINI
        preparation.raw_ready([card], root)
        url, field, encoder = card.url(root), field or card.field, card.features or AUTO
    elif options.root:
        raise UserError("--root is of cards; give the folder or URL of shards whole")
    if options.views is not None:
        changes = [*changes, f"views={options.views}"]
    if options.encoder not in (None, AUTO):
        encoder = configured(apply_overrides({"kind": options.encoder}, changes))
    elif changes:
        if encoder == AUTO:
            encoder = features_of(url, AUTO, field).encoder
        encoder = configured(apply_overrides(to_dict(encoder), changes))
    return features_of(url, encoder, field, options.output)


def _is_card(what: str) -> bool:
    """A card's name or file, and no folder or URL of shards."""
    if what.endswith((".yaml", ".yml")) or (datasets_dir() / f"{what}.yaml").is_file():
        return True
    return "/" not in what and storage.size(storage.join(what, MANIFEST)) is None


if __name__ == "__main__":
    sys.exit(main())
