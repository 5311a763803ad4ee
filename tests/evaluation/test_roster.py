from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raytrain.encoders.location import LocationEncoderConfig
from raytrain.encoders.networks import SirenConfig
from raytrain.encoders.pretrained import save_location_encoder
from raytrain.encoders.weights import WeightsError
from raytrain.errors import UserError
from raytrain.evaluation.baselines import untrained
from raytrain.evaluation.roster import GEOCLIP, Row, families, label_rows, roster
from raytrain.evaluation.splits import split
from raytrain.evaluation.tasks import Task
from raytrain.settings import to_dict

SKIP = (GEOCLIP,)  # it would be fetched
BASELINES = {
    "label-kNN": "label baseline",
    "inverse distance": "label baseline",
    "unit xyz": "encoder baseline",
    "random Fourier": "encoder baseline",
    "untrained harmonics": "encoder baseline",
    "random fields": "encoder baseline",
}
LON, LAT = np.array([0.0, 10.0, -180.0]), np.array([0.0, -45.0, 90.0])


def kinds(rows: tuple[Row, ...]) -> dict[str, str]:
    """Kinds by name, in order."""
    assert len({row.name for row in rows}) == len(rows)
    return {row.name: row.kind for row in rows}


def location(width: int = 16) -> LocationEncoderConfig:
    return LocationEncoderConfig(network=SirenConfig(width=width), dim=8)


def run(folder: Path, width: int = 16, weights: int = 7, **more: Any) -> str:
    """The folder of a run with one checkpoint of an encoder that is as wide as asked."""
    with torch.random.fork_rng():
        torch.manual_seed(weights)
        encoder = location(width).build()
    config = {"location": to_dict(location(width)), **more}
    save_location_encoder(folder / "checkpoint_000007", config, encoder)
    return str(folder)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_baselines_are_there_without_being_asked_for() -> None:
    rows = roster([], skip=SKIP)
    assert kinds(rows) == BASELINES
    for row in rows:
        assert (row.predict is None) == (row.kind != "label baseline")
        if row.encode is not None:
            assert np.asarray(row.encode(LON, LAT)).shape[0] == 3


def test_skipped_rows_are_not_there() -> None:
    rows = roster([], skip=("geoclip", "unit xyz", "label-kNN"))
    left = ["inverse distance", "random Fourier", "untrained harmonics", "random fields"]
    assert list(kinds(rows)) == left
    assert [row.name for row in label_rows(["label-kNN"])] == ["inverse distance"]
    with pytest.raises(UserError, match=r"no baseline `xyz`; there are: label-kNN, .*untrained$"):
        roster([], skip=("xyz",))


def test_a_run_stands_beside_its_own_architecture_untrained(tmp_path: Path) -> None:
    cards = {"words": {"name": "words", "leaks": ["country"]}}
    url = run(tmp_path / "run", cards=cards)
    rows = roster([f"{url}/", url], skip=SKIP)
    assert kinds(rows) == {**BASELINES, "untrained": "encoder baseline", "run": "encoder"}
    fresh, trained = rows[-2:]
    assert (trained.modalities, trained.run_url) == ((cards["words"],), url)
    assert (fresh.modalities, fresh.run_url) == ((), None)
    assert fresh.encode is not None
    assert trained.encode is not None
    assert np.array_equal(fresh.encode(LON, LAT), untrained(location())(LON, LAT))
    assert not np.allclose(fresh.encode(LON, LAT), trained.encode(LON, LAT))
    assert "untrained" not in kinds(roster([url], skip=(*SKIP, "untrained")))


def test_a_checkpoint_has_no_run_to_ask_for_metrics(tmp_path: Path) -> None:
    url = f"{run(tmp_path / 'run')}/checkpoint_000007"
    assert roster([url], skip=SKIP)[-1].run_url is None


def test_each_architecture_is_untrained_once(tmp_path: Path) -> None:
    urls = [run(tmp_path / "a", 16), run(tmp_path / "b", 24), run(tmp_path / "c", 16, weights=8)]
    rows = roster(urls, skip=SKIP)
    expected = {"untrained 1": "encoder baseline", "untrained 2": "encoder baseline"}
    assert kinds(rows) == {**BASELINES, **expected, **dict.fromkeys("abc", "encoder")}
    for row, width in zip(rows[6:8], (16, 24), strict=True):
        assert row.encode is not None
        assert np.array_equal(row.encode(LON, LAT), untrained(location(width))(LON, LAT))
    assert list(kinds(roster([urls[0], urls[2]], skip=SKIP)))[6:] == ["untrained", "a", "c"]


def test_runs_that_differ_in_their_seed_are_one_family(tmp_path: Path) -> None:
    recipe = {"method": "melt"}
    urls = [
        run(tmp_path / f"melt-{s}", weights=s, **recipe, name=f"melt-{s}", seed=s) for s in (0, 1)
    ]
    other = run(tmp_path / "salt", method="salt")
    same = f"{urls[0]}/checkpoint_000007"
    found = families(roster([*urls, other, same], skip=SKIP), {})
    names = {name: [row.name for row in rows] for name, rows in found.items()}
    assert names["melt (2 seeds)"] == ["melt-0", "melt-1"]
    assert names["salt"] == ["salt"]
    assert names[same] == [same]


def test_a_setting_that_a_run_did_not_know_had_its_default(tmp_path: Path) -> None:
    settings: list[dict[str, Any]] = [{"steps": 5}, {"steps": 5, "clip": 1.0}, {"clip": 2.0}]
    urls = [run(tmp_path / f"r-{s}", seed=s, training=t) for s, t in enumerate(settings)]
    found = families(roster(urls, skip=SKIP), {"training.clip": 1.0, "training.steps": 5})
    assert [*found][-2:] == ["r (2 seeds)", "r-2"]


def test_rows_of_one_name_keep_their_paths(tmp_path: Path) -> None:
    urls = [run(tmp_path / folder / "melt", method=folder) for folder in ("a", "b")]
    assert [row.name for row in roster(urls, skip=SKIP)][-2:] == urls


def test_untrained_alone_is_the_default_architecture() -> None:
    rows = roster(["untrained"], skip=SKIP)
    assert kinds(rows) == {**BASELINES, "untrained": "encoder baseline"}
    assert rows[-1].encode is not None
    expected = untrained(LocationEncoderConfig())(LON, LAT)
    assert np.array_equal(rows[-1].encode(LON, LAT), expected)


def test_a_function_of_a_file_in_the_current_folder(here: Path) -> None:
    (here / "roster_mine.py").write_text(
        "import numpy as np\ndef encode(lon, lat):\n    return np.stack([lon, lat], axis=1)\n"
    )
    row = roster(["roster_mine:encode"], skip=SKIP)[-1]
    assert (row.name, row.kind, row.run_url) == ("roster_mine:encode", "encoder", None)
    assert row.encode is not None
    assert row.encode(LON, LAT).tolist() == [[0, 0], [10, -45], [-180, 90]]
    with pytest.raises(UserError, match=r"roster_mine:code: the module has no function `code`"):
        roster(["roster_mine:code"], skip=SKIP)


@pytest.mark.parametrize("module", ["nowhere_mine", "nowhere_mine.inner", ".mine", "", "a/b.py"])
def test_a_module_that_is_not_there_says_what_an_encoder_can_be(here: Path, module: str) -> None:
    with pytest.raises(UserError) as raised:
        roster([f"{module}:encode"], skip=SKIP)
    assert f"{module}:encode: there is no module `{module}` here" in str(raised.value)
    assert "a run or checkpoint (path or URL), geoclip, untrained, or module" in str(raised.value)


def test_an_import_that_fails_inside_the_users_module_is_shown_as_it_is(here: Path) -> None:
    (here / "roster_broken.py").write_text("import nowhere_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        roster(["roster_broken:encode"], skip=SKIP)


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"give the folder of a run or of a checkpoint"):
        roster([str(tmp_path)], skip=SKIP)


def test_label_rows_predict(height: Task) -> None:
    parts = split(height, budget=300)
    for row in label_rows():
        assert row.predict is not None
        assert row.predict(height, parts).shape == parts.test.shape
