"""`python -m raytrain.export`: what it writes, and what it says of bad input."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import onnxruntime
import pytest
import torch

import raytrain
from raytrain.encoders.pretrained import load_tower
from raytrain.export import main
from raytrain.training import checkpoint


@pytest.fixture
def run(tiny_world: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of two modalities with one checkpoint, in the folder that holds it."""
    cards = ",".join(tiny_world.card(name) for name in ("tiles", "words"))
    job = tiny_world.job("mine", f"data.modalities={cards}")
    model = job.build_model()
    optimizer = torch.optim.SGD(model.parameters())
    snapshot = checkpoint.snapshot(model, optimizer, 3, {})
    checkpoint.save(job.run_url, snapshot, job.resolved)
    monkeypatch.chdir(tiny_world.folder)
    return Path(job.run_url)


def said(capsys: pytest.CaptureFixture[str], status: int, *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == status
    (line,) = capsys.readouterr().out.splitlines()
    return line


@pytest.mark.slow
def test_a_run_in_every_format(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = raytrain.load(run).encode([8.5, 180], [47.4, -90])
    for form, name in (("safetensors", "mine.safetensors"), ("hf-folder", "mine")):
        line = said(capsys, 0, run, "--format", form)
        assert line.startswith(f"exports/{name}   ")
        assert "largest difference from the encoder " in line
        assert np.array_equal(
            raytrain.load(f"exports/{name}").encode([8.5, 180], [47.4, -90]), expected
        )
    said(capsys, 0, run, "--format", "onnx", "--output", "elsewhere/a.onnx")
    session = onnxruntime.InferenceSession("elsewhere/a.onnx")
    (embedding,) = session.run(None, {"lonlat_deg": np.array([[8.5, 47.4], [180, -90]])})
    np.testing.assert_allclose(embedding, expected, atol=1e-5)
    said(capsys, 0, "exports/mine", "--format", "torch-export", "--output", "memory://a.pt2")

    line = said(capsys, 0, run, "--format", "safetensors", "--tower", "tiles")
    assert line.startswith("exports/mine-tiles.safetensors   ")
    assert line.endswith("at 64 observations")
    assert load_tower("exports/mine-tiles.safetensors")[1].shape == (3, 8, 8)


def test_the_card_of_a_run_holds_its_probes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = {
        "scores": {"trained encoder": {"300 labels": {"mean": {"mean": 0.5, "std": 0.25}}}},
        "leaks": {},
        "settings": {"split": "blocks", "probe": "ridge", "tasks": {}},
    }
    (run / "probes.json").write_text(json.dumps(scores))
    said(capsys, 0, run, "--format", "hf-folder", "--output", "card")
    card = huggingface_hub.ModelCard.load("card/README.md")
    assert card.data.library_name == "raytrain"
    assert card.data.license == "unknown"
    assert "| **trained encoder** | 0.500 ± 0.250 |" in card.text
    scores = {"rows": [], "tables": [{**scores, "scores": {"others": {}}}]}
    Path("scores.json").write_text(json.dumps(scores))
    line = said(capsys, 2, run, "--format", "hf-folder", "--scores", "scores.json")
    assert line.startswith("error: the scores have no row of mine; they have: others.")
    assert not Path("exports").exists()


def test_bad_input_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["nowhere", "--format", "onnx"], "nowhere holds neither a checkpoint_…"),
        ([run, "--format", "onnx", "--scores", "a.json"], "--scores goes into the model card"),
        ([run, "--format", "hf-folder", "--scores", "a.json"], "there is no a.json"),
        ([run, "--format", "hf-folder", "--tower", "tiles"], "an hf-folder holds a location enc"),
        ([run, "--format", "onnx", "--tower", "cats"], f"{run} has no tower `cats`; it was"),
        (["geoclip", "--format", "onnx", "--tower", "tiles"], "geoclip has no towers; give the"),
    ):
        assert said(capsys, 2, *words).startswith(f"error: {message}")
    assert not Path("exports").exists()
