from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raytrain.prepare import main


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")


def test_earth_mini(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["earth-mini", "--places", "500"]) == 0
    shown = capsys.readouterr().out
    for modality in ("satellite", "vegetation", "atmosphere", "text"):
        assert f" {modality} " in shown
        assert (tmp_path / "cache" / "earth-mini" / modality / "manifest.json").exists()
    assert "then its features: python -m raytrain.featurize text\n" in shown
    assert "python -m raytrain.pretrain data.root=earth-mini" in shown
    assert main(["earth-mini", "--places", "500"]) == 0
    assert capsys.readouterr().out.count("was there") == 4


def test_a_card_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = pd.DataFrame(np.random.default_rng(0).uniform(-60, 60, (400, 4)), columns=[*"xyab"])
    table.loc[7, "a"] = np.nan
    table.to_csv(tmp_path / "points.csv", index=False)
    (tmp_path / "soil.yaml").write_text("source: {kind: table, file: points.csv}\n")
    assert main([str(tmp_path / "soil.yaml"), "--root", str(tmp_path / "root")]) == 0
    shown = capsys.readouterr().out
    assert "1 a number is missing or not finite" in shown
    assert {path.name for path in (tmp_path / "root" / "soil").iterdir()} >= {
        "manifest.json",
        "report.json",
    }
    assert not (tmp_path / "root" / "soil" / ".working").exists()
    assert f"where the samples are: {tmp_path}/root/places.png" in shown
    with Image.open(tmp_path / "root" / "places.png") as picture:
        assert picture.width == 1200
    assert main([str(tmp_path / "soil.yaml"), "--root", str(tmp_path / "root")]) == 0
    again = capsys.readouterr().out
    assert "was there" in again
    assert "1 a number is missing or not finite" in again


def test_what_modalities_have_in_common_is_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lon, lat = np.divmod(np.arange(400), 20)
    table = pd.DataFrame({"lon": lon + 0.5, "lat": lat + 0.5, "a": 1.0})
    table.to_csv(tmp_path / "all.csv", index=False)
    table[300:].assign(text=[f"text {row}" for row in range(100)]).to_csv(tmp_path / "some.csv")
    (tmp_path / "soil.yaml").write_text("source: {kind: table, file: all.csv}\n")
    (tmp_path / "wiki.yaml").write_text("source: {kind: text, file: some.csv}\n")
    cards = [str(tmp_path / name) for name in ("soil.yaml", "wiki.yaml")]
    assert main([*cards, "--root", str(tmp_path / "root")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["1°", "cells", "in", "common", "soil", "wiki", "cells"] in lines
    assert ["soil", "25%", "400"] in lines
    assert ["wiki", "25%", "100"] in lines


def test_one_failure_does_not_stop_the_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "soil.yaml").write_text("source: {kind: table, file: none.csv}\n")
    assert main([str(tmp_path / "soil.yaml"), "atmosphere", "--places", "300"]) == 1
    shown = capsys.readouterr().out
    assert "failed: the source file" in shown
    assert (tmp_path / "cache" / "earth-mini" / "atmosphere" / "manifest.json").exists()


def test_an_unknown_card_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["satelite"]) == 1
    assert "did you mean `satellite`?" in capsys.readouterr().out


def test_tasks_take_no_root(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["tasks", "--root", str(tmp_path)]) == 1
    assert "leave out --root" in capsys.readouterr().out
