"""A small atlas, and its page in a browser."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from browser import Page

from raytrain.atlas import main
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.networks import SirenConfig
from raytrain.encoders.positional import SphericalHarmonicsConfig
from raytrain.encoders.pretrained import PlaceEncoder, load, save_location_encoder
from raytrain.settings import to_dict


@dataclass(frozen=True)
class Atlas:
    """An atlas that the command wrote, and the encoder that it is of."""

    folder: Path
    encoder: PlaceEncoder


@pytest.fixture(scope="session")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """An atlas of a small encoder with 3° cells."""
    folder = tmp_path_factory.mktemp("atlas")
    torch.manual_seed(0)
    positional = SphericalHarmonicsConfig(degrees=8)
    config = LocationEncoderConfig(positional=positional, network=SirenConfig(width=32), dim=24)
    save_location_encoder(folder / "run", {"location": to_dict(config)}, config.build())
    given = [str(folder / "run"), "--output", str(folder / "out"), "--degrees", "3"]
    assert main([*given, "--at", "-60", "-5", "--regions", "6"]) == 0
    return Atlas(folder / "out", load(folder / "run"))


@pytest.fixture
def visit(browser: Page, atlas: Atlas) -> Iterator[Callable[..., Page]]:
    """Opens the atlas at a hash, in a window of 1200 x 800 unless told; no page may report a
    problem or fetch anything."""

    def opened(
        hash: str = "",
        width: int = 1200,
        height: int = 800,
        dark: bool = False,
        touch: bool = False,
    ) -> Page:
        browser.open(f"file://{atlas.folder}/index.html#{hash}", width, height, dark, touch)
        return browser

    yield opened
    browser.close()
    assert not browser.problems
