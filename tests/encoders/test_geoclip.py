import importlib
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import raytrain
from raytrain import wheels
from raytrain.encoders.geoclip import CONFIG
from raytrain.encoders.positional.fourier import equal_earth
from raytrain.geo import Array, random_on_sphere
from raytrain.settings import to_dict


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The package's own module, unpacked from the wheel, without what else the package imports."""
    with zipfile.ZipFile(wheels.fetch("geoclip")) as wheel:
        wheel.extractall(tmp_path, [m for m in wheel.namelist() if m.startswith("geoclip/model/")])
    package, misc = types.ModuleType("published"), types.ModuleType("published.misc")
    package.__path__ = [str(tmp_path / "geoclip" / "model")]
    misc.__dict__["file_dir"] = package.__path__[0]  # misc.py itself needs pandas
    monkeypatch.setitem(sys.modules, "published", package)
    monkeypatch.setitem(sys.modules, "published.misc", misc)
    module = importlib.import_module("published.location_encoder")
    encoder: nn.Module = module.LocationEncoder().eval()
    for name in [name for name in sys.modules if name.startswith("published")]:
        monkeypatch.delitem(sys.modules, name)
    return encoder


def places() -> Array:
    """1,000 places, both poles and both sides of the dateline among them."""
    edges = [[lon, lat] for lon in (-180, -90, 0, 180) for lat in (-90, -89.999, -45, 0, 60, 90)]
    drawn = random_on_sphere(1000 - len(edges), np.random.default_rng(0))
    return np.concatenate([np.array(edges, float), drawn])


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.script` is deprecated")
def test_it_agrees_with_the_package(published: nn.Module) -> None:
    encoder = raytrain.load("geoclip")
    lonlat_deg = places()
    ours = encoder.encode(*lonlat_deg.T)
    with torch.inference_mode():
        theirs = published(torch.from_numpy(lonlat_deg[:, ::-1].copy()).float()).numpy()
    assert ours.shape == (1000, 512) == (1000, encoder.dim)
    assert theirs.std() > 0.01
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    known = {"name": "geoclip", "source": "arXiv 2309.16020", "licence": "MIT"}
    assert encoder.config == {**known, "location": to_dict(CONFIG)}


@pytest.mark.slow
def test_its_seams_are_where_the_docstring_says() -> None:
    encode = raytrain.load("geoclip").encode
    for lon, lat in (([180, -180], [10, 10]), ([0, 180], [90, 90]), ([0, 180], [-90, -90])):
        a, b = encode(lon, lat)
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) < 0.9


def test_equal_earth_is_the_published_map() -> None:
    """Šavrič et al. 2018: 5.414 wide and 2.635 high on the unit sphere, areas kept."""
    edges = torch.tensor([[180.0, 0.0], [0.0, 90.0]])
    x, y = equal_earth(edges).numpy() / (66.50336 / 180)
    np.testing.assert_allclose([x[0], y[1]], [5.41326 / 2, 2.63473 / 2], atol=1e-4)
    lat = np.linspace(-89, 89, 50)
    grid = torch.from_numpy(np.stack([np.full(50, 1e-2), lat], axis=1)).float()
    step = torch.tensor([0.0, 0.5])
    width = equal_earth(grid).numpy()[:, 0] * 180 / 66.50336 / np.radians(1e-2)
    height = (equal_earth(grid + step) - equal_earth(grid - step)).numpy()[:, 1]
    area = width * height * 180 / 66.50336 / (2 * np.sin(np.radians(0.5)))
    np.testing.assert_allclose(area, np.cos(np.radians(lat)), atol=1e-3)


def test_without_the_wheel_the_message_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAYTRAIN_CACHE", "RAYTRAIN_WHEELS", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(wheels.WheelError, match=r"geoclip==1\.3\.0 \(the real GeoCLIP"):
        raytrain.load("geoclip")
