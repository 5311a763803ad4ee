"""The command: its files, and what it says of bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raytrain.atlas import main
from raytrain.geo import Array


def constant(lon: Array, lat: Array) -> Array:
    return np.ones((len(lon), 3))


def flat(lon: Array, lat: Array) -> Array:
    """A seam at the dateline, and poles that are lines."""
    return np.stack([lon / 180, lat / 90], axis=1)


def test_it_writes_one_page_and_four_pictures(atlas: Any) -> None:
    names = ("map", "regions", "similarity", "seams")
    assert {p.name for p in atlas.folder.iterdir()} == {"index.html", *(f"{n}.png" for n in names)}
    for name in names:
        with Image.open(atlas.folder / f"{name}.png") as picture:
            assert picture.width == 1600
    page = (atlas.folder / "index.html").read_text()
    assert len(page) < 1_000_000
    assert not any(word in page for word in ("http:", "https:", "src=", "@import"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "give the folder of a run or of a checkpoint"),
        (["geoclip", "--at", "500", "0"], "--at: 1 of 1 rows are bad"),
        (["geoclip", "--regions", "1"], "--regions 1: give a number from 2 to 255"),
        (["geoclip", "--degrees", "0"], "--degrees 0: give a size from 0.1 to 30"),
        (["test_atlas:constant"], "the embedding is equal at all places"),
    ],
)
def test_bad_input_is_one_message(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().out
    assert said.startswith("error: ")
    assert message in said
    assert not (tmp_path / "out").exists()


def test_a_function_of_two_columns_has_its_seams_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    assert main(["test_atlas:flat", "--output", str(tmp_path), "--degrees", "6"]) == 0
    with Image.open(tmp_path / "seams.png") as picture:
        light = np.asarray(picture.convert("L"), float)[84:-260, 40:-40]
    equator = light[len(light) // 2]
    middle = len(equator) // 2
    assert equator[middle - 3 : middle + 3].mean() > 1.5 * np.median(equator)
