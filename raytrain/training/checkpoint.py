"""Checkpoints: a run's whole state in a sealed folder, which is complete or does not count.

<run>/checkpoint_000700/
    location_encoder.safetensors    what raytrain.load reads, with
    config.json                     the resolved settings
    model.safetensors               towers, heads, logit scale
    optimizer.pt                    read with weights_only=True
    state.json                      the seal: step, stream positions, checksums of the others
"""

import copy
import io
import json
import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from raytrain import sealed, storage
from raytrain.data.cards import Card
from raytrain.data.manifest import Manifest
from raytrain.data.visits import Position
from raytrain.encoders.modality import TimmConfig, Tower
from raytrain.encoders.pretrained import CHECKPOINT, CONFIG, WEIGHTS, TowerSettings
from raytrain.encoders.weights import load_exactly, read_weights
from raytrain.errors import UserError
from raytrain.objective.model import Model
from raytrain.settings import Tree, build, differences, flat, redacted, to_dict
from raytrain.training.config import RunConfig

MODEL, OPTIMIZER = "model.safetensors", "optimizer.pt"
LOCATION = "location."  # what the names of the location encoder's weights begin with in a Model


class CheckpointError(UserError):
    """A checkpoint that cannot be read or belongs to another run."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: where it is, the step it was made after, the stream positions."""

    url: str
    step: int
    positions: dict[str, Position]


@dataclass(frozen=True)
class Snapshot:
    """A run's whole state after a step, on the CPU: training may go on while it is written."""

    step: int
    positions: dict[str, Position]
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]


def snapshot(
    model: Model,
    optimizer: torch.optim.Optimizer,
    step: int,
    positions: Mapping[str, Position],
) -> Snapshot:
    """Copy what a checkpoint holds."""
    state = optimizer.state_dict()
    return Snapshot(
        step,
        dict(positions),
        {name: _copied(value) for name, value in model.state_dict().items()},
        {
            "state": {
                number: {k: _copied(v) if isinstance(v, Tensor) else v for k, v in values.items()}
                for number, values in state["state"].items()
            },
            "param_groups": copy.deepcopy(state["param_groups"]),
        },
    )


def save(run_url: str, snapshot: Snapshot, resolved: Tree) -> Checkpoint:
    """Write the checkpoint of a snapshot. Raises StorageError; what was written then does not count
    and is passed over."""
    location = {k: v for k, v in snapshot.weights.items() if k.startswith(LOCATION)}
    rest = {k: v for k, v in snapshot.weights.items() if k not in location}
    buffer = io.BytesIO()
    torch.save(snapshot.optimizer, buffer)
    files = {
        CONFIG: (json.dumps(resolved, indent=2) + "\n").encode(),
        WEIGHTS: safetensors.torch.save({k.removeprefix(LOCATION): v for k, v in location.items()}),
        MODEL: safetensors.torch.save(rest),
        OPTIMIZER: buffer.getvalue(),
    }
    saved = Checkpoint(name(run_url, snapshot.step), snapshot.step, snapshot.positions)
    sealed.write(saved.url, files, {"step": saved.step, "positions": saved.positions})
    return saved


def name(run_url: str, step: int) -> str:
    """The folder of the checkpoint after `step` steps."""
    return f"{run_url}/{CHECKPOINT}{step:06d}"


def latest(run_url: str, say: Callable[[str], object] = warnings.warn) -> Checkpoint | None:
    """The newest checkpoint of a run that is complete and has its checksums, or None before the
    first. `say` hears of others that are passed over.

    Raises CheckpointError where there are checkpoints and none is good.
    """
    try:
        found = sealed.newest(run_url, CHECKPOINT, say)
    except sealed.SealError as error:
        raise CheckpointError(f"{error}. Start the run anew with overwrite=true") from None
    if found is None:
        return None
    positions = {
        name: tuple((workers, rows) for workers, rows in position)
        for name, position in found.about["positions"].items()
    }
    return Checkpoint(found.url, found.about["step"], positions)


def restore(checkpoint: Checkpoint, model: Model, optimizer: torch.optim.Optimizer | None) -> None:
    """Load weights and, if given, the optimizer's state. Raises WeightsError, CheckpointError."""
    location = read_weights(f"{checkpoint.url}/{WEIGHTS}")
    weights = {f"{LOCATION}{k}": v for k, v in location.items()}
    load_exactly(model, weights | read_weights(f"{checkpoint.url}/{MODEL}"), checkpoint.url)
    if optimizer is not None:
        try:
            content = io.BytesIO(storage.read(f"{checkpoint.url}/{OPTIMIZER}"))
            # Not to the GPU that wrote it: it may be elsewhere. The optimizer moves its state.
            optimizer.load_state_dict(torch.load(content, map_location="cpu", weights_only=True))
        except (pickle.UnpicklingError, OSError, ValueError, RuntimeError, EOFError) as error:
            reason = "no plain tensors" if isinstance(error, pickle.UnpicklingError) else error
            raise CheckpointError(
                f"{checkpoint.url}/{OPTIMIZER} cannot be read ({reason}). Start anew with another "
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
    manifest = Manifest.load(card.observed_url(config["data"]["root"]))
    shape = manifest.field(card.observed_field).view_shape
    tower = card.tower
    if isinstance(tower, TimmConfig):  # its weights are in the checkpoint, and the file is not
        tower = replace(tower, weights=None, frozen=False)
    settings = TowerSettings(
        run=config["name"],
        modality=modality,
        tower=tower,
        shape=card.observed_augment.shape(shape),
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
    """Delete all but the newest `keep` checkpoints, with older ones that were not completed."""
    folders = sealed.oldest_first(run_url, CHECKPOINT)
    complete = [name for name in folders if sealed.is_sealed(f"{run_url}/{name}")]
    for name in folders[: folders.index(complete[-1])] if complete else []:
        if name not in complete[-keep:]:
            storage.remove_folder(f"{run_url}/{name}")


def resume_point(
    run_url: str, resolved: Tree, overwrite: bool, say: Callable[[str], object] = warnings.warn
) -> Checkpoint | None:
    """Where a run of this name goes on; None where it starts. Leaves the settings in config.json.

    Raises CheckpointError when the run was begun with other settings than those that may change.
    """
    if overwrite:
        storage.remove_folder(run_url)
    start = latest(run_url, say)
    if start is not None:
        now = _fixed(resolved)
        if changed := differences(_known(_json(f"{start.url}/{CONFIG}"), now), now):
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
    "training.accumulate",  # the same step with less memory, and with other dropout
    "data.verify", "data.max_skipped_share",
)  # fmt: skip


def _fixed(resolved: Tree) -> dict[str, Any]:
    """The settings by dotted path that make a run what it is."""
    return {k: v for k, v in flat(resolved).items() if not k.startswith(MAY_CHANGE)}


def _known(saved: Tree, now: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that made a saved run what it is. Those that its raytrain did not know yet have
    their defaults, which are what it did."""
    defaults = flat(to_dict(RunConfig()))
    return {k: defaults[k] for k in now if k in defaults} | _fixed(saved)


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _json(url: str, *keys: str) -> dict[str, Any]:
    """A JSON object that has the keys."""
    try:
        content = json.loads(storage.read(url))
        if not isinstance(content, dict) or not content.keys() >= {*keys}:
            raise ValueError(f"it does not hold {', '.join(keys) or 'settings'}")
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(f"{url} cannot be read ({error})") from None
    return content
