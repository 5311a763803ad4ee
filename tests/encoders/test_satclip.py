import importlib
import pickle
import sys
import types
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import raytrain
from raytrain import wheels
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.networks import SirenConfig
from raytrain.encoders.positional import SphericalHarmonicsConfig
from raytrain.encoders.weights import WeightsError
from raytrain.evaluation.roster import roster
from raytrain.geo import Array, random_on_sphere
from raytrain.settings import build


@dataclass(frozen=True)
class Published:
    """SatCLIP's own modules, in float64."""

    siren: Any
    harmonics: Any

    def network(self, degrees: int) -> nn.Module:
        """A SIREN of the published sizes, with a first layer strong enough to turn its sines."""
        torch.manual_seed(0)
        with torch.no_grad():
            network: nn.Module = self.siren(degrees**2, 512, 256, 2).double().eval()
            network.layers[0].weight *= degrees / 3  # type: ignore[index, union-attr]
        return network

    def columns(self, degrees: int, convention: str) -> Tensor:
        columns: Tensor = self.harmonics(degrees, convention)(torch.from_numpy(places()))
        return columns

    def checkpoint(self, network: nn.Module, **more: Any) -> dict[str, Any]:
        """What Lightning stores, the network under both of its names."""
        state = network.state_dict()
        tensors = {
            f"model.{name}.{k}": v for name in ("nnet", "location.nnet") for k, v in state.items()
        }
        tensors |= {
            "model.visual.conv1.weight": torch.zeros(3, 3),
            "model.logit_scale": torch.zeros(()),
        }
        hyper = {"le_type": "sphericalharmonics", "pe_type": "siren", "legendre_polys": 10}
        hyper |= {"harmonics_calculation": "analytic", "eval_downstream": False}
        return {"epoch": 499, "state_dict": tensors, "hyper_parameters": hyper, **more}


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    """SatCLIP's code from the wheel of rshf, without what else its files import and do not need."""
    folder = tmp_path / "code"
    with zipfile.ZipFile(wheels.fetch("rshf")) as wheel:
        wheel.extractall(folder, [m for m in wheel.namelist() if m.startswith("rshf/satclip/")])
    absent = {"einops": "rearrange", "huggingface_hub": "PyTorchModelHubMixin"}
    for name, member in (absent | {"transformers": "PretrainedConfig"}).items():
        module = types.ModuleType(name)
        module.__dict__[member] = type(member, (), {})
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(folder)
    package = types.ModuleType("rshf")
    package.__path__ = [str(folder / "rshf")]
    monkeypatch.setitem(sys.modules, "rshf", package)
    model = importlib.import_module("rshf.satclip.model")
    yield Published(model.SirenNet, model.SphericalHarmonics)
    for name in [name for name in sys.modules if name.startswith("rshf.")]:
        del sys.modules[name]


def places() -> Array:
    """1,000 places, poles, both sides of the dateline and places close to the poles among them."""
    edges = [[lon, lat] for lon in (-180, -90, 0, 180) for lat in (-90, -89.99, -45, 0, 60, 89, 90)]
    drawn = random_on_sphere(1000 - len(edges), np.random.default_rng(0))
    return np.concatenate([np.array(edges, float), drawn])


def saved(folder: Path, content: object) -> Path:
    file = folder / "satclip-test.ckpt"
    torch.save(content, file)
    return file


def embedded(network: nn.Module, columns: Tensor) -> Array:
    with torch.no_grad():
        return np.asarray(network(columns).numpy())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("degrees", "convention"), [(10, "analytic"), (10, "closed-form"), (40, "closed-form")]
)
def test_it_agrees_with_satclips_own_code(
    published: Published, tmp_path: Path, degrees: int, convention: str
) -> None:
    network = published.network(degrees)
    content = published.checkpoint(network)
    content["hyper_parameters"]["harmonics_calculation"] = convention
    encoder = raytrain.load(saved(tmp_path, content))
    theirs = embedded(network, published.columns(degrees, convention))
    assert theirs.std() > 0.5
    np.testing.assert_allclose(encoder.encode(*places().T), theirs, atol=1e-5, rtol=0)
    assert encoder.config["harmonics"] == f"{convention}, as the checkpoint says"
    settings = build(LocationEncoderConfig, encoder.config["location"])
    assert settings == LocationEncoderConfig(
        positional=SphericalHarmonicsConfig(degrees=degrees),
        network=SirenConfig(dropout=0.5),
        skip=False,
    )


@pytest.mark.slow
def test_where_satclips_analytic_code_is_wrong_ours_is_right(
    published: Published, tmp_path: Path
) -> None:
    """L = 40: exact harmonics in SatCLIP's convention through SatCLIP's network give our embedding
    everywhere; its own harmonics do where they are right, which they are not towards the poles."""
    network = published.network(40)
    encoder = raytrain.load(saved(tmp_path, published.checkpoint(network)))
    ours = encoder.encode(*places().T)
    degree = np.repeat(np.arange(40), 2 * np.arange(40) + 1)
    order = np.arange(1600) - degree**2 - degree
    factor = np.where(order == 0, np.pi, (-1.0) ** order)
    exact = published.columns(40, "closed-form") * torch.from_numpy(factor)
    np.testing.assert_allclose(ours, embedded(network, exact), atol=1e-5, rtol=0)

    theirs = published.columns(40, "analytic")
    right = (theirs - exact).abs().amax(1).numpy() < 1e-6
    difference = np.abs(ours - embedded(network, theirs)).max(1)
    assert difference[right].max() < 1e-5
    assert 0.5 < right.mean() < (difference < 1e-5).mean() < 0.75
    lat = np.abs(places()[:, 1])
    for below, bound in ((40, 1e-5), (50, 1e-3), (60, 1e-2), (70, 0.1), (91, 0.5)):
        assert difference[lat < below].max() < bound


def test_a_checkpoint_that_does_not_say_is_taken_as_published(
    published: Published, tmp_path: Path
) -> None:
    content = published.checkpoint(published.network(10))
    said = raytrain.load(saved(tmp_path, content)).encode(*places().T)
    del content["hyper_parameters"]
    encoder = raytrain.load(saved(tmp_path, content))
    assert np.array_equal(encoder.encode(*places().T), said)
    assert encoder.config["harmonics"] == "analytic, SatCLIP's default: the checkpoint does not say"
    assert encoder.config["left_out"] == [
        "model.nnet (6 tensors)",
        "model.visual (1 tensors)",
        "model.logit_scale (1 tensors)",
    ]


def test_it_is_a_row_of_an_evaluation(published: Published, tmp_path: Path) -> None:
    file = saved(tmp_path, published.checkpoint(published.network(10)))
    *_, untrained, row = roster([str(file)], skip=["geoclip"])
    assert untrained.name == "untrained"
    assert row.kind == "encoder"
    assert row.encode is not None
    assert row.encode(np.zeros(3), np.zeros(3)).shape == (3, 256)


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


def test_objects_in_a_checkpoint_are_named_and_not_run(
    published: Published, tmp_path: Path
) -> None:
    content = published.checkpoint(published.network(10))
    content |= {"callbacks": {"ModelCheckpoint": {"dirpath": Path("logs"), "best": np.float64(1)}}}
    content |= {"datamodule": [Runs(tmp_path / "ran"), types.SimpleNamespace(a=1)]}
    encoder = raytrain.load(saved(tmp_path, content))
    assert encoder.encode(8.5, 47.4).shape == (1, 256)
    assert not (tmp_path / "ran").exists()
    named = " ".join(encoder.config["left_out"])
    for name in ("io.open", "PosixPath", "types.SimpleNamespace"):
        assert name in named


def test_files_that_are_no_satclip_checkpoint_are_refused_in_a_line(
    published: Published, tmp_path: Path
) -> None:
    def refused(content: object) -> str:
        with pytest.raises(WeightsError) as caught:
            raytrain.load(saved(tmp_path, content))
        message = str(caught.value)
        assert "satclip-test.ckpt" in message
        assert "\n" not in message
        return message

    good = published.checkpoint(published.network(10))
    hyper = good["hyper_parameters"]
    assert "no matrix model.location.nnet.layers.0.weight" in refused({"state_dict": {}})
    assert "no matrix" in refused(good | {"state_dict": Runs(tmp_path / "ran")})
    assert "which is a dictionary" in refused([1])
    assert "le_type=grid" in refused(good | {"hyper_parameters": hyper | {"le_type": "grid"}})
    discrete = hyper | {"harmonics_calculation": "discretized"}
    assert "=discretized; only" in refused(good | {"hyper_parameters": discrete})

    def changed(name: str, value: Tensor | None) -> dict[str, Any]:
        state = {k: v for k, v in good["state_dict"].items() if k != f"model.location.nnet.{name}"}
        state |= {} if value is None else {f"model.location.nnet.{name}": value}
        return good | {"state_dict": state}

    assert "reads 99 numbers" in refused(changed("layers.0.weight", torch.zeros(512, 99)))
    wide = torch.zeros(512, 300)
    assert "hidden.1.weight is [512, 300]" in refused(changed("layers.1.weight", wide))
    assert "no tensor hidden.1.bias" in refused(changed("layers.1.bias", None))

    file = saved(tmp_path, good)
    for damaged in (file.read_bytes()[:-1000], pickle.dumps(Runs(tmp_path / "ran")), b""):
        file.write_bytes(damaged)
        with pytest.raises(WeightsError, match="damaged or no checkpoint that can be read without"):
            raytrain.load(file)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(WeightsError, match=r"there is no .*none\.ckpt"):
        raytrain.load(tmp_path / "none.ckpt")
