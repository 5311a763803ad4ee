from dataclasses import replace
from pathlib import Path

import pytest

from raytrain.data import cards
from raytrain.data.cards import Card, CardError, load_card, load_cards
from raytrain.data.sources.rasters import RasterSource
from raytrain.data.sources.tables import TableSource
from raytrain.encoders.frozen.sentences import MiniLM
from raytrain.encoders.frozen.timm_images import EfficientNetLite0, TimmEncoder
from raytrain.settings import SettingsError, build, to_dict


@pytest.mark.parametrize("name", cards.card_names())
def test_every_card_loads_for_both_collections(name: str) -> None:
    card = load_card(name)
    assert card.licence
    assert card.credit
    assert card.source_for("earth") == card.source
    assert card.source_for("earth-mini") != card.source


def test_mini_changes_only_what_it_names() -> None:
    card = load_card("satellite")
    mini = card.source_for("earth-mini")
    assert isinstance(card.source, RasterSource)
    assert isinstance(mini, RasterSource)
    assert mini.file == "earth-mini/satellite.jpg"
    changed = replace(mini, **{name: getattr(card.source, name) for name in card.mini})
    assert changed == card.source


def test_an_unknown_card_suggests_the_nearest() -> None:
    with pytest.raises(CardError, match=r"no card `satelite` in .*; did you mean `satellite`\?"):
        load_card("satelite")
    with pytest.raises(CardError, match=r"there are: atmosphere, satellite, text, vegetation"):
        load_card("quuz")
    with pytest.raises(CardError, match=r"there is no card nowhere/mine\.yaml"):
        load_card("nowhere/mine.yaml")


def made(folder: Path, text: str) -> str:
    (folder / "mine.yaml").write_text(text)
    return str(folder / "mine.yaml")


def test_a_card_may_be_like_another() -> None:
    card, base = load_card("features/satellite"), load_card("satellite")
    assert (card.name, card.folder, card.source) == (base.name, base.folder, base.source)
    assert card.url("/data") == base.url("/data") == "/data/satellite"
    assert card.observed_url("/data") == "/data/satellite-features"
    assert (card.field, card.observed_field) == ("patch", "feature")
    assert card.tower.kind == "mlp"
    assert card.features == EfficientNetLite0(channels=(0, 1, 2), image_px=64)
    assert card.observed_augment != card.augment == base.augment


def test_features_are_named_by_a_word_or_by_settings(tmp_path: Path) -> None:
    assert load_card(made(tmp_path, "features: auto\n")).features == "auto"
    assert load_card(made(tmp_path, "features: minilm\n")).features == MiniLM()
    timm = "features: {kind: timm, name: resnet18, weights: x.pth, views: 4}\n"
    card = load_card(made(tmp_path, timm))
    assert card.features == TimmEncoder(name="resnet18", weights="x.pth", views=4)
    again = build(Card, {**to_dict(card), "folder": "."})  # as a checkpoint keeps it
    assert again.features == card.features


def test_a_card_of_ones_own(tmp_path: Path) -> None:
    card = load_card(made(tmp_path, "source: {kind: table, file: points.csv}\n"))
    assert (card.name, card.folder) == ("mine", tmp_path)
    assert card.source == TableSource(file="points.csv")
    assert card.url("/data") == "/data/mine"
    assert card.url("s3://bucket/data") == "s3://bucket/data/mine"


def test_shards_may_lie_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    card = load_card(made(tmp_path, "shards: s3://bucket/tiles\nfield: tile\n"))
    assert card.url("earth-mini") == "s3://bucket/tiles"
    assert load_card("text").url("earth") == str(tmp_path / "cache" / "earth" / "text")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feild: patch", "unknown setting `mine.yaml.feild`; did you mean `field`?"),
        ("tower: {kind: transformer}", "mine.yaml.tower.kind"),
        ("source: {kind: raster, file: x.png, places: many}", "mine.yaml.source.places: expected"),
        ("features: minilmm", "mine.yaml.features.kind=minilmm`; did you mean `minilm`?"),
        ("features: timm", "mine.yaml.features: `name` is required"),
        ("source: {kind: table}", "mine.yaml.source: `file` is required"),
    ],
)
def test_a_wrong_setting_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        load_card(made(tmp_path, text))
    assert message in str(error.value)


def test_two_cards_of_one_name(tmp_path: Path) -> None:
    path = made(tmp_path, "name: text\n")
    with pytest.raises(CardError, match="two cards are named `text`"):
        load_cards(["text", path])
