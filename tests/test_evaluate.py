"""The command: what it prints, what it leaves, and what it says of bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raytrain.evaluate import main

QUICK = ("tasks=igbp,airport_elevation", "seeds=2", "budgets=300", "tracking.uri=null")
FEW = ("skip=geoclip,random Fourier,untrained harmonics,random fields",)


def content(folder: Path) -> Any:
    return json.loads((folder / "scores.json").read_text())


def test_two_seeds_of_a_run_are_one_row_and_a_leak_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from raytrain.encoders.location import LocationEncoderConfig
    from raytrain.encoders.positional import SphericalHarmonicsConfig
    from raytrain.encoders.pretrained import save_location_encoder
    from raytrain.settings import to_dict

    monkeypatch.chdir(tmp_path)
    location = LocationEncoderConfig(positional=SphericalHarmonicsConfig(degrees=5), dim=16)
    land_cover = {"name": "cover", "leaks": ["igbp"], "source": None}
    peer = {"name": "peer", "leaks": [], "source": {"kind": "encoder", "encoder": "geoclip"}}
    cards = {"cover": land_cover, "peer": peer}
    for seed in (0, 1):
        config = {"location": to_dict(location), "seed": seed, "cards": cards}
        save_location_encoder(f"runs/melt-{seed}/checkpoint_000300", config, location.build())
    Path("mine.py").write_text("import numpy as np\nencode = lambda lon, lat: np.c_[lat, lat**2]\n")
    spec = ["runs/melt-0", "runs/melt-1", "mine:encode", "output=out", *QUICK, *FEW]
    assert main(spec) == 0
    printed = capsys.readouterr().out
    assert "melt (2 seeds)" in printed
    assert "left out of the mean" in printed
    assert "melt (2 seeds) was taught by geoclip: no independent peer of it" in printed
    found = content(tmp_path / "out")
    names = [row["name"] for row in found["rows"]]
    assert names == [
        "label-kNN", "inverse distance", "unit xyz", "untrained", "melt (2 seeds)",
        "mine:encode",
    ]  # fmt: skip
    assert found["tables"][0]["leaks"] == {"melt (2 seeds)": ["igbp"]}
    assert found["skipped"] == ["geoclip", "random Fourier", "untrained harmonics", "random fields"]
    elevation = found["tables"][0]["scores"]["mine:encode"]["300 labels"]
    assert elevation["mean"]["mean"] == elevation["airport_elevation"]["mean"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "melt (2 seeds)" in page
    assert "taught by geoclip: no independent peer of it" in page
    assert "Skipped, so not scored: geoclip" in page
    long = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    assert len(long) == 7 * 2 * 2  # rows before they are pooled, tasks, seeds
    assert set(long[long.leaked].row) == {"melt-0", "melt-1"}


def test_several_splits_and_probes_make_a_table_each(tmp_path: Path) -> None:
    skip = ["skip=geoclip,random Fourier,untrained harmonics,random fields,untrained"]
    more = ["holdouts=10,random,continent", "probes=ridge,knn", f"output={tmp_path}/out"]
    assert main([*QUICK, *skip, *more, "seeds=1", "tasks=igbp"]) == 0
    tables = content(tmp_path / "out")["tables"]
    assert [(t["split"], t["probe"]) for t in tables] == [
        (split, probe)
        for split in ("equal-area blocks of 10°", "random places", "one continent a seed")
        for probe in ("ridge", "knn")
    ]
    by_split = {t["split"]: t["scores"]["label-kNN"]["300 labels"]["igbp"]["mean"] for t in tables}
    assert by_split["random places"] > by_split["one continent a seed"]


def test_a_users_csv_is_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"lon": rng.uniform(-180, 180, 900), "lat": rng.uniform(-60, 60, 900)})
    table["ph"] = np.sin(np.radians(table.lat)) + rng.normal(0, 0.01, 900)
    table.loc[:4, "ph"] = np.nan
    table.to_csv("soil.csv", index=False)
    Path("soil.yaml").write_text("source: {kind: table, file: soil.csv, target: ph}\nunits: pH\n")
    assert main(["tasks=soil.yaml", "output=out", "seeds=1", "tracking.uri=null", *FEW]) == 0
    found = content(tmp_path / "out")
    assert found["tasks"][0]["labels"] == 895
    assert "5 of 900 rows left out: no label" in found["tasks"][0]["note"]
    assert found["tables"][0]["scores"]["unit xyz"]["300 labels"]["soil"]["mean"] > 0.99


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tasks=koeppen"], "there is no task `koeppen`; did you mean `koppen`?"),
        (["skip=geo"], "skip: there is no baseline `geo`; there are: label-kNN"),
        (["runs/nowhere"], "runs/nowhere holds neither a checkpoint_…"),
        (["nowhere:encode"], "there is no module `nowhere` here or on PYTHONPATH"),
        (["seed=1"], "did you mean `seeds`?"),
        (["budgets=3"], "a budget of 3 labels is too small for a probe"),
        (["holdouts=continents"], "holdouts"),
        (["root=nowhere.npz"], "no tasks at nowhere.npz"),
        (["holdouts=500"], "holdout is 500"),
    ],
)
def test_bad_input_ends_in_one_message(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*QUICK, *FEW, f"output={tmp_path}/out", *words]) == 2
    said = capsys.readouterr().out
    assert message in said
    assert "Traceback" not in said
