from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raytrain.prepare import main


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")


def test_earth_mini(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["earth-mini", "--places", "500"]) == 0
    shown = capsys.readouterr().out
    for modality in ("satellite", "vegetation", "atmosphere"):
        assert f" {modality} " in shown
        assert (tmp_path / "cache" / "earth-mini" / modality / "manifest.json").exists()
    assert "text" not in shown
    assert "python -m raytrain.pretrain data.root=earth-mini" in shown
    assert main(["earth-mini", "--places", "500"]) == 0
    assert capsys.readouterr().out.count("was there") == 3


def test_a_card_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = pd.DataFrame(np.random.default_rng(0).uniform(-60, 60, (400, 4)), columns=[*"xyab"])
    table.loc[7, "a"] = np.nan
    table.to_csv(tmp_path / "points.csv", index=False)
    (tmp_path / "soil.yaml").write_text("source: {kind: table, file: points.csv}\n")
    assert main([str(tmp_path / "soil.yaml"), "--root", str(tmp_path / "root")]) == 0
    shown = capsys.readouterr().out
    assert "1 a number is missing or not finite" in shown
    assert (tmp_path / "root" / "soil" / "manifest.json").exists()


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
