from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from raytrain.encoders.images import TimmBackbone
from raytrain.encoders.modality import FieldSpec, TimmConfig
from raytrain.encoders.weights import WeightsError
from raytrain.errors import UserError

TILE = FieldSpec(shape=(6, 32, 32), mean=(120.0,) * 6, std=(50.0,) * 6)


@pytest.fixture(scope="session")
def rgb_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of an RGB classifier, as published files hold them."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    safetensors.torch.save_file(timm.create_model("resnet18").state_dict(), path)
    return path


def test_a_frozen_network_takes_six_channels_and_never_changes(rgb_weights: Path) -> None:
    config = TimmConfig(name="resnet18", weights=str(rgb_weights), frozen=True)
    tower = config.build(TILE, dim=8).train()
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in tower.parameters() if p.requires_grad], lr=0.1)
    tower(torch.randint(0, 256, (4, *TILE.shape), dtype=torch.uint8)).sum().backward()
    optimizer.step()
    changed = {n for n, value in tower.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"network.1.weight", "network.1.bias"}  # not even running statistics


def test_weights_for_rgb_give_the_same_features_on_a_grey_image_of_six(rgb_weights: Path) -> None:
    rgb = TimmBackbone("resnet18", (3, 32, 32), str(rgb_weights), frozen=True)
    six = TimmBackbone("resnet18", (6, 32, 32), str(rgb_weights), frozen=True)
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(
        six(torch.cat([image, image], dim=1)), rgb(image), rtol=1e-4, atol=1e-5
    )


def test_published_weights_are_really_in_the_network(rgb_weights: Path) -> None:
    published = timm.create_model("resnet18")
    published.load_state_dict(safetensors.torch.load_file(rgb_weights))
    published.reset_classifier(0)
    ours = TimmBackbone("resnet18", (3, 32, 32), str(rgb_weights), frozen=True)
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(image), published.eval()(image))


def test_a_network_of_one_size_gets_its_images_resized() -> None:
    tower = TimmConfig(name="test_vit", target_px=2).build(TILE, dim=8)
    embedding = tower(torch.randint(0, 256, (2, *TILE.shape), dtype=torch.uint8))
    embedding.sum().backward()
    assert embedding.shape == (2, 8)
    assert all(p.grad is not None for p in tower.parameters())


def test_a_trained_network_follows_train_and_eval() -> None:
    backbone = TimmBackbone("resnet18", (3, 32, 32), None, frozen=False)
    assert backbone.model.training
    assert not backbone.eval().model.training


@pytest.mark.parametrize("name", ["resnet18x", "hf-hub:timm/resnet18.a1_in1k"])
def test_unknown_and_remote_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"nearest: resnet18|plain architecture as `name`"):
        TimmConfig(name=name).build(TILE, dim=8)


def test_weights_of_another_network_name_the_first_difference(rgb_weights: Path) -> None:
    with pytest.raises(WeightsError, match=r"resnet34.*no tensor layer1\.2\.conv1\.weight \[64, "):
        TimmConfig(name="resnet34", weights=str(rgb_weights)).build(TILE, dim=8)
