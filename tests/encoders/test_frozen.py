"""Frozen encoders against the libraries that they come from, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from tiny_models import NAME, WORDS, save_bert, save_onnx, save_timm
from transformers import BertModel, PreTrainedTokenizerFast

from raytrain.encoders.frozen import AUTO, chosen
from raytrain.encoders.frozen.onnx_files import OnnxEncoder
from raytrain.encoders.frozen.sentences import MiniLM, SentenceEncoder
from raytrain.encoders.frozen.timm_images import EfficientNetLite0, TimmEncoder
from raytrain.encoders.modality import FieldSpec
from raytrain.encoders.weights import WeightsError
from raytrain.errors import UserError

TILES = FieldSpec(shape=(3, 40, 48), dtype="uint8")
TEXTS = FieldSpec(shape=(), dtype="str")
VECTORS = FieldSpec(shape=(5,))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_timm(tmp_path_factory.mktemp("weights") / f"{NAME}.safetensors")


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("model"))


def tiles(n: int, spec: FieldSpec = TILES) -> Any:
    return np.random.default_rng(0).integers(0, 256, (n, *spec.shape)).astype(spec.dtype)


def test_features_are_those_of_timm_with_its_own_preprocessing(weights: str) -> None:
    encoder = TimmEncoder(name=NAME, weights=weights, batch=4).build(TILES)
    model = timm.create_model(NAME)
    model.load_state_dict(safetensors.torch.load_file(weights))
    model.reset_classifier(0)
    data = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(data[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    images = tiles(7)
    resized = torch.nn.functional.interpolate(
        torch.tensor(images) / 255,
        data["input_size"][1:],
        mode=data["interpolation"],
        antialias=True,
    )
    with torch.no_grad():
        expected = model.eval()((resized - mean) / std).numpy()
    found = encoder.encode(images)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert encoder.about["size"] == [*data["input_size"][1:]]


def test_tensors_of_another_implementation_are_taken_in_their_order(
    weights: str, tmp_path: Path
) -> None:
    stored = safetensors.torch.load_file(weights)
    ordered = {
        f"layer.{n}": stored[name] for n, name in enumerate(timm.create_model(NAME).state_dict())
    }
    torch.save(ordered, tmp_path / "other.pth")
    config = TimmEncoder(name=NAME, weights=str(tmp_path / "other.pth"), in_order=True)
    same = TimmEncoder(name=NAME, weights=weights).build(TILES).encode(tiles(3))
    np.testing.assert_array_equal(config.build(TILES).encode(tiles(3)), same)
    ordered.pop("layer.0")
    torch.save(ordered, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=f"tensors in their order are not those of {NAME}"):
        config.build(TILES)


def test_channels_are_chosen_repeated_and_averaged(weights: str) -> None:
    six = FieldSpec(shape=(6, 40, 48), dtype="uint8")
    images = tiles(3, six)
    rgb = TimmEncoder(name=NAME, weights=weights).build(TILES)
    last = TimmEncoder(name=NAME, weights=weights, channels=(3, 4, 5)).build(six)
    np.testing.assert_array_equal(last.encode(images), rgb.encode(images[:, 3:]))
    both = TimmEncoder(name=NAME, weights=weights).build(six)
    np.testing.assert_allclose(
        both.encode(np.tile(images[:, :3], (1, 2, 1, 1))), rgb.encode(images[:, :3]), atol=0.01
    )
    grey = TimmEncoder(name=NAME, weights=weights).build(
        FieldSpec(shape=(1, 40, 48), dtype="uint8")
    )
    assert len(grey.about["mean"]) == 1
    assert grey.about["mean"][0] == pytest.approx(np.mean(rgb.about["mean"]), abs=1e-5)


def test_bands_of_other_units_are_standardised_by_the_shards(weights: str) -> None:
    mean, std = tuple(map(float, range(1000, 1013))), (0.0, *[500.0] * 12)
    bands = FieldSpec(shape=(13, 24, 24), dtype="uint16", mean=mean, std=std)
    encoder = TimmEncoder(name=NAME, weights=weights, image_px=32).build(bands)
    assert encoder.about["mean"] == [*mean]
    assert encoder.about["std"] == [1.0, *[500.0] * 12]
    assert encoder.about["size"] == [32, 32]
    assert encoder.encode(tiles(2, bands)).shape == (2, encoder.dim)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_texts_are_pooled_as_the_model_says(sentences: Path, pooling: str) -> None:
    names = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    modes = {f"pooling_mode_{name}": key == pooling for key, name in names.items()}
    (sentences / "1_Pooling").mkdir(exist_ok=True)
    (sentences / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    texts = [" ".join(WORDS[:n]) for n in (9, 1, 12, 4, 2, 11)]
    found = SentenceEncoder(model=str(sentences), batch=2, max_tokens=8).build(TEXTS).encode(texts)
    model = BertModel.from_pretrained(sentences).eval()
    vocabulary = PreTrainedTokenizerFast.from_pretrained(sentences)
    for row, text in zip(found, texts, strict=True):
        ids = vocabulary(text, truncation=True, max_length=8, return_tensors="pt")
        assert ids["input_ids"].shape[1] <= 8
        with torch.no_grad():
            hidden = model(**ids).last_hidden_state[0]
        pooled = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.amax(0)}[pooling]
        np.testing.assert_allclose(row, pooled / pooled.norm(), atol=1e-3)


def test_a_pooling_or_module_that_is_not_supported(sentences: Path) -> None:
    pooling, modules = sentences / "1_Pooling" / "config.json", sentences / "modules.json"
    pooling.parent.mkdir(exist_ok=True)
    pooling.write_text('{"pooling_mode_lasttoken": true}')
    with pytest.raises(UserError, match="pools by lasttoken; supported is one of cls_token, mean"):
        SentenceEncoder(model=str(sentences)).build(TEXTS)
    pooling.unlink()
    modules.write_text('[{"type": "sentence_transformers.models.Dense"}]')
    with pytest.raises(UserError, match="ends in a module Dense, which is not supported"):
        SentenceEncoder(model=str(sentences)).build(TEXTS)
    modules.unlink()


def test_onnx_reads_images_and_vectors(tmp_path: Path) -> None:
    pooled = save_onnx(tmp_path / "pool.onnx", ["n", 3, 20, 24])
    config = OnnxEncoder(file=pooled, output="flat", mean=(100.0,), std=(50.0,), batch=2)
    encoder = config.build(TILES)
    assert encoder.about["size"] == [20, 24]
    images = tiles(5)
    expected = (images.mean((2, 3)) - 100) / 50
    np.testing.assert_allclose(encoder.encode(images), expected, atol=0.02)
    fixed = save_onnx(tmp_path / "fixed.onnx", [4, 2])  # batches of four, and a rest of two
    vectors = np.arange(30, dtype=np.float32).reshape(6, 5)
    chosen_two = OnnxEncoder(file=fixed, channels=(4, 0)).build(VECTORS)
    np.testing.assert_array_equal(chosen_two.encode(vectors), vectors[:, [4, 0]])


def test_onnx_files_that_cannot_be_used(tmp_path: Path) -> None:
    pooled = save_onnx(tmp_path / "pool.onnx", ["n", 3, 20, 24])
    with pytest.raises(UserError, match="has 2 outputs; set `output` to one of: flat, pooled"):
        OnnxEncoder(file=pooled).build(TILES)
    with pytest.raises(UserError, match=r"output `pooled` is \[1, 3, 1, 1\], and not features"):
        OnnxEncoder(file=pooled, output="pooled").build(TILES)
    with pytest.raises(UserError, match=r"input `given` is .*observations are \[5\]; choose"):
        OnnxEncoder(file=pooled, output="flat").build(VECTORS)
    two = save_onnx(tmp_path / "two.onnx", ["n", 5], "mask")
    with pytest.raises(UserError, match="has an input `mask` beside `given`, which nothing"):
        OnnxEncoder(file=two, input="given").build(VECTORS)
    (tmp_path / "no.onnx").write_text("no model")
    with pytest.raises(WeightsError, match=r"no\.onnx is no model that onnxruntime runs"):
        OnnxEncoder(file=str(tmp_path / "no.onnx")).build(VECTORS)


def test_auto_goes_by_what_is_observed() -> None:
    assert chosen(AUTO, TILES) == EfficientNetLite0()
    assert chosen(AUTO, TEXTS) == MiniLM()
    with pytest.raises(UserError, match=r"vectors \[5\], which a tower reads as they are"):
        chosen(AUTO, VECTORS)


@pytest.mark.parametrize(
    ("config", "field", "message"),
    [
        (MiniLM(), TILES, "minilm reads texts, and these are images; try --encoder efficientnet"),
        (EfficientNetLite0(), TEXTS, "reads images, and these are texts; try --encoder minilm"),
        (EfficientNetLite0(), VECTORS, r"and these are vectors \[5\]: a tower reads them as they"),
        (EfficientNetLite0(channels=(0, 3)), TILES, "there is no channel 3, the observations have"),
        (EfficientNetLite0(mean=(1.0, 2.0), std=(1.0, 2.0)), TILES, "have 2 values for 3 channels"),
        (TimmEncoder(name=NAME, weights="no.pth"), TILES, "there is no no.pth"),
        (TimmEncoder(name="resnetx", weights="no.pth"), TILES, "timm has no network 'resnetx'"),
        (SentenceEncoder(model="nowhere/at-all/x"), TEXTS, "no folder nowhere/at-all/x with a"),
        (SentenceEncoder(model="org/name"), TEXTS, "Hugging Face hub, write hub://org/name"),
    ],
)
def test_what_cannot_be_read_is_one_line(config: Any, field: FieldSpec, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        config.build(field)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("module", "config", "field", "extra"),
    [
        ("transformers", SentenceEncoder(model="."), TEXTS, "text"),
        ("onnxruntime", OnnxEncoder(file="x.onnx"), TILES, "onnx"),
    ],
)
def test_a_missing_extra_is_named(
    module: str, config: Any, field: FieldSpec, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(UserError, match=rf"needs {module}: pip install 'raytrain\[{extra}\]'"):
        config.build(field)


def test_a_feature_that_float16_does_not_hold(tmp_path: Path) -> None:
    encoder = OnnxEncoder(file=save_onnx(tmp_path / "flat.onnx", ["n", 5])).build(VECTORS)
    with pytest.raises(UserError, match="a feature is 70000, which float16 does not hold"):
        encoder.encode(np.full((1, 5), 7e4, np.float32))


@pytest.mark.gpu
def test_a_gpu_gives_the_same_features(weights: str, sentences: Path) -> None:
    texts = [" ".join(WORDS[:n]) for n in range(1, 9)]
    for config, field, observed in (
        (TimmEncoder(name=NAME, weights=weights), TILES, tiles(5)),
        (SentenceEncoder(model=str(sentences)), TEXTS, texts),
    ):
        found = config.build(field, "cuda").encode(observed)
        np.testing.assert_allclose(found, config.build(field).encode(observed), atol=0.02)
