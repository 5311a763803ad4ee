"""Trained location encoders, to ask about any place. Needs neither Ray nor the training code."""

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float32
from numpy.typing import ArrayLike

from raytrain import storage
from raytrain.encoders.geoclip import GeoCLIP, load_geoclip
from raytrain.encoders.location import LocationEncoder, LocationEncoderConfig
from raytrain.encoders.weights import WeightsError, load_exactly, read_bytes, read_weights
from raytrain.geo import as_lonlat
from raytrain.settings import build

CONFIG, WEIGHTS, LATEST = "config.json", "location_encoder.safetensors", "latest.json"
GEOCLIP = {"name": "geoclip", "source": "arXiv 2309.16020", "licence": "MIT"}


class PlaceEncoder:
    """A trained location encoder. `config` holds the settings of the run that trained it, or of a
    peer its name, source and licence."""

    def __init__(self, encoder: LocationEncoder | GeoCLIP, config: Mapping[str, Any]) -> None:
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
    """The encoder of a run (its newest checkpoint) or of one checkpoint, by path or URL.

    "geoclip" is the published GeoCLIP instead (a run in a folder of that name is "./geoclip").
    Raises WeightsError or SettingsError, with what is missing or does not fit; WheelError where
    GeoCLIP cannot be fetched.
    """
    if url == GEOCLIP["name"]:
        return PlaceEncoder(load_geoclip().to(device), GEOCLIP)
    checkpoint = _find_checkpoint(str(url).rstrip("/"))
    config = _read_json(f"{checkpoint}/{CONFIG}")
    if "location" not in config:
        raise WeightsError(f"{checkpoint}/{CONFIG} has no settings of a location encoder")
    encoder = build(LocationEncoderConfig, config["location"], "location").build()
    load_exactly(encoder, read_weights(f"{checkpoint}/{WEIGHTS}"), f"{checkpoint}/{WEIGHTS}")
    return PlaceEncoder(encoder.to(device), config)


def save_location_encoder(
    folder: str | PathLike[str], config: Mapping[str, Any], encoder: LocationEncoder
) -> None:
    """Write what `load` reads into a folder, path or URL: weights, and a run's resolved settings,
    of which "location" are the encoder's."""
    storage.write(f"{folder}/{CONFIG}", (json.dumps(config, indent=2) + "\n").encode())
    storage.write(f"{folder}/{WEIGHTS}", location_weights(encoder))


def location_weights(encoder: LocationEncoder | GeoCLIP) -> bytes:
    """The weights as safetensors."""
    state = {name: value.cpu().contiguous() for name, value in encoder.state_dict().items()}
    return bytes(safetensors.torch.save(state))


def _find_checkpoint(url: str) -> str:
    """The checkpoint that `url` is, or the newest of the run that it is."""
    if _exists(f"{url}/{WEIGHTS}"):
        return url
    if not _exists(f"{url}/{LATEST}"):
        raise WeightsError(
            f"{url} holds neither {LATEST}, which a run has from its first checkpoint on, nor "
            f"{WEIGHTS}, which a checkpoint has; give the folder of a run or of a checkpoint"
        )
    name = _read_json(f"{url}/{LATEST}").get("checkpoint")
    if not name or not _exists(f"{url}/{name}/{WEIGHTS}"):
        raise WeightsError(
            f"{url}: {LATEST} names the checkpoint {name}, which has no {WEIGHTS}; "
            "resume the run to write another, or give the folder of an older checkpoint"
        )
    return f"{url}/{name}"


def _exists(url: str) -> bool:
    return storage.size(url) is not None


def _read_json(url: str) -> dict[str, Any]:
    stored = read_bytes(url)
    try:
        content = json.loads(stored)
    except ValueError as error:
        raise WeightsError(f"{url} is no readable JSON: {error}") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{url} is damaged: expected a JSON object")
    return content
