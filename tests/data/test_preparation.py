from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raytrain import geo
from raytrain.data.cards import Card, load_card, load_cards
from raytrain.data.preparation import PreparationError, prepare, ready
from raytrain.data.shards import read_shard

RASTERS = ("satellite", "vegetation", "atmosphere")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def csv_card(folder: Path, rows: int = 500) -> Card:
    rng = np.random.default_rng(0)
    lonlat_deg = geo.random_on_sphere(rows, rng)
    table = pd.DataFrame(rng.normal(size=(rows, 5)), columns=list("abcde"))
    table.assign(lon=lonlat_deg[:, 0], lat=lonlat_deg[:, 1]).to_csv(folder / "points.csv")
    (folder / "soil.yaml").write_text(
        "field: numbers\nsource: {kind: table, file: points.csv, columns: [a, b, c, d, e]}\n"
        "licence: mine\n"
    )
    return load_card(str(folder / "soil.yaml"))


def test_earth_mini_is_made_on_first_use_and_kept() -> None:
    cards = load_cards(RASTERS)
    for card in cards.values():
        prepare(card, "earth-mini", list(cards.values()), places=3000)
    times = {}
    urls = ready(cards.values(), "earth-mini")  # finds them, whatever the number of places
    shapes = {"satellite": (6, 16, 16), "vegetation": (2, 16, 16), "atmosphere": (12,)}
    for name, card in cards.items():
        manifest = prepare(card, "earth-mini", list(cards.values()), places=3000).manifest
        assert manifest.samples("train") + manifest.samples("val") == 3000
        assert manifest.samples("val") > 50
        assert manifest.field(card.field).shape == shapes[name]
        assert manifest.credit == card.credit
        columns, skipped = read_shard(
            urls[name], manifest.shards[0], manifest.fields, manifest.layout, verify=True
        )
        assert not skipped
        assert columns[card.field].std() > 5
        times[name] = (Path(urls[name]) / "manifest.json").stat().st_mtime_ns
    ready(cards.values(), "earth-mini")
    for name, url in urls.items():
        assert (Path(url) / "manifest.json").stat().st_mtime_ns == times[name]


def test_a_changed_card_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "relief.yaml"
    np.save(tmp_path / "relief.npy", np.arange(180 * 360, dtype=np.uint16).reshape(180, 360))
    source = "source: {kind: raster, file: relief.npy, dtype: uint16, places: 300, patch_px: %d}\n"
    for patch_px in (4, 6):
        path.write_text(source % patch_px)
        card = load_card(str(path))
        url = ready([card], "earth-mini")["relief"]
        manifest = prepare(card, "earth-mini", [card]).manifest
        assert manifest.field("observation").shape == (2, patch_px, patch_px)
        assert url == card.url("earth-mini")


def test_shards_that_are_in_use_outlive_a_new_neighbour(tmp_path: Path) -> None:
    atmosphere = load_card("atmosphere")
    made = prepare(atmosphere, "earth-mini", [atmosphere], places=300)
    np.save(tmp_path / "relief.npy", np.zeros((180, 360), np.uint8))
    (tmp_path / "relief.yaml").write_text("source: {kind: raster, file: relief.npy, places: 300}\n")
    ready([atmosphere, load_card(str(tmp_path / "relief.yaml"))], "earth-mini")
    assert prepare(atmosphere, "earth-mini", [atmosphere], places=300).manifest == made.manifest


def test_a_modality_from_a_csv_is_one_card(tmp_path: Path) -> None:
    card = csv_card(tmp_path)
    made = prepare(card, str(tmp_path / "root"))
    assert made.manifest.field("numbers").shape == (5,)
    assert made.manifest.samples("train") + made.manifest.samples("val") == 500
    assert made.manifest.source["columns"] == ["a", "b", "c", "d", "e"]
    assert ready([card], str(tmp_path / "root")) == {"soil": str(tmp_path / "root" / "soil")}


def test_missing_shards_say_which_command_makes_them(tmp_path: Path) -> None:
    card = csv_card(tmp_path)
    with pytest.raises(PreparationError) as error:
        ready([card], "/data")
    assert str(error.value) == (
        "soil: there are no shards in /data/soil. Make them with `python -m raytrain.prepare "
        f"{tmp_path}/soil.yaml --root /data`, or leave soil out of data.modalities"
    )
    with pytest.raises(PreparationError, match="prepare text --root earth`"):
        ready([load_card("text")], "earth")
    with pytest.raises(PreparationError, match="prepare satellite --root earth`"):
        ready([load_card("satellite")], "earth")
    (tmp_path / "soil.yaml").write_text("field: numbers\n")
    with pytest.raises(
        PreparationError,
        match=r"there are no features in .*/earth-mini/text-features\. Make them with "
        r"`python -m raytrain\.featurize text`, with --overwrite where others are there",
    ):
        ready([load_card("text")], "earth-mini")  # the texts are embedded, and made at once
    with pytest.raises(PreparationError, match="has no `source` to make them from"):
        ready([load_card(str(tmp_path / "soil.yaml"))], "/data")


def test_texts_of_a_table_are_shards_of_samples(tmp_path: Path) -> None:
    table = pd.DataFrame({"lon": [8.5, 13.4, np.nan], "lat": [47.4, 52.5, 1.0]})
    table.assign(body=["Zürich", "Berlin", "nowhere"]).to_csv(tmp_path / "wiki.csv")
    (tmp_path / "wiki.yaml").write_text(
        "field: text\nsource: {kind: text, file: wiki.csv, column: body}\n"
    )
    made = prepare(load_card(str(tmp_path / "wiki.yaml")), str(tmp_path / "root"))
    assert made.dropped == {"no coordinates": 1}
    rows = [
        read_shard(made.url, shard, made.manifest.fields, made.manifest.layout)[0]
        for shard in made.manifest.shards
    ]
    assert {text for part in rows for text in part["text"]} == {"Zürich", "Berlin"}
