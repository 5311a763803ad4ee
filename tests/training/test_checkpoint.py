import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import raytrain
from raytrain.encoders.weights import WeightsError
from raytrain.settings import Tree
from raytrain.training import checkpoint
from raytrain.training.checkpoint import Checkpoint, CheckpointError
from raytrain.training.job import Job
from raytrain.training.optim import build_optimizer


def saved(job: Job, step: int = 3, resolved: Tree | None = None) -> Checkpoint:
    """A checkpoint of the job's untrained model, after one step of its optimizer."""
    model = job.build_model()
    optimizer = build_optimizer(model, job.config.optim)
    sum(p.sum() for p in model.parameters() if p.requires_grad).backward()
    optimizer.step()
    positions = {"weather": ((1, 96),), "words": ((2, 32), (1, 32))}
    snapshot = checkpoint.snapshot(model, optimizer, step, positions)
    return checkpoint.save(job.run_url, snapshot, resolved or job.resolved)


def test_what_is_saved_is_restored(tiny_world) -> None:
    job = tiny_world.job("a")
    assert checkpoint.resume_point(job.run_url, job.resolved, overwrite=False) is None
    state = saved(job)
    assert checkpoint.latest(job.run_url) == state
    assert checkpoint.resume_point(job.run_url, job.resolved, overwrite=False) == state
    model = job.build_model()
    optimizer = build_optimizer(model, job.config.optim)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint.restore(state, model, optimizer)
    assert any((before[k] != v).any() for k, v in model.state_dict().items())
    assert len(optimizer.state_dict()["state"]) > 0


def test_what_a_gpu_saved_is_restored_where_there_is_none(
    tiny_world, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tiny_world.job("a")
    with monkeypatch.context() as patch:  # tensors are saved with the name of their device
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        state = saved(job)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = job.build_model()
    optimizer = build_optimizer(model, job.config.optim)
    checkpoint.restore(state, model, optimizer)
    assert len(optimizer.state_dict()["state"]) > 0


def test_old_checkpoints_go(tiny_world) -> None:
    job = tiny_world.job("a")
    for step in (1, 2, 3):
        saved(job, step)
        checkpoint.prune(job.run_url, keep=2)
    kept = sorted(path.name for path in Path(job.run_url).glob("checkpoint_*"))
    assert kept == ["checkpoint_000002", "checkpoint_000003"]


def test_a_run_with_other_settings_is_not_continued(tiny_world) -> None:
    saved(tiny_world.job("a"))
    other = tiny_world.job("a", "optim.lr=1e-2", "seed=3")
    with pytest.raises(CheckpointError) as error:
        checkpoint.resume_point(other.run_url, other.resolved, overwrite=False)
    assert str(error.value) == (
        f"{other.run_url}/checkpoint_000003 belongs to a run with other settings (optim.lr: 0.0005"
        " -> 0.01; seed: 0 -> 3). Take them back to go on with it, choose another name=…, or "
        "start it anew with overwrite=true"
    )


def test_a_run_of_before_a_setting_came_goes_on_with_its_default(tiny_world) -> None:
    job = tiny_world.job("a")
    old = copy.deepcopy(job.resolved)
    del old["data"]["balance"], old["data"]["balance_of"], old["objective"]["near"]
    del old["objective"]["logit_scale"]["per_modality"], old["objective"]["logit_scale"]["init_of"]
    state = saved(job, resolved=old)
    found = checkpoint.resume_point(job.run_url, job.resolved, overwrite=False)
    assert found == state
    checkpoint.restore(state, job.build_model(), None)
    other = tiny_world.job("a", "objective.near.kind=mask")
    with pytest.raises(CheckpointError, match=r"\(objective\.near\.kind: none -> mask\)"):
        checkpoint.resume_point(other.run_url, other.resolved, overwrite=False)


def test_a_temperature_a_modality_is_saved_and_no_run_changes_to_it(tiny_world) -> None:
    own = "objective.logit_scale.per_modality=true"
    job = tiny_world.job("a", own, "objective.logit_scale.init_of.words=2.0")
    state, model = saved(job), job.build_model()
    with torch.no_grad():
        model.log_logit_scale["words"].zero_()
    checkpoint.restore(state, model, None)
    assert model.log_logit_scale["words"].exp().item() == pytest.approx(2.0)
    assert raytrain.load(state.url).encode([13.4], [52.5]).shape[0] == 1
    shared = tiny_world.job("a")
    with pytest.raises(CheckpointError, match=r"per_modality: True -> False"):
        checkpoint.resume_point(shared.run_url, shared.resolved, overwrite=False)


def test_a_run_with_another_architecture_is_not_continued(tiny_world) -> None:
    saved(tiny_world.job("a"))
    other = tiny_world.job("a", "location.network.width=32")
    with pytest.raises(CheckpointError, match=r"other settings \(location\.network\.width: 16 -> "):
        checkpoint.resume_point(other.run_url, other.resolved, overwrite=False)


def test_weights_of_another_architecture_are_named(tiny_world) -> None:
    state = saved(tiny_world.job("a"))
    other = tiny_world.job("b", "location.network.width=32").build_model()
    with pytest.raises(WeightsError, match=r"checkpoint_000003: tensor location\.\S+ is \[16, \d+"):
        checkpoint.restore(state, other, None)


def test_another_card_is_another_run(tiny_world) -> None:
    saved(tiny_world.job("a"))
    Path(tiny_world.card("words")).write_text("tower: {kind: mlp, width: 8}\n")
    other = tiny_world.job("a")
    with pytest.raises(CheckpointError, match=r"cards\.words\.tower\.kind: projection -> mlp"):
        checkpoint.resume_point(other.run_url, other.resolved, overwrite=False)


def test_what_does_not_change_a_run_may_change(tiny_world) -> None:
    state = saved(tiny_world.job("a"))
    longer = tiny_world.job("a", "training.steps=9", "training.log_every=2", "tracking.uri=null")
    assert checkpoint.resume_point(longer.run_url, longer.resolved, overwrite=False) == state


def test_overwrite_starts_anew(tiny_world) -> None:
    saved(tiny_world.job("a"))
    other = tiny_world.job("a", "optim.lr=1e-2")
    assert checkpoint.resume_point(other.run_url, other.resolved, overwrite=True) is None
    assert not [*Path(other.run_url).glob("checkpoint_*")]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


FILES = ("location_encoder.safetensors", "config.json", "model.safetensors", "optimizer.pt")


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_passed_over(
    name: str, damage: Callable[[Path], None], tiny_world
) -> None:
    job, said = tiny_world.job("a"), list[str]()
    good, bad = saved(job, 3), saved(job, 6)
    damage(Path(bad.url) / name)
    assert checkpoint.resume_point(job.run_url, job.resolved, False, said.append) == good
    assert len(said) == 1
    assert said[0].startswith(f"{bad.url} ")
    assert name in said[0]
    assert said[0].endswith("; checkpoint_000003 is taken in its place")
    with pytest.warns(UserWarning, match="checkpoint_000003 is taken"):
        raytrain.load(job.run_url)
    damage(Path(good.url) / name)
    with pytest.raises(CheckpointError, match=r"checkpoint_000003 .*overwrite=true"):
        checkpoint.latest(job.run_url)


def test_a_seal_that_says_nothing(tiny_world) -> None:
    job, said = tiny_world.job("a"), list[str]()
    good, bad = saved(job, 3), saved(job, 6)
    for content in ("{", "[]", "{}", '{"files": 1}'):
        (Path(bad.url) / "state.json").write_text(content)
        assert checkpoint.latest(job.run_url, said.append) == good
        assert "has a damaged state.json" in said.pop()
    (Path(bad.url) / "state.json").unlink()
    assert checkpoint.latest(job.run_url, said.append) == good
    assert "was not written to its end (it has no state.json)" in said.pop()


def test_steps_beyond_the_leading_zeros(tiny_world) -> None:
    job = tiny_world.job("a")
    for step in (999_999, 1_000_000, 1_000_001):
        last = saved(job, step)
    assert checkpoint.latest(job.run_url) == last
    checkpoint.prune(job.run_url, keep=2)
    kept = {path.name for path in Path(job.run_url).glob("checkpoint_*")}
    assert kept == {"checkpoint_1000000", "checkpoint_1000001"}


def test_what_was_not_completed_goes_with_the_old(tiny_world) -> None:
    job = tiny_world.job("a")
    for step in (1, 2, 3, 4):
        state = saved(job, step)
        if step in (2, 4):
            (Path(state.url) / "state.json").unlink()
    checkpoint.prune(job.run_url, keep=2)
    kept = sorted(path.name for path in Path(job.run_url).glob("checkpoint_*"))
    assert kept == ["checkpoint_000001", "checkpoint_000003", "checkpoint_000004"]


def test_checkpoints_run_nothing(tiny_world) -> None:
    job = tiny_world.job("a")
    state = saved(job)
    torch.save(Path("anything but tensors"), f"{state.url}/optimizer.pt")  # and sealed anew, say
    model = job.build_model()
    with pytest.raises(CheckpointError, match=r"optimizer\.pt cannot be read"):
        checkpoint.restore(state, model, build_optimizer(model, job.config.optim))


def test_a_tower_is_what_the_model_has(tiny_world) -> None:
    job = tiny_world.job(
        "a", f"data.modalities={tiny_world.card('tiles')},{tiny_world.card('words')}"
    )
    state = saved(job)
    model = job.build_model().eval()
    checkpoint.restore(state, model, None)
    for url in (job.run_url, state.url):
        tower, settings = checkpoint.load_tower(url, "tiles")
        assert (settings.run, settings.modality) == ("a", "tiles")
        assert settings.shape == (3, 8, 8)
        tiles = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
        assert torch.equal(tower(tiles), model.towers["tiles"](tiles))


def test_towers_that_are_not_there_are_named(tiny_world) -> None:
    job = tiny_world.job("a", "objective.kind=regression")
    saved(job)
    with pytest.raises(
        CheckpointError, match="no tower `photos`; it was trained on: weather, word"
    ):
        checkpoint.load_tower(job.run_url, "photos")
    with pytest.raises(CheckpointError, match="by regression alone: its towers learned nothing"):
        checkpoint.load_tower(job.run_url, "words")
    with pytest.raises(CheckpointError, match="geoclip has no towers; give the folder of a run"):
        checkpoint.load_tower("geoclip", "words")
