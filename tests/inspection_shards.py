"""Shards that are made for a look, sound or with a fault."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raytrain.data.manifest import Field
from raytrain.data.sources.land import draw_places, land_mask
from raytrain.data.writer import Observations, write_shards

ROWS = 600
Make = Callable[..., str]


def on_land(n: int = ROWS, seed: int = 0) -> NDArray[np.float64]:
    return draw_places(n, land_mask(), np.random.default_rng(seed))


def numbers(n: int = ROWS) -> NDArray[np.float32]:
    """Four columns, of different means and deviations."""
    rng = np.random.default_rng(1)
    return (rng.normal(size=(n, 4)) * [1, 10, 0.1, 1] + [0, 50, 3, -2]).astype(np.float32)


def texts(n: int = ROWS) -> list[str]:
    return [f"Place number {i}, <b>hardly</b> & known" for i in range(n)]


def maker(folder: Path) -> Make:
    """Writes shards of places and one field, small ones, and gives where they are."""

    def made(
        observed: NDArray[Any] | list[str] | None = None,
        lonlat_deg: NDArray[np.float64] | None = None,
        name: str = "made",
        **terms: str,
    ) -> str:
        observed = numbers() if observed is None else observed
        places = on_land(len(observed)) if lonlat_deg is None else lonlat_deg
        if isinstance(observed, list):
            words = np.array(observed, object)
            offered = Observations(
                lonlat_deg=places,
                fields={"text": Field(dtype="str", shape=(), encoding="txt")},
                take=lambda index: {"text": [str(text) for text in words[index]]},
                layout="samples",
            )
        else:
            offered = Observations.of_arrays(places, {"value": observed}, units="units")
        terms = {"licence": "CC0", "credit": "nobody", **terms}
        write_shards(str(folder / name), offered, modality=name, shard_rows=100, **terms)
        return str(folder / name)

    return made


def change_manifest(url: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit a manifest behind raytrain's back."""
    path = Path(url) / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def reseal(manifest: dict[str, Any], shard: str, content: bytes) -> None:
    """Tell a manifest the checksum of a shard that was changed."""
    (entry,) = (entry for entry in manifest["shards"] if entry["name"] == shard)
    entry["sha256"] = hashlib.sha256(content).hexdigest()
