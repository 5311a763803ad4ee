"""A Gaussian kernel between what is expected at places."""

import numpy as np
import pytest
import torch
from torch import nn

from raytrain.encoders.kernel import KernelConfig
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.errors import UserError
from raytrain.geo import random_on_sphere
from raytrain.pretrain import read_config
from raytrain.settings import build


def test_products_of_the_columns_are_a_gaussian_of_what_the_heads_predict() -> None:
    torch.manual_seed(0)
    x, heads = torch.randn(40, 8), [nn.Linear(8, 5), nn.Linear(8, 30)]
    kernel = KernelConfig(columns=40_000, scale=1.5).build(8)
    kernel.expect(heads)
    columns = kernel(x)
    seen = torch.cat([head(x) for head in heads], dim=1).detach()
    squares = torch.cdist(seen, seen).square() / 35  # a mean over the targets
    wanted = (-(1.5**2) * squares / 2).exp()
    np.testing.assert_allclose(columns @ columns.T / 40_000, wanted, atol=0.02)


def test_it_is_the_same_for_every_seed() -> None:
    x = torch.ones(2, 8)
    torch.manual_seed(1)
    one = KernelConfig().build(8)(x)
    torch.manual_seed(2)
    assert torch.equal(KernelConfig().build(8)(x), one)


def test_its_columns_follow_what_is_learned_and_leave_the_others_as_they_are() -> None:
    places = torch.from_numpy(random_on_sphere(5, np.random.default_rng(0)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = LocationEncoderConfig(dim=8).build()
        torch.manual_seed(0)
        both = LocationEncoderConfig(dim=8, kernel=KernelConfig(columns=3)).build()
    assert (both.dim, both.learned_dim) == (8 + 3 + 400, 8)
    columns = both(places)
    assert torch.equal(columns[:, [*range(8), *range(11, 411)]], plain(places))
    assert both.kernel is not None
    assert torch.equal(columns[:, 8:11], both.kernel(both.learned(places)))


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"scale": 0}])
def test_what_is_no_kernel_is_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(UserError, match=name):
        build(LocationEncoderConfig, {"kernel": wrong}, "location")


def test_without_heads_there_is_nothing_to_expect() -> None:
    with pytest.raises(UserError, match=r"location\.kernel.*objective\.kind=both"):
        read_config(None, ["location.kernel={}", "objective.kind=contrast"])
