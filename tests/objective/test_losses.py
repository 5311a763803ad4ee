"""Losses against slow references and analytic values."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from raytrain import geo
from raytrain.objective import losses
from raytrain.objective.losses import (
    Embedded,
    Places,
    contrast,
    info_nce,
    regression,
    weighted_mean,
)
from raytrain.objective.near import NearConfig

NEGATIVES = ("asymmetric", "batch", "modality")
DIRECTIONS = ("both", "observation_to_location", "location_to_observation")
NEAR = (NearConfig(), NearConfig(kind="mask", km=900.0), NearConfig(kind="soft", km=700.0))


def some_places() -> dict[str, np.ndarray]:
    """Nine of each, around (180, 0): near one another, some twice, also of different modalities."""
    rng = np.random.default_rng(0)
    made = {name: rng.uniform(-8, 8, (9, 2)) for name in ("a", "b", "only")}
    for lonlat_deg in made.values():
        lonlat_deg[:, 0] = geo.wrap_lon(lonlat_deg[:, 0] + 180)
        lonlat_deg[2] = lonlat_deg[1]
    made["b"][0] = made["a"][0]
    return made


PLACES = some_places()


def some_pairs(sizes: dict[str, int], dim: int = 8) -> dict[str, Embedded]:
    generator = torch.Generator().manual_seed(0)

    def rows(n: int, d: int) -> torch.Tensor:
        return torch.randn(n, d, generator=generator, dtype=torch.float64)

    return {
        name: Embedded(
            torch.from_numpy(geo.unit_xyz(PLACES[name][:n])),
            F.normalize(rows(n, dim), dim=1),
            F.normalize(rows(n, dim), dim=1),
            rows(n, 3),
            rows(n, 3),
        )
        for name, n in sizes.items()
    }


def slow_cross_entropy(
    scale: float,
    anchor: torch.Tensor,
    candidates: torch.Tensor,
    positive: int,
    near: NearConfig,
    km: list[float],
) -> float:
    """Of one anchor; `km` is how far each candidate is from it."""
    similar = [math.exp(scale * float(anchor @ candidate)) for candidate in candidates]
    if near.kind == "mask":
        far = [i == positive or d >= near.km for i, d in enumerate(km)]
        return -math.log(similar[positive] / sum(s for s, f in zip(similar, far, strict=True) if f))
    share = [float(i == positive) for i in range(len(km))]
    if near.kind == "soft":
        through = [2 * 6371.0088 * math.sin(d / 6371.0088 / 2) for d in km]
        share = [math.exp(-(d**2) / (2 * near.km**2)) for d in through]
    return -sum(
        t / sum(share) * math.log(s / sum(similar)) for s, t in zip(similar, share, strict=True)
    )


@pytest.mark.parametrize("near", NEAR, ids=lambda near: near.kind)
@pytest.mark.parametrize("tile", [1, 23, 60, 10**6])
def test_tiles_give_the_whole_loss_and_its_gradients(
    tile: int, near: NearConfig, monkeypatch: pytest.MonkeyPatch
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
    lonlat_deg = np.random.default_rng(0).uniform(-9, 9, (20, 2))
    xyz = torch.from_numpy(geo.unit_xyz(lonlat_deg))
    places = Places(near, xyz[3:10], xyz) if near.by_distance else None
    expected = torch.tensor(0.0, dtype=torch.float64)
    for i in range(7):
        logits = scale * anchor[i] @ candidates.T
        km = torch.from_numpy(geo.great_circle_km(lonlat_deg[i + 3 : i + 4], lonlat_deg))
        target = F.one_hot(torch.tensor(i + 3), 20).double()
        if near.kind == "mask":
            logits = logits[(km >= near.km) | (target > 0)]
            target = target[(km >= near.km) | (target > 0)]
            assert 1 < len(logits) < 20
        elif near.kind == "soft":
            chord_km = 2 * geo.EARTH_RADIUS_KM * torch.sin(km / geo.EARTH_RADIUS_KM / 2)
            target = torch.exp(-(chord_km**2) / (2 * near.km**2))
        expected = expected - (target / target.sum() * logits.log_softmax(0)).sum() / 7
    monkeypatch.setattr(losses, "TILE", tile)
    found = info_nce(anchor, candidates, 3, scale, places)
    torch.testing.assert_close(found, expected)
    for own, whole in zip(
        torch.autograd.grad(found, tensors), torch.autograd.grad(expected, tensors), strict=True
    ):
        torch.testing.assert_close(own, whole)


@pytest.mark.parametrize(("negatives", "direction"), [*product(NEGATIVES, DIRECTIONS)])
@pytest.mark.parametrize("near", NEAR, ids=lambda near: near.kind)
def test_contrast_equals_a_loop_over_pairs(
    negatives: str, direction: str, near: NearConfig
) -> None:
    pairs = some_pairs({"a": 5, "b": 7})
    scales, expected = {"a": 5.0, "b": 3.0}, {}
    places = [(n, row) for n, p in pairs.items() for row in p.location]
    seen = [(n, row) for n, p in pairs.items() for row in p.observation]
    lonlat_deg = np.concatenate([PLACES[n][: len(p.xyz)] for n, p in pairs.items()])
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
            losses = []
            for i, (n, row) in enumerate(anchors):
                if n != name:
                    continue
                km = geo.great_circle_km(lonlat_deg[i : i + 1], lonlat_deg[told_from]).tolist()
                own = told_from.index(i)
                losses.append(slow_cross_entropy(scales[name], row, rows, own, near, km))
            terms.append(sum(losses) / len(losses))
        expected[name] = sum(terms) / len(terms)
    scale = torch.tensor([*scales.values()], dtype=torch.float64)
    found = contrast(pairs, scale, negatives, direction, near)
    assert {n: float(v) for n, v in found.items()} == pytest.approx(expected)


def test_a_gradient_of_soft_targets_and_masks_is_that_of_small_steps() -> None:
    pairs, scale = some_pairs({"a": 3}, dim=3), torch.tensor([2.0], dtype=torch.float64)

    def loss(location: torch.Tensor, observation: torch.Tensor, near: NearConfig) -> torch.Tensor:
        moved = replace(pairs["a"], location=location, observation=observation)
        return contrast({"a": moved}, scale, "batch", "both", near)["a"]

    for near in NEAR:
        rows = [pairs["a"].location, pairs["a"].observation]
        torch.autograd.gradcheck(loss, (*(r.clone().requires_grad_() for r in rows), near))


@pytest.mark.parametrize("km", [0.05, 2.0])
def test_near_is_told_to_metres_in_float32(km: float) -> None:
    """A place half as far is masked, one twice as far is not: products of matrices round by km."""
    lat_deg = np.degrees(km / geo.EARTH_RADIUS_KM) * np.array([0.0, 0.5, 2.0, 0.0])
    lonlat_deg = np.stack([np.full(4, 13.4), 52.5 + lat_deg], axis=1)
    xyz = torch.from_numpy(geo.unit_xyz(lonlat_deg)).float()
    near = NearConfig(kind="mask", km=km)
    logits = torch.zeros(1, 4)
    loss = near.cross_entropy(logits, torch.tensor([0]), xyz[:1], xyz)
    assert float(loss) == pytest.approx(math.log(2))  # its own and the third


def test_where_all_others_are_near_a_mask_leaves_nothing_to_tell_apart() -> None:
    pairs = some_pairs({"a": 5, "b": 7})
    everywhere = NearConfig(kind="mask", km=20_000.0)
    scale = torch.full((2,), 5.0, dtype=torch.float64)
    found = contrast(pairs, scale, "batch", "both", everywhere)
    assert [float(v) for v in found.values()] == [0.0, 0.0]


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
    scale = torch.tensor([3.0], dtype=torch.float64)
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
