"""One encoder as files that other programs read: `python -m raytrain.export ENCODER --format F`.

safetensors     one file with its settings inside; raytrain.load reads it
onnx            for onnxruntime: `lonlat_deg` float64 [n, 2] -> `embedding` float32 [n, dim]
torch-export    for torch.export.load, without raytrain
hf-folder       README.md, config.json and model.safetensors, as Hugging Face has them; nothing is
                uploaded; raytrain.load reads it

ENCODER is all that raytrain.load takes: a run, a checkpoint, geoclip, a SatCLIP .ckpt. Every file
is read back by its own runtime and compared before it is written.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, get_args

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from raytrain import storage
from raytrain.encoders import exported
from raytrain.encoders.exported import SUFFIX, Export, Format, Written
from raytrain.encoders.pretrained import load
from raytrain.errors import UserError

PROBES = "probes.json"  # of a run


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status: 0 when the file is written, 2 for bad input."""
    description, _, formats = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m raytrain.export",
        description=description,
        epilog=formats,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("encoder", help="a run, a checkpoint, geoclip, or a file (path or URL)")
    parser.add_argument("--format", required=True, choices=get_args(Format))
    parser.add_argument("--output", help="path or URL; default exports/NAME")
    parser.add_argument("--tower", metavar="MODALITY", help="the tower of a run's modality instead")
    parser.add_argument("--scores", help="scores.json of an evaluation, for the model card")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    try:
        with console.status(f"exporting as {options.format}"):  # half a minute for ONNX, at L = 40
            written = _export(options)
    except UserError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}")
        return 2
    console.print(
        f"{escape(written.url)}   {decimal(written.size)}; largest difference from the encoder "
        f"{written.difference:.1e} of an embedding's mean length, at {written.compared:,} "
        f"{'observations' if options.tower else 'places, poles and dateline among them'}"
    )
    return 0


def _export(options: argparse.Namespace) -> Written:
    form: Format = options.format
    url = options.encoder.rstrip("/")
    if options.scores and form != "hf-folder":
        raise UserError("--scores goes into the model card, which format hf-folder has")
    if options.tower:
        from raytrain.training.checkpoint import load_tower

        export = exported.of_tower(*load_tower(url, options.tower))
        return exported.write(export, form, _output(options, export, f"-{options.tower}"))
    encoder = load(url)
    export, card = exported.of_encoder(encoder), None
    if form == "hf-folder":
        from raytrain.evaluation.model_card import model_card

        card = model_card(encoder, export.config, _name(export, url), _scores(options, url))
    return exported.write(export, form, _output(options, export), card)


def _output(options: argparse.Namespace, export: Export, suffix: str = "") -> str:
    name = _name(export, options.encoder.rstrip("/"))
    return options.output or f"exports/{name}{suffix}{SUFFIX[options.format]}"


def _name(export: Export, url: str) -> str:
    """What the encoder is called, by its run or its file."""
    named = export.config.get("name") or export.config.get("run")
    return str(named or url.rpartition("/")[2].partition(".")[0])


def _scores(options: argparse.Namespace, url: str) -> dict[str, Any] | None:
    """The evaluation that was named, or else the probes that a run ended with."""
    file = options.scores or f"{url}/{PROBES}"
    if storage.size(file) is None:
        if options.scores:
            raise UserError(f"there is no {file}")
        return None
    try:
        scores: dict[str, Any] = json.loads(storage.read(file))
    except ValueError as error:
        raise UserError(f"{file} is no readable JSON: {error}") from None
    return scores


if __name__ == "__main__":
    sys.exit(main())
