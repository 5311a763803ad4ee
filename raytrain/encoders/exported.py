"""A trained module as files that other programs run, each checked by the runtime that reads it."""

import importlib.util
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from raytrain import storage
from raytrain.encoders.modality import Tower
from raytrain.encoders.positional.fourier import Fourier
from raytrain.encoders.pretrained import (
    CONFIG,
    HF_WEIGHTS,
    METADATA,
    PlaceEncoder,
    TowerSettings,
    load,
    load_tower,
    location_weights,
    single_file,
)
from raytrain.errors import UserError
from raytrain.geo import random_on_sphere
from raytrain.settings import redacted, to_dict

Format = Literal["safetensors", "onnx", "torch-export", "hf-folder"]
SUFFIX: dict[Format, str] = {
    "safetensors": ".safetensors",
    "onnx": ".onnx",
    "torch-export": ".pt2",
    "hf-folder": "",
}
TOLERANCE = 1e-5  # of the mean length of an embedding: float32's rounding, summed over its layers
# Phases of up to 1,000 turns in float32, as GeoCLIP's: the last bit of a sine or a root, in which
# runtimes differ, moves an embedding as far as a few metres on the ground do.
ON_A_MAP_TOLERANCE = 2e-3
OF_THE_MACHINE = ("storage", "overwrite", "scaling", "tracking", "evaluate")  # not of the encoder
EDGES = [[lon, lat] for lon in (-180, -90, 0, 90, 180) for lat in (-90, -89.9999, 0, 45, 90)]
PLACES, OBSERVATIONS = 5000, 64  # that a check compares


class ExportError(UserError):
    """A module that a format cannot hold, or a file that gives other embeddings than it."""


@dataclass(frozen=True)
class Export:
    """A module of one input and one output, with what is known of it.

    `inputs` [n, ...] are what an exported file is compared at, `name` that of the input.
    """

    module: nn.Module
    config: Mapping[str, Any]
    name: Literal["lonlat_deg", "observation"]
    inputs: Tensor
    tolerance: float = TOLERANCE


@dataclass(frozen=True)
class Written:
    """Where an export lies, its bytes, and its largest distance from the module's own embeddings,
    over the mean length of an embedding, at `compared` inputs."""

    url: str
    size: int
    difference: float
    compared: int


def of_encoder(encoder: PlaceEncoder) -> Export:
    """A location encoder: `lonlat_deg` [n, 2] float64 to `embedding` [n, dim] float32.

    Settings that tell of the machine that trained it, and passwords in URLs, stay behind.
    """
    config = {k: redacted(v) for k, v in encoder.config.items() if k not in OF_THE_MACHINE}
    positional = encoder.encoder.positional
    on_a_map = isinstance(positional, Fourier) and positional.on_map
    tolerance = ON_A_MAP_TOLERANCE if on_a_map else TOLERANCE
    return Export(encoder.encoder, config, "lonlat_deg", places(), tolerance)


def of_tower(tower: Tower, settings: TowerSettings) -> Export:
    """A tower: `observation` [n, *shape] float32, in the units of the shards, to `embedding`."""
    noise = torch.randn(OBSERVATIONS, *settings.shape, generator=torch.Generator().manual_seed(0))
    observations = tower.mean + tower.std * noise
    return Export(tower.eval(), to_dict(settings), "observation", observations)


def places() -> Float64[Tensor, "n 2"]:
    """5,000 places over the whole Earth, and poles and dateline."""
    drawn = random_on_sphere(PLACES, np.random.default_rng(0))
    return torch.from_numpy(np.concatenate([np.array(EDGES, float), drawn]))


def write(export: Export, form: Format, url: str, card: str | None = None) -> Written:
    """Write an export, after the file was read by its own runtime and gave the same embeddings.

    `card` is the README.md of an hf-folder. Raises ExportError, and then nothing is at `url`.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"export{SUFFIX[form]}"
        try:
            run = WRITERS[form](export, path)
            difference = _difference(export, run)
        except UserError:
            raise
        except Exception as error:  # of any of the compilers, whose errors share no base
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(
                f"{type(export.module).__name__} cannot be exported as {form}: "
                f"{type(error).__name__}: {reason}. Format safetensors takes every encoder"
            ) from error
        if not difference <= export.tolerance:
            raise ExportError(
                f"the {form} export gives other embeddings: the largest difference is "
                f"{difference:.1e} of their mean length, more than {export.tolerance:.0e}. "
                "Nothing was written; choose another format"
            )
        if card is not None:
            (path / "README.md").write_text(card)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in files:
            target = storage.join(url, file.name) if path.is_dir() else url
            storage.write(target, file.read_bytes())
        size = sum(file.stat().st_size for file in files)
    return Written(url, size, difference, len(export.inputs))


Run = Callable[[Tensor], Float[Tensor, "n dim"]]


@torch.inference_mode()
def _difference(export: Export, run: Run) -> float:
    """The largest distance between embeddings, all inputs at once and one alone, relative."""
    own = export.module(export.inputs)
    theirs = torch.cat([run(export.inputs[:1]), run(export.inputs)[1:]])
    distance, length = (theirs - own).norm(dim=1), own.norm(dim=1)
    return float(distance.max() / length.mean())


def _safetensors(export: Export, path: Path) -> Run:
    path.write_bytes(single_file(export.module, export.config))
    if export.name == "observation":
        return load_tower(path)[0]
    return load(path).encoder


def _hf_folder(export: Export, path: Path) -> Run:
    if export.name == "observation":
        raise ExportError("an hf-folder holds a location encoder; choose another format for towers")
    path.mkdir()
    (path / CONFIG).write_text(json.dumps(export.config, indent=2) + "\n")
    (path / HF_WEIGHTS).write_bytes(location_weights(export.module))
    return load(path).encoder


def _torch_export(export: Export, path: Path) -> Run:
    settings = {CONFIG: json.dumps(export.config)}
    torch.export.save(_graph(export), path, extra_files=settings)
    return torch.export.load(path).module()


def _onnx(export: Export, path: Path) -> Run:
    for needed in ("onnx", "onnxruntime", "onnxscript"):
        if importlib.util.find_spec(needed) is None:
            raise ExportError(f"format onnx needs {needed}: pip install 'raytrain[onnx]'")
    import onnx
    import onnxruntime

    graph = _graph(export)
    program = torch.onnx.export(
        graph, input_names=[export.name], output_names=["embedding"], verbose=False
    )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {METADATA: json.dumps(export.config)})
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["embedding"], {export.name: inputs.numpy()})[0])

    return run


def _graph(export: Export) -> torch.export.ExportedProgram:
    """The module as a graph of torch's operators, for any number of inputs."""
    with torch.no_grad():
        rows = ({0: torch.export.Dim("n")},)
        return torch.export.export(export.module, (export.inputs[:3],), dynamic_shapes=rows)


WRITERS: dict[Format, Callable[[Export, Path], Run]] = {
    "safetensors": _safetensors,
    "onnx": _onnx,
    "torch-export": _torch_export,
    "hf-folder": _hf_folder,
}
