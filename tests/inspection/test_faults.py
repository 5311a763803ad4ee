"""What is wrong with shards is found, and nothing in sound ones."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspection_shards import ROWS, Make, change_manifest, numbers, on_land, reseal, texts

from raytrain.inspection.faults import faults
from raytrain.inspection.look import look


def found(url: str) -> dict[str, str]:
    """All faults, state by words."""
    return {f"{f.name}: {f.words}": f.state for f in faults(look(url))}


def assert_found(url: str, state: str, pattern: str) -> None:
    """One fault, of this state and in these words, and no other."""
    seen = found(url)
    assert len(seen) == 1, seen
    ((words, how_bad),) = seen.items()
    assert re.search(pattern, words), words
    assert how_bad == state


def test_nothing_is_found_in_sound_shards(make: Make) -> None:
    assert found(make()) == {}
    assert found(make(texts(), name="texts")) == {}
    pictures = np.random.default_rng(0).integers(0, 255, (ROWS, 3, 8, 8), dtype=np.uint8)
    assert found(make(pictures, name="pictures")) == {}


def spoilt(rows: Any, columns: Any, value: float) -> np.ndarray:
    values = numbers()
    values[rows, columns] = value
    return values


@pytest.mark.parametrize(
    ("observed", "state", "pattern"),
    [
        (spoilt(slice(None), 2, 7.0), "yellow", "value: channel 2 is constant"),
        (spoilt([5, 400], 1, -9999.0), "yellow", r"value: channel 1: values far .*-9999 to"),
        (np.tile(numbers()[:, :1], 4), "yellow", "600 rows hold one value throughout|540|5.. of"),
    ],
    ids=["constant", "outlier", "flat"],
)
def test_odd_numbers(make: Make, observed: np.ndarray, state: str, pattern: str) -> None:
    assert_found(make(observed), state, pattern)


def test_numbers_that_are_none(make: Make) -> None:
    """raytrain writes none, but others may."""
    url = make()
    shard = Path(url) / "train-00000.tar"
    content = bytearray(shard.read_bytes())
    for row in numbers():
        if (at := content.find(row.tobytes())) >= 0:
            content[at : at + 4] = np.float32(np.nan).tobytes()
    shard.write_bytes(content)
    change_manifest(url, lambda manifest: reseal(manifest, shard.name, bytes(content)))
    assert_found(url, "red", r"value: 100 values are not finite, in channel 0")


def test_a_placeholder(make: Make) -> None:
    observed = numbers()
    observed[:60] = observed[0]
    (words,) = found(make(observed))
    assert re.fullmatch(
        r"value: one and the same observation is there \d\d times in \d+ rows", words
    )


def test_statistics_that_are_not_those_of_the_shards(make: Make) -> None:
    url = make()

    def change(manifest: dict[str, Any]) -> None:
        manifest["fields"]["value"]["mean"][1] = 0.0

    change_manifest(url, change)
    assert_found(url, "red", r"value: channel 1: mean and deviation are not those of the manifest")


def test_places_at_zero_and_elsewhere_at_sea(make: Make) -> None:
    places = on_land()
    places[:3] = 0.0
    places[3:50] = np.random.default_rng(0).uniform([-30.0, 30.0], [-25.0, 35.0], (47, 2))
    seen = found(make(lonlat_deg=places))
    assert seen == {
        "places: 3 of 600 places are at 0, 0, which is sea: mostly a missing value": "red",
        "places: 8.3% of the places are at sea": "yellow",
    }


def test_lon_and_lat_in_each_others_place(make: Make) -> None:
    places = on_land(5000)
    brazil = places[(np.abs(places - [-52, -15]) < 12).all(axis=1)]
    url = make(numbers(len(brazil)), brazil[:, ::-1].copy())
    assert any("were lon and lat swapped" in words for words in found(url))


def test_places_that_are_the_same_or_rounded(make: Make) -> None:
    places = on_land()
    places[:30] = places[0]
    assert_found(make(lonlat_deg=places), "yellow", "places: 5.0% of the rows share their place")
    places = on_land()
    places[:30] = [[10.0 + i, 25.0 - i % 3] for i in range(15)] + [
        [-100.0 + i, 40.0] for i in range(15)
    ]
    url = make(lonlat_deg=places, name="rounded")
    assert_found(url, "yellow", r"places: 5\.0% of the places are in whole degrees")


def test_places_that_crowd(make: Make) -> None:
    rng = np.random.default_rng(0)
    places = np.concatenate([on_land(400), rng.normal([13.4, 52.0], 0.2, (4000, 2))])
    url = make(numbers(4400), places)
    assert_found(url, "yellow", r"places: half of the places lie in \d of \d+ cells of 2°")


def test_training_places_in_blocks_that_are_held_out(make: Make) -> None:
    url = make()
    change_manifest(url, lambda manifest: manifest["holdout"].update(seed=5))
    assert_found(url, "red", "places are in the split that their block is not in")


def test_texts_that_say_nothing(make: Make) -> None:
    words = texts()
    words[3], words[9] = "", "  "
    assert_found(make(words), "yellow", r"text: 2 of \d+ texts are empty")
    words[20:60] = ["unknown"] * 40
    assert any("same observation is there" in w for w in found(make(words, name="more")))


def test_rows_and_shards_of_no_use(make: Make) -> None:
    url = make(texts())
    shard = Path(url) / "train-00001.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1024] + b"\1" * 1024)
    assert_found(url, "red", r"train-00001\.tar is changed: its sha256 is")
    shard.unlink()
    assert_found(url, "red", r"train-00001\.tar is missing")


@pytest.mark.parametrize(("lacking", "words"), [("licence", "no licence"), ("credit", "no credit")])
def test_terms(make: Make, lacking: str, words: str) -> None:
    assert_found(make(**{lacking: ""}), "yellow", f"the manifest has {words}")


@pytest.mark.parametrize(
    "change",
    [
        lambda field: field.update(dtype="object"),
        lambda field: field.update(dtype="nonsense"),
        lambda field: field.update(shape=[10**12]),
    ],
)
def test_a_manifest_that_asks_too_much(
    make: Make, change: Callable[[dict[str, Any]], None]
) -> None:
    url = make()
    change_manifest(url, lambda manifest: change(manifest["fields"]["value"]))
    with pytest.raises(Exception, match="no numbers or too many in a row"):
        look(url)
