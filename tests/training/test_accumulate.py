"""Ranks, or parts of a batch, give the loss and gradients of one rank with the whole batch."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raytrain.batch import Batch, Pairs
from raytrain.encoders.kernel import KernelConfig
from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.modality import CNNConfig, FieldSpec, MLPTowerConfig
from raytrain.encoders.networks import SirenConfig
from raytrain.encoders.positional import SphericalHarmonicsConfig
from raytrain.objective import collectives
from raytrain.objective.losses import Direction, Negatives
from raytrain.objective.model import LogitScaleConfig, Model, ObjectiveConfig, mean_over_ranks
from raytrain.objective.near import NearConfig
from raytrain.training.accumulate import backward

Result = tuple[float, dict[str, torch.Tensor]]

NEGATIVES: tuple[Negatives, ...] = ("asymmetric", "batch", "modality")
DIRECTIONS: tuple[Direction, ...] = ("both", "observation_to_location", "location_to_observation")
PLAIN, MASK = NearConfig(), NearConfig(kind="mask", km=1500.0)
SOFT = NearConfig(kind="soft", km=1500.0)
COMBINATIONS: list[tuple[Negatives, Direction, NearConfig]] = [
    *product(NEGATIVES, DIRECTIONS, [PLAIN]),
    ("asymmetric", "both", MASK),
    ("batch", "both", SOFT),
    ("modality", "both", SOFT),
]
NAMES = [f"{negatives}/{direction}/{near.kind}" for negatives, direction, near in COMBINATIONS]
each_combination = pytest.mark.parametrize(
    ("negatives", "direction", "near"), COMBINATIONS, ids=NAMES
)


def a_model(
    negatives: Negatives,
    direction: Direction,
    near: NearConfig = PLAIN,
    dropout: float = 0.0,
    kernel: KernelConfig | None = None,
) -> Model:
    """With a temperature a modality where distances matter."""
    torch.manual_seed(0)
    location = LocationEncoderConfig(
        positional=SphericalHarmonicsConfig(degrees=4),
        network=SirenConfig(width=16, dropout=dropout),
        dim=8,
        kernel=kernel,
    ).build()
    towers = {
        "image": CNNConfig(width=4, stages=2, target_px=2).build(FieldSpec(shape=(2, 8, 8)), 8),
        "vector": MLPTowerConfig(width=8).build(FieldSpec(shape=(3,)), 8),
    }
    init_of = {"image": 3.0} if near.by_distance else {}
    scale = LogitScaleConfig(init=5.0, learned=True, per_modality=near.by_distance, init_of=init_of)
    objective = ObjectiveConfig(
        negatives=negatives,
        direction=direction,
        near=near,
        logit_scale=scale,
        weights={"vector": 2.0},
    )
    return Model(location, towers, objective)


def a_batch(rank: int = 0, ranks: int = 1, device: str = "cpu") -> Batch:
    """The rows of a rank, of 12 images and 8 vectors in all."""
    generator = torch.Generator().manual_seed(1)

    def pairs(n: int, *shape: int) -> Pairs:
        lonlat_deg = torch.rand(n, 2, generator=generator, dtype=torch.float64) * 80
        rows = slice(rank * n // ranks, (rank + 1) * n // ranks)
        observation = torch.randn(n, *shape, generator=generator)
        return Pairs(lonlat_deg[rows].to(device), observation[rows].to(device))

    return {"image": pairs(12, 2, 8, 8), "vector": pairs(8, 3)}


def step(model: Model, batch: Batch, parts: int, parallel: torch.nn.Module | None = None) -> Result:
    loss, _ = backward(parallel or model, batch, parts, torch.float32, seed=7)
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return mean_over_ranks({"loss": loss.total.detach()})["loss"], gradients


def assert_same(found: Result, expected: Result, within: float = 1e-6) -> None:
    assert found[0] == pytest.approx(expected[0], abs=within)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        error = (found[1][name] - gradient).norm()
        assert error < within * (1 + gradient.norm()), f"{name}: {error}"


def one_rank(rank: int, ranks: int, meeting: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    results = {}
    for name, combination in zip(NAMES, COMBINATIONS, strict=True):
        for parts in (1, 3):
            model = a_model(*combination)
            parallel = DistributedDataParallel(model, broadcast_buffers=False)
            results[f"{name}/{parts}"] = step(model, a_batch(rank, ranks), parts, parallel)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Result]]:
    """What each of two ranks found, for every combination and number of parts."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(one_rank, (2, f"{folder}/meeting", str(folder)), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 3])
@each_combination
def test_two_ranks_equal_one(
    two_ranks: list[dict[str, Result]],
    negatives: Negatives,
    direction: Direction,
    near: NearConfig,
    parts: int,
) -> None:
    expected = step(a_model(negatives, direction, near), a_batch(), 1)
    for found in two_ranks:
        assert_same(found[f"{negatives}/{direction}/{near.kind}/{parts}"], expected)


@each_combination
@pytest.mark.parametrize("parts", [2, 5, 100])
def test_parts_equal_the_whole(
    negatives: Negatives, direction: Direction, near: NearConfig, parts: int
) -> None:
    expected = step(a_model(negatives, direction, near), a_batch(), 1)
    assert_same(step(a_model(negatives, direction, near), a_batch(), parts), expected)


def test_distances_matter_to_the_loss_of_a_model() -> None:
    losses = []
    for near in (PLAIN, MASK, SOFT):
        model = a_model("batch", "both", near)
        losses.append(model.loss(model(a_batch())).parts["contrast/vector"].item())
    plain, mask, soft = losses
    assert mask < plain - 0.1  # fewer negatives
    assert abs(soft - plain) > 0.01


def test_each_modality_learns_its_own_temperature_up_to_the_largest() -> None:
    model = a_model("batch", "both", SOFT)
    scales = model(a_batch()).logit_scale
    assert scales.tolist() == pytest.approx([3.0, 5.0])
    _, gradients = step(model, a_batch(), 1)
    learned = {name for name in gradients if "logit_scale" in name}
    assert learned == {"log_logit_scale.image", "log_logit_scale.vector"}
    model.zero_grad()
    _, gradients = step(model, {"vector": a_batch()["vector"]}, 1)
    assert "log_logit_scale.image" not in gradients
    with torch.no_grad():
        model.log_logit_scale["image"].fill_(9.0)
    model.settle()
    assert model(a_batch()).logit_scale.tolist() == pytest.approx([100.0, 5.0])


def test_the_kernel_is_of_what_the_heads_predict_after_each_step() -> None:
    model = a_model("batch", "both", kernel=KernelConfig(columns=5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    places, kernel = a_batch()["image"].lonlat_deg, model.location.kernel
    assert kernel is not None
    for _ in range(2):  # before the first step, and after it
        heads = [head for head in model.heads.values() if isinstance(head, nn.Linear)]
        assert [head.out_features for head in heads] == [8, 3]
        fresh = KernelConfig(columns=5).build(8)
        fresh.expect(heads)
        learned = model.location.learned(places)
        assert torch.equal(model.location(places)[:, 8:13], fresh(learned))
        step(model, a_batch(), 1)
        optimizer.step()
        model.settle()


def test_both_passes_over_a_part_draw_the_same_dropout() -> None:
    """Were they different, no small step against the gradient would lower the same draw's loss."""
    model = a_model("asymmetric", "both", dropout=0.5)
    before, gradients = step(model, a_batch(), 3)
    squared = sum(float((g**2).sum()) for g in gradients.values())
    small = 1e-2 / squared
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in gradients:
                parameter -= small * gradients[name]
    model.zero_grad()
    after, _ = step(model, a_batch(), 3)
    assert before - after == pytest.approx(1e-2, rel=0.1)


def test_an_inactive_tower_gets_no_gradient() -> None:
    model = a_model("asymmetric", "both")
    batch = a_batch()
    step(model, {"vector": batch["vector"]}, 1)
    assert all(p.grad is None for p in model.towers["image"].parameters())
    assert all(p.grad is None for p in model.heads["image"].parameters())
    assert all(p.grad is not None for p in model.towers["vector"].parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("parts", [1, 2, 5])
@each_combination
def test_parts_on_a_gpu_equal_the_whole_on_a_cpu(
    negatives: Negatives, direction: Direction, near: NearConfig, parts: int
) -> None:
    expected = step(a_model(negatives, direction, near), a_batch(), 1)
    assert_same(on_a_gpu(negatives, direction, near, parts), expected, 2e-5)


@pytest.fixture
def nccl(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone, on its GPU."""
    meeting = f"file://{tmp_path}/meeting"
    dist.init_process_group("nccl", init_method=meeting, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.gpu
@pytest.mark.parametrize("parts", [1, 3])
def test_a_rank_of_nccl_equals_none(nccl: None, parts: int) -> None:
    expected = step(a_model("asymmetric", "both"), a_batch(), 1)
    assert_same(on_a_gpu("asymmetric", "both", PLAIN, parts, ddp=True), expected, 2e-5)


@pytest.mark.gpu
def test_rows_and_their_gradients_pass_through_nccl(nccl: None) -> None:
    rows = torch.randn(6, 3, device="cuda", requires_grad=True)
    gathered = collectives._GatherRows.apply(rows)
    assert torch.equal(gathered, rows)
    weights = torch.randn(6, 3, device="cuda")
    (gathered * weights).sum().backward()
    assert torch.equal(rows.grad, weights)


def on_a_gpu(
    negatives: Negatives, direction: Direction, near: NearConfig, parts: int, ddp: bool = False
) -> Result:
    """The step in plain float32: cuDNN's convolutions would take TF32, of 10 bits."""
    model, parallel = a_model(negatives, direction, near).cuda(), None
    if ddp:
        device = torch.device("cuda", 0)
        parallel = DistributedDataParallel(model, device_ids=[device], broadcast_buffers=False)
    with torch.backends.cudnn.flags(allow_tf32=False):
        found = step(model, a_batch(device="cuda"), parts, parallel)
    return found[0], {name: gradient.cpu() for name, gradient in found[1].items()}
