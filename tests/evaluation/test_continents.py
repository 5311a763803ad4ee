import numpy as np
import pytest

from raytrain.evaluation.continents import CONTINENTS, continents
from raytrain.evaluation.tasks import Task, load_tasks
from raytrain.geo import as_lonlat, random_on_sphere
from raytrain.storage import datasets_dir

# (lon, lat) by name, most of them near a border or far out at sea
CITIES = {
    "Africa": {
        **{"Tangier": (-5.8, 35.8), "Tunis": (10.2, 36.8), "Cairo": (31.2, 30.0)},
        **{"Port Sudan": (37.2, 19.6), "Djibouti": (43.1, 11.6), "Cape Town": (18.4, -33.9)},
        **{"Praia": (-23.5, 14.9), "Antananarivo": (47.5, -18.9), "Port Louis": (57.5, -20.2)},
    },
    "Asia": {
        **{"Jerusalem": (35.2, 31.8), "Aden": (45.0, 12.8), "Izmir": (27.1, 38.4)},
        **{"Tbilisi": (44.8, 41.7), "Baku": (49.9, 40.4), "Chelyabinsk": (61.4, 55.2)},
        **{"Nicosia": (33.4, 35.2), "Jakarta": (106.8, -6.2), "Dili": (125.6, -8.6)},
        **{"Manila": (121.0, 14.6), "Tokyo": (139.7, 35.7), "Anadyr": (177.5, 64.7)},
        **{"Provideniya": (-173.2, 64.4), "Male": (73.5, 4.2)},
    },
    "Europe": {
        **{"Gibraltar": (-5.4, 36.1), "Palermo": (13.4, 38.1), "Valletta": (14.5, 35.9)},
        **{"Heraklion": (25.1, 35.3), "Athens": (23.7, 38.0), "Sochi": (39.7, 43.6)},
        **{"Perm": (56.2, 58.0), "Reykjavik": (-21.9, 64.1), "Longyearbyen": (15.6, 78.2)},
        **{"Ponta Delgada": (-25.7, 37.7), "Vladikavkaz": (44.7, 43.0)},
    },
    "North America": {
        **{"Nuuk": (-51.7, 64.2), "Nome": (-165.4, 64.5), "Adak": (-176.6, 51.9)},
        **{"Panama": (-79.5, 9.0), "Havana": (-82.4, 23.1), "Bridgetown": (-59.6, 13.1)},
    },
    "Oceania": {
        **{"Darwin": (130.8, -12.5), "Port Moresby": (147.2, -9.4), "Honolulu": (-157.9, 21.3)},
        **{"Suva": (178.4, -18.1), "Apia": (-171.8, -13.8), "Hagåtña": (144.8, 13.5)},
        **{"Perth": (115.9, -32.0), "Papeete": (-149.6, -17.5)},
    },
    "South America": {
        **{"Cartagena": (-75.5, 10.4), "Maracaibo": (-71.6, 10.6), "Ushuaia": (-68.3, -54.8)},
        **{"Natal": (-35.2, -5.8), "Puerto Ayora": (-90.3, -0.7), "Stanley": (-57.9, -51.7)},
    },
}  # fmt: skip

# Of the countries of the task `country` those that lie elsewhere than in Asia.
COUNTRIES = {
    "Africa": "AO BF BJ BW CD CG CI CM DZ EG ET GH GM GN KE KM LY MA MG ML MR MU MZ NA NE NG SD SL "
    "SN SO TD TN TZ UG YT ZA ZM ZW",
    "Europe": "AL AT BA BE BG BY CH CZ DE DK EE ES FI FR GB GR HR HU IE IT LT LU LV MD MK MT NL NO "
    "PL PT RO RS SE SI SK UA XK",
    "North America": "BZ CA CR CU DO GT HN HT JM MX NI PA PR SV US",
    "Oceania": "AU FM NZ",
    "South America": "AR BO BR CL CO EC PE PY UY VE",
}


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    return {task.name: task for task in load_tasks(datasets_dir() / "earth-mini" / "tasks.npz")}


@pytest.mark.parametrize("continent", CONTINENTS)
def test_cities(continent: str) -> None:
    names, places = zip(*CITIES[continent].items(), strict=True)
    found = continents(as_lonlat(*zip(*places, strict=True)))
    assert {n: CONTINENTS[i] for n, i in zip(names, found, strict=True)} == dict.fromkeys(
        names, continent
    )


def test_countries_of_six_thousand_towns(tasks: dict[str, Task]) -> None:
    task = tasks["country"]
    continent_of = {code: name for name, codes in COUNTRIES.items() for code in codes.split()}
    codes = np.array(task.classes)[task.y.astype(int)]
    expected = np.array([CONTINENTS.index(continent_of.get(code, "Asia")) for code in codes])
    of_one = codes != "RU"  # Russia lies on two
    agree = (continents(task.lonlat_deg) == expected)[of_one]
    assert agree.mean() > 0.995


@pytest.mark.parametrize("name", ["air_temperature", "log_precipitation", "koppen", "igbp"])
def test_shares_of_land_are_those_of_the_continents(tasks: dict[str, Task], name: str) -> None:
    """Areas in 10^6 km², without Antarctica: 30.3, 44.6, 10.2, 24.7, 8.5 and 17.8. The tasks' land
    ends at 78 degrees north and holds little ice."""
    found = np.bincount(continents(tasks[name].lonlat_deg), minlength=6) / len(tasks[name].y)
    areas = np.array([30.3, 44.6, 10.2, 24.7, 8.5, 17.8])
    np.testing.assert_allclose(found, areas / areas.sum(), atol=0.025)


def test_every_place_belongs_to_one_and_both_datelines_agree() -> None:
    found = continents(random_on_sphere(20000, np.random.default_rng(0)))
    assert set(found) == set(range(6))
    lat = np.linspace(-90, 90, 300)
    east, west = (continents(as_lonlat(np.full(300, lon), lat)) for lon in (180.0, -180.0))
    assert np.array_equal(east, west)
