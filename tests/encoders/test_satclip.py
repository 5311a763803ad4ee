import importlib
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
from raytrain.encoders.weights import WeightsError
from raytrain.evaluation.roster import roster
from raytrain.geo import Array, random_on_sphere


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

    def checkpoint(self, network: nn.Module, **more: Any) -> dict[str, Any]:
        """What Lightning stores, the network under both of its names."""
        state = network.state_dict()
        tensors = {f"model.{name}.{k}": v for name in ("nnet", "location.nnet") for k, v in state.items()}
        tensors |= {"model.visual.conv1.weight": torch.zeros(3, 3), "model.logit_scale": torch.zeros(())}
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("degrees", "convention"),
    [(10, "analytic"), (10, "closed-form"), (40, "closed-form"), (40, "analytic")],
)
def test_it_agrees_with_satclip(
    published: Published, tmp_path: Path, degrees: int, convention: str
) -> None:
    network = published.network(degrees)
    content = published.checkpoint(network)
    content["hyper_parameters"]["harmonics_calculation"] = convention
    encoder = raytrain.load(saved(tmp_path, content))
    lonlat = torch.from_numpy(places())
    columns: Tensor = published.harmonics(degrees, convention)(lonlat)
    with torch.no_grad():
        theirs = network(columns).numpy()
    ours = encoder.encode(*lonlat.numpy().T)
    print(degrees, convention, np.abs(ours-theirs).max(), theirs.std(), np.abs(theirs).max())
    d=np.abs(ours-theirs).max(1)
    print(np.sort(d)[-20:], lonlat.numpy()[np.argsort(d)[-20:]], (d>1e-5).sum(), np.median(d))
