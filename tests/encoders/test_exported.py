import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

import raytrain
from raytrain.encoders import exported
from raytrain.encoders.exported import EDGES, SUFFIX, Export, ExportError, Format
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.modality import CNNConfig, MLPTowerConfig, ProjectionConfig
from raytrain.encoders.networks import MLPConfig
from raytrain.encoders.positional import DirectConfig, SphericalHarmonicsConfig
from raytrain.encoders.pretrained import PlaceEncoder, TowerSettings, load_tower
from raytrain.encoders.weights import WeightsError
from raytrain.geo import random_on_sphere
from raytrain.settings import to_dict

CONFIGS = {
    "harmonics, skip": LocationEncoderConfig(
        positional=SphericalHarmonicsConfig(degrees=12), dim=16
    ),
    "one degree": LocationEncoderConfig(positional=SphericalHarmonicsConfig(degrees=1), dim=4),
    "direct, MLP": LocationEncoderConfig(
        positional=DirectConfig(), network=MLPConfig(residual=True), dim=16, skip=False
    ),
}
MACHINE = {"storage": "s3://key:secret@bucket/runs", "tracking": {"uri": "sqlite:///x.db"}}


def untrained(config: LocationEncoderConfig) -> PlaceEncoder:
    torch.manual_seed(0)
    settings = {"name": "tiny", "location": to_dict(config), "data": {"root": "s3://a:b@c/d"}}
    return PlaceEncoder(config.build(), {**settings, **MACHINE})


@pytest.fixture(params=CONFIGS)
def encoder(request: pytest.FixtureRequest) -> PlaceEncoder:
    return untrained(CONFIGS[request.param])


def run_onnx(path: Path) -> Callable[[Tensor], Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("lonlat_deg", "tensor(double)", [2])
    assert (made.name, made.type) == ("embedding", "tensor(float)")
    return lambda places: session.run(None, {"lonlat_deg": places.numpy()})[0]


def run_torch(path: Path) -> Callable[[Tensor], Any]:
    module = torch.export.load(path).module()
    return lambda places: module(places).detach().numpy()


def run_raytrain(path: Path) -> Callable[[Tensor], Any]:
    encode = raytrain.load(path).encode
    return lambda places: encode(*places.numpy().T)


RUNTIMES: dict[Format, Callable[[Path], Callable[[Tensor], Any]]] = {
    "safetensors": run_raytrain,
    "onnx": run_onnx,
    "torch-export": run_torch,
    "hf-folder": run_raytrain,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", RUNTIMES)
def test_every_format_gives_the_same_embeddings_anywhere(
    encoder: PlaceEncoder, form: Format, tmp_path: Path
) -> None:
    """More places than a block of the harmonics has, one place, and poles and dateline alone."""
    path = tmp_path / f"tiny{SUFFIX[form]}"
    written = exported.write(exported.of_encoder(encoder), form, str(path))
    assert written.difference < 1e-5
    run = RUNTIMES[form](path)
    anywhere = random_on_sphere(3000, np.random.default_rng(1))
    for places in (anywhere, anywhere[:1], np.array(EDGES, float)):
        ours = encoder.encode(*places.T)
        theirs = run(torch.from_numpy(places))
        assert theirs.dtype == np.float32
        np.testing.assert_allclose(theirs, ours, atol=1e-5, rtol=0)


def test_an_export_says_what_it_is_and_nothing_of_the_machine(tmp_path: Path) -> None:
    export = exported.of_encoder(untrained(CONFIGS["one degree"]))
    for form, suffix in SUFFIX.items():
        exported.write(export, form, f"{tmp_path}/tiny{suffix}", "card" if not suffix else None)
    told = {"config.json": ""}
    torch.export.load(tmp_path / "tiny.pt2", extra_files=told)
    with safetensors.safe_open(tmp_path / "tiny.safetensors", "pt") as file:
        inside = file.metadata()["raytrain"]
    (prop,) = onnx.load(tmp_path / "tiny.onnx").metadata_props
    folder = (tmp_path / "tiny" / "config.json").read_text()
    for text in (told["config.json"], inside, prop.value, folder):
        config = json.loads(text)
        assert config.keys() == {"name", "location", "data"}
        assert config["data"]["root"] == "s3://***@c/d"
    assert {file.name for file in (tmp_path / "tiny").iterdir()} == {
        "README.md", "config.json", "model.safetensors"
    }  # fmt: skip
    assert raytrain.load(tmp_path / "tiny.safetensors").config == config
    again = exported.of_encoder(raytrain.load(tmp_path / "tiny"))
    exported.write(again, "safetensors", f"{tmp_path}/again.safetensors")
    first, second = (tmp_path / f"{name}.safetensors" for name in ("tiny", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_a_graph_needs_no_raytrain(tmp_path: Path) -> None:
    encoder = untrained(CONFIGS["harmonics, skip"])
    exported.write(exported.of_encoder(encoder), "torch-export", f"{tmp_path}/tiny.pt2")
    program = (
        "import sys, torch\n"
        "sys.modules['raytrain'] = None\n"
        "module = torch.export.load('tiny.pt2').module()\n"
        "places = torch.tensor([[8.5, 47.4], [180, 0], [0, 90]], dtype=torch.float64)\n"
        "print(module(places)[0, 0].item())\n"
    )
    bare = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=tmp_path, env=bare, capture_output=True
    ).stdout
    assert float(printed) == pytest.approx(encoder.encode(8.5, 47.4)[0, 0], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("form", RUNTIMES)
def test_geoclip_is_exported(form: Format, tmp_path: Path) -> None:
    """Within what its float32 phases allow: the last bit of a sine moves it by a few metres."""
    path = tmp_path / f"geoclip{SUFFIX[form]}"
    encoder = raytrain.load("geoclip")
    written = exported.write(exported.of_encoder(encoder), form, str(path))
    assert written.difference < (1e-3 if form == "onnx" else 1e-4)
    if form in ("safetensors", "hf-folder"):
        loaded = raytrain.load(path)
        assert loaded.config == encoder.config
        assert np.array_equal(loaded.encode(8.5, 47.4), encoder.encode(8.5, 47.4))


@pytest.mark.parametrize(
    ("tower", "shape"),
    [
        (CNNConfig(patch_px=4, width=8, stages=2), (3, 16, 16)),
        (MLPTowerConfig(width=16), (12,)),
        (ProjectionConfig(), (2, 4, 4)),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
@pytest.mark.slow
def test_towers_are_exported(tower: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    settings = TowerSettings(run="mine", modality="tiles", tower=tower, shape=shape, dim=8)
    module = settings.build().eval()
    module.mean.fill_(100.0)
    module.std.fill_(30.0)
    export = exported.of_tower(module, settings)
    observations = torch.randn(5, *shape) * 30 + 100
    expected = module(observations).detach()
    for form in ("safetensors", "onnx", "torch-export"):
        written = exported.write(export, form, f"{tmp_path}/tower{SUFFIX[form]}")
        assert written.difference < 1e-5
    loaded, said = load_tower(tmp_path / "tower.safetensors")
    assert said == settings
    assert torch.equal(loaded(observations), expected)
    session = onnxruntime.InferenceSession(tmp_path / "tower.onnx")
    (embedding,) = session.run(["embedding"], {"observation": observations.numpy()})
    np.testing.assert_allclose(embedding, expected, atol=1e-5)
    with pytest.raises(ExportError, match="hf-folder holds a location encoder"):
        exported.write(export, "hf-folder", f"{tmp_path}/tower")
    with pytest.raises(WeightsError, match=r"tower\.safetensors holds a tower, of tiles, and no"):
        raytrain.load(tmp_path / "tower.safetensors")


class Undecided(nn.Module):
    """What no graph holds: Python that looks at values."""

    def forward(self, lonlat_deg: Tensor) -> Tensor:
        return lonlat_deg.float() if lonlat_deg.sum() > 0 else -lonlat_deg.float()


def test_what_does_not_fit_leaves_no_file(tmp_path: Path) -> None:
    undecided = Export(Undecided(), {}, "lonlat_deg", exported.places())
    for form in ("onnx", "torch-export"):
        with pytest.raises(ExportError, match=rf"Undecided cannot be exported as {form}: \w+: ."):
            exported.write(undecided, form, f"{tmp_path}/file")
    exact = replace(exported.of_encoder(untrained(CONFIGS["harmonics, skip"])), tolerance=0.0)
    with pytest.raises(ExportError, match=r"largest difference is .*e-0[78] of their mean length"):
        exported.write(exact, "onnx", f"{tmp_path}/file")
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    export = exported.of_encoder(untrained(CONFIGS["one degree"]))
    with pytest.raises(ExportError, match=r"needs onnx: pip install 'raytrain\[onnx\]'"):
        exported.write(export, "onnx", f"{tmp_path}/file.onnx")


def test_files_that_are_no_export_are_refused_in_a_line(tmp_path: Path) -> None:
    def refused(file: Path) -> str:
        with pytest.raises(WeightsError) as caught:
            raytrain.load(file)
        message = str(caught.value)
        assert str(file) in message
        assert "\n" not in message
        return message

    export = exported.of_encoder(untrained(CONFIGS["direct, MLP"]))
    file, folder = tmp_path / "tiny.safetensors", tmp_path / "tiny"
    exported.write(export, "safetensors", str(file))
    exported.write(export, "hf-folder", str(folder))
    whole, weights = file.read_bytes(), folder / "model.safetensors"
    for cut in (0, 4, 100, len(whole) - 1):
        file.write_bytes(whole[:cut])
        assert "is damaged or no safetensors file" in refused(file)
    torch.save({"weight": nn.Linear(2, 2)}, file)
    assert "is damaged or no safetensors file" in refused(file)

    state = safetensors.torch.load(whole)
    safetensors.torch.save_file(state, file)
    assert "has weights but not raytrain's settings in its metadata" in refused(file)
    with pytest.raises(WeightsError, match="not raytrain's settings"):
        load_tower(file)
    other = {"raytrain": json.dumps({"location": to_dict(CONFIGS["one degree"])})}
    safetensors.torch.save_file(state, file, other)
    assert "but this architecture has [512, 1]" in refused(file)
    safetensors.torch.save_file(state, file, {"raytrain": "{"})
    assert "is no readable JSON" in refused(file)

    (folder / "config.json").write_text('{"model_type": "bert"}')
    assert "config.json has no settings of a location encoder" in refused(folder)
    (folder / "config.json").unlink()
    assert "there is no" in refused(folder)
    weights.unlink()
    assert "nor model.safetensors, which an export has" in refused(folder)
