import re
import zipfile
from pathlib import Path

import pytest

from raytrain import wheels
from raytrain.data.sources.files import SourceError, read_file
from raytrain.wheels import WheelError, fetch, pins


def test_every_wheel_is_pinned_by_version_checksum_and_use() -> None:
    assert len(pins()) == 14
    for pin in pins().values():
        assert re.fullmatch(r"[0-9a-f]{64}", pin.sha256)
        assert pin.use


def test_an_unknown_wheel_is_named() -> None:
    with pytest.raises(WheelError, match=r"no wheel `numpy` is pinned in .*wheels\.txt"):
        read_file("wheel://numpy/numpy/version.py", Path())


def test_another_wheel_of_that_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYTRAIN_WHEELS", str(tmp_path))
    with zipfile.ZipFile(tmp_path / "airportsdata-20260905-py3-none-any.whl", "w") as wheel:
        wheel.writestr("airportsdata/airports.csv", "icao,lat,lon\n")
    with pytest.raises(WheelError, match=r"is not the pinned wheel: sha256 .* Delete it"):
        wheels.read_member("airportsdata", "airportsdata/airports.csv")


def test_without_a_network_the_message_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path))
    monkeypatch.setenv("RAYTRAIN_WHEELS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(WheelError) as error:
        fetch("ptjpl")
    message = str(error.value)
    assert "the wheel ptjpl==1.9.0 (MODIS fAPAR maximum: vegetation patches)" in message
    assert "set RAYTRAIN_WHEELS to its folder; or go on without it" in message


@pytest.mark.slow
def test_a_wheel_comes_from_the_registry_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path))
    monkeypatch.delenv("RAYTRAIN_WHEELS", raising=False)
    content = read_file("wheel://airportsdata/airportsdata/airports.csv", tmp_path)
    assert content.startswith(b'"icao","iata","name"')
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # from here on pip would find nothing
    assert read_file("wheel://airportsdata/airportsdata/airports.csv", tmp_path) == content
    members = list(wheels.read_members("airportsdata", r"airportsdata/\w+\.csv"))
    assert ("airportsdata/airports.csv", content) in members


def test_a_missing_file_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"none\.csv does not exist; a path in a card is relative"
    ):
        read_file("none.csv", tmp_path)
