import re
from typing import Any

import pytest
import torch
import yaml

from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.positional import SphericalHarmonicsConfig
from raytrain.encoders.pretrained import PlaceEncoder
from raytrain.errors import UserError
from raytrain.evaluation.model_card import model_card
from raytrain.settings import to_dict

CARDS = {
    "patches": {
        "name": "patches",
        "source": {"kind": "raster", "units": "RGB", "places": 1000000, "latitudes": [-60, 84.0]},
        "mini": {"places": 20000},
        "licence": "CC BY 4.0",
        "credit": "A | B",
        "leaks": ["height", "slope"],
    },
    "bare": {"name": "bare", "source": None},
}
CONFIG: dict[str, Any] = {
    "name": "mine",
    "data": {"root": "earth-mini"},
    "cards": CARDS,
    "method": {"kind": "melt"},
    "optim": {"lr": 5e-4},
}


@pytest.fixture(scope="module")
def encoder() -> PlaceEncoder:
    config = LocationEncoderConfig(positional=SphericalHarmonicsConfig(degrees=3), dim=8)
    torch.manual_seed(0)
    return PlaceEncoder(config.build(), {**CONFIG, "location": to_dict(config)})


def cell(mean: float | None) -> dict[str, Any]:
    return {"mean": mean, "std": 0.01}


def probes(row: str = "trained encoder") -> dict[str, Any]:
    """What a run ends with."""
    tasks = {"height": {"metric": "R2"}, "biome": {"metric": "accuracy"}}
    cells = {"height": cell(0.5), "biome": cell(0.25), "mean": cell(0.25)}
    clean = {"height": cell(0.375), "biome": cell(None), "mean": cell(0.375)}
    return {
        "scores": {"label-kNN": {"300 labels": clean}, row: {"300 labels": cells}},
        "leaks": {row: ["height"]},
        "settings": {"split": "blocks of 10°", "probe": "ridge", "tasks": tasks},
    }


def test_it_says_all_that_a_run_knows(encoder: PlaceEncoder) -> None:
    card = model_card(encoder, encoder.config, "mine", probes())
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "raytrain",
        "license": "unknown",
        "tags": ["location-encoder", "geospatial", "embeddings"],
    }
    for line in (
        "# mine",
        "The first 8 columns are learned, the others its positional encoding, as it is.",
        "- licence of these weights: not known: none is recorded; those of the data are below",
        "| patches | RGB | latitude -60° to 84° | 20,000 | CC BY 4.0 | A / B | height, slope |",
        "| bare " + "| not known " * 5 + "| none that its card names |",
        "Ridge probes of the frozen embedding, blocks of 10° held out; mean ± standard deviation. "
        "The row in bold is this encoder.",
        "| | height (R2) | biome (accuracy) | mean |",
        "| label-kNN | 0.375 ± 0.010 | – | 0.375 ± 0.010 |",
        "| **trained encoder** | 0.500 ± 0.010* | 0.250 ± 0.010 | 0.250 ± 0.010 |",
        r"\* a modality of the encoder holds this label; left out of the mean.",
    ):
        assert f"\n{line}\n" in body
    (recipe,) = re.findall(r"```yaml\n(.*?)```", body, re.DOTALL)
    assert yaml.safe_load(recipe)["optim"] == {"lr": 5e-4}
    (jump,) = re.findall(r"across the dateline is (\S+),", body)
    assert 0.5 < float(jump) < 1.5
    assert "\n\n\n" not in card


def test_what_is_not_known_is_said_to_be(encoder: PlaceEncoder) -> None:
    peer = {"name": "geoclip", "source": "arXiv 2309.16020", "licence": "MIT"}
    card = model_card(encoder, peer, "geoclip", None)
    assert "license: mit\n" in card
    assert card.count("Not known to raytrain; see the source.") == 2
    assert "Not known: nobody has scored this encoder." in card
    assert "- source: arXiv 2309.16020\n- licence of these weights: MIT\n" in card
    assert "\n\n\n" not in card


def test_the_row_of_an_evaluation_is_found_by_name_or_seed(encoder: PlaceEncoder) -> None:
    rows = [{"name": "mine (2 seeds)", "members": ["mine-0", "mine-1"]}]
    evaluation = {"rows": rows, "tables": [probes("mine (2 seeds)")]}
    assert "| **mine (2 seeds)** |" in model_card(encoder, encoder.config, "mine-1", evaluation)
    with pytest.raises(UserError, match="no row of other; they have: label-kNN, mine"):
        model_card(encoder, encoder.config, "other", evaluation)
