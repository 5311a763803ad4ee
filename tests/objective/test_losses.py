"""Losses against slow references and analytic values."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from raytrain.objective import losses
from raytrain.objective.losses import Embedded, contrast, info_nce, regression, weighted_mean

NEGATIVES = ("asymmetric", "batch", "modality")
DIRECTIONS = ("both", "observation_to_location", "location_to_observation")


def some_pairs(sizes: dict[str, int], dim: int = 8) -> dict[str, Embedded]:
    generator = torch.Generator().manual_seed(0)

    def rows(n: int, d: int) -> torch.Tensor:
        return torch.randn(n, d, generator=generator, dtype=torch.float64)

    return {
        name: Embedded(
            F.normalize(rows(n, dim), dim=1),
            F.normalize(rows(n, dim), dim=1),
            rows(n, 3),
            rows(n, 3),
        )
        for name, n in sizes.items()
    }


def slow_cross_entropy(anchor: torch.Tensor, candidates: torch.Tensor, positive: int) -> float:
    similar = [math.exp(5.0 * float(anchor @ candidate)) for candidate in candidates]
    return -math.log(similar[positive] / sum(similar))


@pytest.mark.parametrize("tile", [1, 23, 60, 10**6])
def test_tiles_give_the_whole_loss_and_its_gradients(
    tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [
        F.normalize(torch.randn(n, 4, generator=generator, dtype=torch.float64), dim=1)
        for n in (7, 20)
    ]
    tensors.append(torch.tensor(5.0, dtype=torch.float64))
    for tensor in tensors:
        tensor.requires_grad_()
    anchor, candidates, scale = tensors
    expected = F.cross_entropy(scale * anchor @ candidates.T, torch.arange(3, 10))
    monkeypatch.setattr(losses, "TILE", tile)
    found = info_nce(anchor, candidates, 3, scale)
    torch.testing.assert_close(found, expected)
    for own, whole in zip(
        torch.autograd.grad(found, tensors), torch.autograd.grad(expected, tensors), strict=True
    ):
        torch.testing.assert_close(own, whole)


@pytest.mark.parametrize(("negatives", "direction"), [*product(NEGATIVES, DIRECTIONS)])
def test_contrast_equals_a_loop_over_pairs(negatives: str, direction: str) -> None:
    pairs = some_pairs({"a": 3, "b": 5})
    expected = {}
    places = [(n, row) for n, p in pairs.items() for row in p.location]
    seen = [(n, row) for n, p in pairs.items() for row in p.observation]
    for name in pairs:
        terms = []
        for anchors, candidates, wide, way in (
            (seen, places, negatives != "modality", "observation_to_location"),
            (places, seen, negatives == "batch", "location_to_observation"),
        ):
            if direction not in ("both", way):
                continue
            told_from = [i for i, (n, _) in enumerate(candidates) if wide or n == name]
            rows = torch.stack([candidates[i][1] for i in told_from])
            losses = [
                slow_cross_entropy(row, rows, told_from.index(i))
                for i, (n, row) in enumerate(anchors)
                if n == name
            ]
            terms.append(sum(losses) / len(losses))
        expected[name] = sum(terms) / len(terms)
    found = contrast(pairs, torch.tensor(5.0, dtype=torch.float64), negatives, direction)
    assert {n: float(v) for n, v in found.items()} == pytest.approx(expected)


def test_info_nce_of_equal_rows_is_the_logarithm_of_their_number() -> None:
    rows = F.normalize(torch.ones(7, 4), dim=1)
    assert float(info_nce(rows, rows, 0, torch.tensor(50.0))) == pytest.approx(
        math.log(7), abs=1e-5
    )


def test_info_nce_of_orthogonal_pairs_is_nearly_nothing() -> None:
    rows = torch.eye(6)
    expected = math.log(1 + 5 * math.exp(-20.0))
    assert float(info_nce(rows, rows, 0, torch.tensor(20.0))) == pytest.approx(expected, abs=1e-6)


def test_negatives_of_one_modality_are_the_same_however_they_are_chosen() -> None:
    pairs = some_pairs({"only": 6})
    scale = torch.tensor(3.0, dtype=torch.float64)
    values = {float(contrast(pairs, scale, n, "both")["only"]) for n in NEGATIVES}
    assert max(values) == pytest.approx(min(values), abs=1e-12)


def test_regression_is_the_mean_squared_error() -> None:
    pairs = some_pairs({"a": 4})
    error = ((pairs["a"].prediction - pairs["a"].target) ** 2).mean()
    assert float(regression(pairs)["a"]) == pytest.approx(float(error))


def test_modalities_are_weighted() -> None:
    losses = {"a": torch.tensor(1.0), "b": torch.tensor(4.0)}
    assert float(weighted_mean(losses, {})) == pytest.approx(2.5)
    assert float(weighted_mean(losses, {"b": 3.0})) == pytest.approx((1 + 12) / 4)
