"""Checkpoints: a run's whole state in a folder, complete from the moment `latest.json` names it.

<run>/latest.json                   {"checkpoint": "checkpoint_000700", "step": 700}
<run>/checkpoint_000700/
    location_encoder.safetensors    what raytrain.load reads, with
    config.json                     the resolved settings
    model.safetensors               towers, heads, logit scale
    optimizer.pt                    read with weights_only=True
    state.json                      step, rows that each rank has taken of every stream
"""

import io
import json
import pickle
from dataclasses import dataclass, replace
from typing import Any

import safetensors.torch
import torch

from raytrain import storage
from raytrain.data.cards import Card
from raytrain.data.manifest import Manifest
from raytrain.encoders.modality import TimmConfig, Tower
from raytrain.encoders.pretrained import CONFIG, LATEST, TowerSettings, save_location_encoder
from raytrain.encoders.weights import load_exactly, read_weights
from raytrain.errors import UserError
from raytrain.objective.model import Model
from raytrain.settings import Tree, build, differences, flat, redacted

PREFIX, MODEL = "checkpoint_", "model.safetensors"


class CheckpointError(UserError):
    """A checkpoint that is incomplete or belongs to another run."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: where it is, the step it was made after, the stream positions."""

    url: str
    step: int
    rows_done: dict[str, int]
    workers: int


def save(
    run_url: str, model: Model, optimizer: torch.optim.Optimizer, resolved: Tree, state: Checkpoint
) -> None:
    """Write the checkpoint of `state.step`, then point latest.json to it."""
    save_location_encoder(state.url, resolved, model.location)
    rest = {k: v for k, v in model.state_dict().items() if not k.startswith("location.")}
    weights = {name: value.detach().cpu().contiguous() for name, value in rest.items()}
    storage.write(f"{state.url}/{MODEL}", safetensors.torch.save(weights))
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    storage.write(f"{state.url}/optimizer.pt", buffer.getvalue())
    progress = {"step": state.step, "rows_done": state.rows_done, "workers": state.workers}
    storage.write(f"{state.url}/state.json", json.dumps(progress).encode())
    newest = {"checkpoint": state.url.rpartition("/")[2], "step": state.step}
    storage.write(f"{run_url}/{LATEST}", json.dumps(newest).encode())


def name(run_url: str, step: int) -> str:
    """The folder of the checkpoint after `step` steps."""
    return f"{run_url}/{PREFIX}{step:06d}"


def latest(run_url: str) -> Checkpoint | None:
    """The newest complete checkpoint of a run, or None before the first."""
    if storage.size(f"{run_url}/{LATEST}") is None:
        return None
    url = f"{run_url}/{_json(f'{run_url}/{LATEST}', 'checkpoint')['checkpoint']}"
    state = _json(f"{url}/state.json", "step", "rows_done", "workers")
    return Checkpoint(url, state["step"], state["rows_done"], state["workers"])


def restore(checkpoint: Checkpoint, model: Model, optimizer: torch.optim.Optimizer | None) -> None:
    """Load weights and, if given, the optimizer's state. Raises WeightsError, CheckpointError."""
    location = f"{checkpoint.url}/location_encoder.safetensors"
    rest = f"{checkpoint.url}/{MODEL}"
    weights = {f"location.{k}": v for k, v in read_weights(location).items()}
    load_exactly(model, weights | read_weights(rest), checkpoint.url)
    if optimizer is not None:
        try:
            content = io.BytesIO(storage.read(f"{checkpoint.url}/optimizer.pt"))
            # Not to the GPU that wrote it: it may be elsewhere. The optimizer moves its state.
            optimizer.load_state_dict(torch.load(content, map_location="cpu", weights_only=True))
        except (pickle.UnpicklingError, OSError, ValueError, RuntimeError, EOFError) as error:
            reason = "no plain tensors" if isinstance(error, pickle.UnpicklingError) else error
            raise CheckpointError(
                f"{checkpoint.url}/optimizer.pt cannot be read ({reason}). Start anew with another "
                "name=… or overwrite=true"
            ) from None


def load_tower(url: str, modality: str) -> tuple[Tower, TowerSettings]:
    """A modality's tower as trained, of a run (its newest checkpoint) or of one checkpoint.

    The shape of its observations is in the manifest of the run's shards. Raises CheckpointError
    where there is no such tower, ShardError where there is no manifest.
    """
    newest = latest(url)
    folder = newest.url if newest else url
    if storage.size(f"{folder}/{MODEL}") is None:
        raise CheckpointError(f"{url} has no towers; give the folder of a run or of a checkpoint")
    config = _json(f"{folder}/{CONFIG}", "name", "data", "location", "objective", "cards")
    if modality not in config["cards"]:
        known = ", ".join(config["cards"])
        raise CheckpointError(f"{url} has no tower `{modality}`; it was trained on: {known}")
    if config["objective"]["kind"] == "regression":
        raise CheckpointError(f"{url} was trained by regression alone: its towers learned nothing")
    card = build(Card, {**config["cards"][modality], "folder": "."}, f"cards.{modality}")
    field = Manifest.load(card.url(config["data"]["root"])).field(card.field)
    tower = card.tower
    if isinstance(tower, TimmConfig):  # its weights are in the checkpoint, and the file is not
        tower = replace(tower, weights=None, frozen=False)
    settings = TowerSettings(
        run=config["name"],
        modality=modality,
        tower=tower,
        shape=card.augment.shape(field.shape),
        dim=config["location"]["dim"],
        licence=card.licence,
        credit=card.credit,
    )
    module, prefix = settings.build(), f"towers.{modality}."
    weights = read_weights(f"{folder}/{MODEL}")
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    load_exactly(module, own, f"{folder}/{MODEL}")
    return module.eval(), settings


def prune(run_url: str, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for folder in storage.folders(run_url, PREFIX)[:-keep]:
        storage.remove_folder(f"{run_url}/{folder}")


def resume_point(run_url: str, resolved: Tree, overwrite: bool) -> Checkpoint | None:
    """Where a run of this name goes on; None where it starts. Leaves the settings in config.json.

    Raises CheckpointError when the run was begun with other settings than those that may change.
    """
    if overwrite:
        storage.remove_folder(run_url)
    start = latest(run_url)
    if start is not None:
        before = _fixed(_json(f"{start.url}/{CONFIG}"))
        if changed := differences(before, _fixed(resolved)):
            raise CheckpointError(
                f"{start.url} belongs to a run with other settings ({changed}). Take them back to "
                "go on with it, choose another name=…, or start it anew with overwrite=true"
            )
    storage.write(f"{run_url}/{CONFIG}", json.dumps(redacted(resolved), indent=2).encode())
    return start


MAY_CHANGE = (
    "name", "storage", "overwrite", "scaling.", "tracking.", "evaluate.", "training.steps",
    "training.epochs", "training.checkpoint_every", "training.validate_every",
    "training.validation_places", "training.keep_checkpoints", "training.log_every",
    "data.verify", "data.max_skipped_share",
)  # fmt: skip


def _fixed(resolved: Tree) -> dict[str, Any]:
    """The settings by dotted path that make a run what it is."""
    return {k: v for k, v in flat(resolved).items() if not k.startswith(MAY_CHANGE)}


def _json(url: str, *keys: str) -> dict[str, Any]:
    """A JSON object that has the keys."""
    try:
        content = json.loads(storage.read(url))
        if not isinstance(content, dict) or not content.keys() >= {*keys}:
            raise ValueError(f"it does not hold {', '.join(keys) or 'settings'}")
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(
            f"{url} cannot be read ({error}); the checkpoint is incomplete. Point latest.json of "
            "the run to an older one, or start anew with overwrite=true"
        ) from None
    return content
