"""Trained location encoders, to ask about any place. Needs neither Ray nor the training code."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float32
from numpy.typing import ArrayLike
from torch import Tensor, nn

from raytrain import sealed, storage
from raytrain.encoders import geoclip
from raytrain.encoders.location import LocationEncoder, LocationEncoderConfig
from raytrain.encoders.modality import FieldSpec, Tower, TowerConfig
from raytrain.encoders.satclip import load_satclip
from raytrain.encoders.weights import (
    WeightsError,
    load_exactly,
    read_bytes,
    read_weights,
    safetensors_metadata,
    tensors,
)
from raytrain.geo import as_lonlat
from raytrain.settings import build

CONFIG, WEIGHTS = "config.json", "location_encoder.safetensors"
CHECKPOINT = "checkpoint_"  # what the folders of a run's checkpoints begin with
HF_WEIGHTS = "model.safetensors"  # as Hugging Face names them
METADATA = "raytrain"  # the key of a file's settings in its metadata
EARTH = "earth"  # the encoder that comes with raytrain, as `raytrain.export` wrote it
SHIPPED = Path(__file__).parents[1] / "weights" / EARTH


class PlaceEncoder:
    """A trained location encoder. `config` holds the settings of the run that trained it; of a peer
    its name, source and licence, and "location", its architecture."""

    def __init__(self, encoder: LocationEncoder, config: Mapping[str, Any]) -> None:
        self.encoder, self.config, self.dim = encoder.eval(), config, encoder.dim

    @torch.inference_mode()
    def encode(
        self, lon: ArrayLike | float | int, lat: ArrayLike | float | int, batch: int = 2048
    ) -> Float32[np.ndarray, "n dim"]:
        """Embeddings of places, row by row; they do not have unit length.

        `lon` in [-180, 180] and `lat` in [-90, 90] are degrees, one number or n of each. Raises
        CoordinateError where they are not. `batch` places are computed at a time.
        """
        lonlat_deg = torch.from_numpy(as_lonlat(lon, lat, "encode"))
        device = next(self.encoder.parameters()).device
        if len(lonlat_deg) <= batch:
            few: torch.Tensor = self.encoder(lonlat_deg.to(device))
            return few.cpu().numpy()
        embeddings = torch.empty(len(lonlat_deg), self.dim)
        for start in range(0, len(lonlat_deg), batch):
            places = lonlat_deg[start : start + batch].to(device)
            embeddings[start : start + batch] = self.encoder(places)
        return embeddings.numpy()

    def learned(
        self, lon: ArrayLike | float | int, lat: ArrayLike | float | int
    ) -> Float32[np.ndarray, "n learned_dim"]:
        """The columns of `encode` that training made, without a positional encoding that is handed
        on beside them (`location.skip`)."""
        return self.encode(lon, lat)[:, : self.encoder.learned_dim]


def load(url: str | PathLike[str], device: str = "cpu") -> PlaceEncoder:
    """The encoder of a run (its newest checkpoint), of one checkpoint, of a .safetensors file or
    folder that `python -m raytrain.export` wrote, or of a SatCLIP .ckpt, by path or URL.

    "earth" is the encoder that comes with raytrain, "geoclip" the published GeoCLIP (a run in a
    folder of such a name is "./earth").
    Raises WeightsError or SettingsError, with what is missing or does not fit; WheelError where
    GeoCLIP cannot be fetched.
    """
    url = str(url).rstrip("/")
    if url == geoclip.NAME:
        encoder, config = geoclip.load_geoclip()
    elif url.endswith(".ckpt"):
        encoder, config = load_satclip(url)
    else:
        stored = _read(str(SHIPPED) if url == EARTH else url)
        encoder, config = _untrained(stored), stored.config
        load_exactly(encoder, stored.weights, stored.weights_url)
    return PlaceEncoder(encoder.to(device), config)


@dataclass(frozen=True, kw_only=True)
class TowerSettings:
    """A modality's tower alone: what reads observations of `shape`, in the units of the shards,
    into the `dim` columns that a run's location encoder learned beside it."""

    run: str
    modality: str
    tower: TowerConfig
    shape: tuple[int, ...]
    dim: int
    licence: str = ""
    credit: str = ""

    def build(self) -> Tower:
        return self.tower.build(FieldSpec(shape=self.shape), self.dim)


def load_tower(url: str | PathLike[str]) -> tuple[Tower, TowerSettings]:
    """The tower in a .safetensors file that `python -m raytrain.export RUN --tower MODALITY` wrote.

    Raises WeightsError or SettingsError for any other file.
    """
    stored = _read(str(url))
    if "tower" not in stored.config:
        raise WeightsError(f"{stored.config_url} holds no tower; raytrain.load reads encoders")
    settings = build(TowerSettings, stored.config, stored.config_url)
    tower = settings.build()
    load_exactly(tower, stored.weights, stored.weights_url)
    return tower.eval(), settings


def newest_checkpoint(run_url: str) -> str | None:
    """The folder of a run's newest complete checkpoint; None where there is none. Warns of damaged
    ones that are passed over; raises WeightsError where all are."""
    try:
        found = sealed.newest(run_url, CHECKPOINT, warnings.warn)
    except sealed.SealError as error:
        raise WeightsError(f"{error}. Resume the run to write another") from None
    return found.url if found else None


def save_location_encoder(
    folder: str | PathLike[str],
    config: Mapping[str, Any],
    encoder: LocationEncoder,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write what `load` reads into a folder, path or URL: weights, a run's resolved settings, of
    which "location" are the encoder's, and a seal that also says what `about` holds."""
    text = (json.dumps(config, indent=2) + "\n").encode()
    sealed.write(str(folder), {CONFIG: text, WEIGHTS: location_weights(encoder)}, about or {})


def location_weights(encoder: nn.Module) -> bytes:
    """The weights as safetensors."""
    return bytes(safetensors.torch.save(_state(encoder)))


def single_file(module: nn.Module, config: Mapping[str, Any]) -> bytes:
    """Weights as safetensors, with settings in the file's metadata: what `load` and `load_tower`
    read as one file."""
    return bytes(safetensors.torch.save(_state(module), {METADATA: json.dumps(config)}))


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu().contiguous() for name, value in module.state_dict().items()}


class _Stored(NamedTuple):
    """Settings and weights, and the files that they were in."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    config_url: str
    weights_url: str


def _read(url: str) -> _Stored:
    if url.endswith(".safetensors"):
        content = read_bytes(url)
        weights, metadata = tensors(content, url), safetensors_metadata(content)
        if METADATA not in metadata:
            raise WeightsError(
                f"{url} has weights but not raytrain's settings in its metadata; give the folder "
                "of its run, or a file that `python -m raytrain.export` wrote"
            )
        return _Stored(_parsed(metadata[METADATA], url), weights, url, url)
    weights_url = _find_weights(url)
    config_url = f"{weights_url.rpartition('/')[0]}/{CONFIG}"
    config = _parsed(read_bytes(config_url), config_url)
    return _Stored(config, read_weights(weights_url), config_url, weights_url)


def _untrained(stored: _Stored) -> LocationEncoder:
    """The architecture that settings describe."""
    if "location" in stored.config:
        return build(LocationEncoderConfig, stored.config["location"], "location").build()
    if "tower" in stored.config:
        raise WeightsError(
            f"{stored.config_url} holds a tower, of {stored.config.get('modality')}, and no "
            "location encoder; raytrain.encoders.pretrained.load_tower reads it"
        )
    raise WeightsError(f"{stored.config_url} has no settings of a location encoder")


def _find_weights(url: str) -> str:
    """The weights of the checkpoint or export that `url` is, or of the newest checkpoint of a run.

    A checkpoint has a model.safetensors too, for its towers.
    """
    if _exists(f"{url}/{WEIGHTS}"):
        _, fault = sealed.inspect(url) if sealed.is_sealed(url) else ({}, None)
        if fault is not None:
            raise WeightsError(f"{url} {fault}; give the folder of an older checkpoint")
        return f"{url}/{WEIGHTS}"
    newest = newest_checkpoint(url)
    if newest is not None:
        return f"{newest}/{WEIGHTS}"
    if _exists(f"{url}/{HF_WEIGHTS}"):
        return f"{url}/{HF_WEIGHTS}"
    raise WeightsError(
        f"{url} holds neither a {CHECKPOINT}…, which a run has from its first checkpoint on, nor "
        f"{WEIGHTS}, which a checkpoint has, nor {HF_WEIGHTS}, which an export has; "
        "give the folder of a run or of a checkpoint, an exported one, or a .ckpt file"
    )


def _exists(url: str) -> bool:
    return storage.size(url) is not None


def _parsed(text: bytes | str, url: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise WeightsError(f"{url} is no readable JSON: {error}") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{url} is damaged: expected a JSON object")
    return content
