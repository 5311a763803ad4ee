import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

import raytrain
from raytrain.encoders.location import LocationEncoder, LocationEncoderConfig
from raytrain.encoders.positional import SphericalHarmonicsConfig
from raytrain.encoders.pretrained import save_location_encoder
from raytrain.encoders.weights import WeightsError
from raytrain.geo import CoordinateError, random_on_sphere
from raytrain.settings import SettingsError, to_dict

LOCATION = LocationEncoderConfig(positional=SphericalHarmonicsConfig(degrees=6), dim=16, skip=False)


@pytest.fixture
def encoder() -> LocationEncoder:
    torch.manual_seed(0)
    return LOCATION.build()


@pytest.fixture
def run(tmp_path: Path, encoder: LocationEncoder) -> Path:
    """The folder of a run with one checkpoint."""
    config = {"name": "tiny", "location": to_dict(LOCATION)}
    save_location_encoder(tmp_path / "run" / "checkpoint_000700", config, encoder)
    return tmp_path / "run"


def test_the_five_lines_of_the_readme(run: Path) -> None:
    encoder = raytrain.load(run)
    embeddings = encoder.encode(lon=[8.54, -74.0], lat=[47.37, 40.7])
    assert embeddings.shape == (2, 16)
    assert encoder.config["name"] == "tiny"


def test_a_loaded_encoder_is_the_saved_one(run: Path, encoder: LocationEncoder) -> None:
    places = random_on_sphere(300, np.random.default_rng(0))
    lon, lat = places.T
    expected = encoder(torch.from_numpy(places)).detach().numpy()
    fsspec.filesystem("memory").put(f"{run}/", "/pretrained/", recursive=True)
    for url in (run, f"{run}/", run / "checkpoint_000700", "memory://pretrained"):
        loaded = raytrain.load(url)
        assert np.array_equal(loaded.encode(lon, lat, batch=300), expected)
        np.testing.assert_allclose(loaded.encode(lon, lat, batch=77), expected, atol=1e-5)


def test_one_place_and_none(run: Path) -> None:
    encoder = raytrain.load(run)
    assert encoder.encode(180, 12.5).shape == (1, 16)
    assert np.array_equal(encoder.encode(180, 12.5), encoder.encode(-180, 12.5))
    assert encoder.encode([], []).shape == (0, 16)


@pytest.mark.parametrize(
    ("lon", "lat", "message"),
    [
        ([0.0, float("nan")], [0.0, 0.0], "row 1: lon nan"),
        ([200.0], [0.0], "wrap"),
        ([47.0], [120.0], "swapped"),
        ([1.0, 2.0], [1.0], "equal length"),
    ],
)
def test_bad_coordinates_are_named(
    run: Path, lon: list[float], lat: list[float], message: str
) -> None:
    with pytest.raises(CoordinateError, match=message):
        raytrain.load(run).encode(lon, lat)


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path, run: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere holds neither a checkpoint_…"):
        raytrain.load(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"neither a checkpoint_…, .* nor location_encoder"):
        raytrain.load(tmp_path)


def test_a_checkpoint_that_was_changed_is_refused(run: Path) -> None:
    with (run / "checkpoint_000700" / "location_encoder.safetensors").open("ab") as weights:
        weights.write(b"more")
    for url in (run, run / "checkpoint_000700"):
        with pytest.raises(
            WeightsError, match=r"000700 is damaged \(location_encoder\.safetensors d"
        ):
            raytrain.load(url)


def test_weights_and_settings_that_do_not_belong_together(
    run: Path, encoder: LocationEncoder
) -> None:
    config = {"name": "tiny", "location": to_dict(LOCATION)}
    config["location"]["positional"]["degrees"] = 7
    save_location_encoder(run / "checkpoint_000700", config, encoder)
    with pytest.raises(
        WeightsError,
        match=r"tensor network\.hidden\.0\.weight is \[512, 36\], but .* has \[512, 49\]",
    ):
        raytrain.load(run)
    config["location"]["positional"]["kind"] = "spherical_harmonic"
    save_location_encoder(run / "checkpoint_000700", config, encoder)
    with pytest.raises(SettingsError, match=r"location\.positional\.kind"):
        raytrain.load(run)
    save_location_encoder(run / "checkpoint_000700", {}, encoder)
    with pytest.raises(WeightsError, match="has no settings of a location encoder"):
        raytrain.load(run)


def test_importing_raytrain_costs_nothing_and_loading_needs_no_ray(run: Path) -> None:
    program = (
        "import sys, raytrain\n"
        "heavy = {'torch', 'ray', 'numpy'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        f"raytrain.load({str(run)!r}).encode(8.5, 47.4)\n"
        "heavy = {'ray', 'timm', 'mlflow', 'pandas', 'scipy'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
