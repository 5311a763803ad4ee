from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from raytrain.encoders.modality import (
    CNNConfig,
    FieldSpec,
    ImageTarget,
    MLPTowerConfig,
    ProjectionConfig,
    TimmConfig,
    TowerConfig,
)
from raytrain.errors import UserError
from raytrain.settings import SettingsError, build

VECTOR = FieldSpec(shape=(5,), mean=(0.0, 1.0, 2.0, 3.0, 4.0), std=(1.0, 2.0, 3.0, 4.0, 0.0))
TILE = FieldSpec(shape=(6, 16, 16), mean=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0), std=(10.0,) * 6)
BIG_TILE = FieldSpec(shape=(6, 32, 32), mean=(120.0,) * 6, std=(50.0,) * 6)
SENTENCE = FieldSpec(shape=(384,))

TOWERS: list[tuple[TowerConfig, FieldSpec]] = [
    (ProjectionConfig(), SENTENCE),
    (ProjectionConfig(), VECTOR),
    (MLPTowerConfig(width=16), VECTOR),
    (MLPTowerConfig(width=16, residual=True), TILE),
    (CNNConfig(), TILE),
    (CNNConfig(patch_px=2, width=8, stages=3), BIG_TILE),
    (TimmConfig(name="resnet18"), BIG_TILE),
]


def observations(field: FieldSpec, n: int = 4) -> Tensor:
    rng = np.random.default_rng(0)
    if field.is_image:
        return torch.from_numpy(rng.integers(0, 256, (n, *field.shape), dtype=np.uint8))
    return torch.from_numpy(rng.normal(size=(n, *field.shape)).astype(np.float16))


@pytest.mark.parametrize(("config", "field"), TOWERS, ids=str)
def test_every_kind_of_tower_embeds_and_learns(config: TowerConfig, field: FieldSpec) -> None:
    tower = config.build(field, dim=12)
    seen = observations(field)
    embedding = tower(seen)
    assert embedding.shape == (4, 12)
    assert embedding.dtype == torch.float32
    embedding.square().sum().backward()
    assert all(p.grad is not None for p in tower.parameters())
    for of_images in get_args(ImageTarget):
        target = tower.target(seen, of_images)
        assert target.shape == (4, tower.target_dim(of_images))
        assert not target.requires_grad


def test_observations_are_standardised_by_channel_and_constants_stay_zero() -> None:
    tower = ProjectionConfig().build(VECTOR, dim=2)
    seen = torch.tensor([[1.0, 3.0, 5.0, 7.0, 4.0]])
    assert tower.target(seen).tolist() == [[1.0, 1.0, 1.0, 1.0, 0.0]]
    image = CNNConfig(target_px=2).build(TILE, dim=2)
    bright = torch.arange(6.0).reshape(6, 1, 1).expand(1, 6, 16, 16) + 20
    torch.testing.assert_close(image.target(bright), torch.full((1, 24), 2.0))


def test_an_images_target_is_its_mean_over_a_small_grid() -> None:
    tower = CNNConfig(target_px=4).build(TILE, dim=2)
    seen = observations(TILE)
    values = (seen.numpy().astype(float) - np.arange(6).reshape(6, 1, 1)) / 10
    expected = values.reshape(4, 6, 4, 4, 4, 4).mean(axis=(3, 5)).reshape(4, 96)
    np.testing.assert_allclose(tower.target(seen), expected, atol=1e-5)


def test_or_statistics_of_it_and_of_its_middle() -> None:
    seen = observations(TILE)
    values = (seen.numpy().astype(float) - np.arange(6).reshape(6, 1, 1)) / 10
    middle, core = values[..., 5:11, 5:11], values[..., 7:9, 7:9]
    quantiles = np.quantile(values, [0.1, 0.9], axis=(2, 3))
    parts = [values.mean((2, 3)), values.std((2, 3)), *quantiles]
    parts += [middle.mean((2, 3)), middle.std((2, 3)), core.mean((2, 3))]
    target = CNNConfig().build(TILE, dim=2).target(seen, "statistics")
    np.testing.assert_allclose(target, np.concatenate(parts, axis=1), atol=1e-5)


def test_the_statistics_of_one_pixel_are_numbers() -> None:
    tower = CNNConfig(patch_px=1, stages=1).build(FieldSpec(shape=(1, 1, 1)), dim=2)
    target = tower.target(torch.full((1, 1, 1, 1), 3.0), "statistics")
    assert target.tolist() == [[3.0, 0.0, 3.0, 3.0, 3.0, 0.0, 3.0]]


def test_mean_and_deviation_are_saved_with_the_tower() -> None:
    saved = ProjectionConfig().build(VECTOR, dim=2).state_dict()
    other = ProjectionConfig().build(FieldSpec(shape=(5,), mean=(9.0,) * 5, std=(9.0,) * 5), dim=2)
    other.load_state_dict(saved)
    assert other.mean.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert other.std.tolist() == [1.0, 2.0, 3.0, 4.0, 1.0]


def test_no_row_of_a_cnn_depends_on_the_rest_of_the_batch() -> None:
    tower = CNNConfig().build(TILE, dim=12)
    seen = observations(TILE, n=6)
    torch.testing.assert_close(tower(seen)[2:3], tower(seen[2:3]), rtol=1e-4, atol=1e-5)


def test_a_tower_that_does_not_fit_its_field_says_which_does() -> None:
    with pytest.raises(UserError, match=r"cnn tower reads images .* shape \[5\]; use kind: mlp"):
        CNNConfig().build(VECTOR, dim=2)
    with pytest.raises(UserError, match="needs 5 means and deviations"):
        ProjectionConfig().build(FieldSpec(shape=(5,), mean=(0.0,), std=(1.0,)), dim=2)
    with pytest.raises(SettingsError, match="frozen without weights and would stay random"):
        build(TimmConfig, {"name": "resnet18", "frozen": True})
