"""The interactive page of an atlas: all that it shows is in the one file."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

import raytrain
from raytrain.geo import EQUAL_EARTH, Array
from raytrain.maps.colours import heat
from raytrain.maps.projection import Mask
from raytrain.maps.survey import CHECKED, Packed, Regions, Survey, compressed
from raytrain.maps.world import MOST_JUMP, seam_figures

COAST = 4  # pixels of the land mask in one of the page's


def render(
    survey: Survey, regions: Regions, packed: Packed, land: Mask, place: Array, name: str
) -> str:
    """The page; `place` [1, 2] is the one whose similarity is shown until another is chosen."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        name=name,
        raytrain=raytrain.__version__,
        explained=survey.explained,
        packed=packed,
        checked=CHECKED,
        regions=regions,
        seams=seam_figures(survey.seams),
        most_jump=MOST_JUMP,
        data=_data(survey, regions, packed, land, place),
    )


def _data(
    survey: Survey, regions: Regions, packed: Packed, land: Mask, place: Array
) -> dict[str, Any]:
    """What the script reads; grids are base64 of `survey.compressed` bytes."""
    height, width = survey.shape
    jumps = np.clip(survey.jumps / MOST_JUMP, 0, 1)
    return {
        "height": height,
        "width": width,
        "components": len(packed.planes),
        "embedding": _grid(packed.planes),
        "colours": _grid(_bytes(survey.colours.transpose(2, 0, 1))),
        "jumps": _grid(_bytes(255 * jumps)),
        "mostJump": MOST_JUMP,
        "regions": {
            "height": regions.labels.shape[0],
            "width": regions.labels.shape[1],
            "labels": _grid(regions.labels),
            "colours": _bytes(regions.colours).tolist(),
            "share": regions.share.tolist(),
        },
        "land": _land(land),
        "low": survey.low,
        "heat": _bytes(heat(np.linspace(0, 1, 256))).tolist(),
        "place": place[0].tolist(),
        "equalEarth": EQUAL_EARTH,
    }


def _land(land: Mask) -> dict[str, Any]:
    """The share of land in coarser pixels, in 16 steps."""
    height, width = (length // COAST for length in land.shape)
    cut = land[: height * COAST, : width * COAST].reshape(height, COAST, width, COAST)
    share = _bytes(17 * np.round(15 * cut.mean(axis=(1, 3))))
    return {"height": height, "width": width, "share": _grid(share)}


def _grid(values: NDArray[np.int8] | NDArray[np.uint8]) -> str:
    return base64.b64encode(compressed(values)).decode()


def _bytes(values: Array) -> NDArray[np.uint8]:
    return np.round(values).astype(np.uint8)
