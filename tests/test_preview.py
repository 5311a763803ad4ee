"""The command, its page as text, and its page in a browser."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page
from inspection_shards import Make, make, numbers, on_land, texts
from markup import Elements

from raytrain.data.cards import load_card
from raytrain.preview import main

__all__ = ["make"]

EXAMPLES = [{"key": f"a{i}", "lon": 1.5} for i in range(7)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYTRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def elements(path: Path) -> Elements:
    return Elements(path.read_text())


def test_a_folder_without_a_card(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = on_land()
    places[:9] = 0.0
    url = make(lonlat_deg=places, credit="Ada <Lovelace>")
    (Path(url) / "report.json").write_text(
        json.dumps({"rows": 1612, "left_out": {"no place": {"rows": 12, "examples": EXAMPLES}}})
    )
    assert main([url]) == 0
    said = capsys.readouterr().out
    assert "made: " in said
    assert "all 600 rows of" in said
    assert "BAD places: 9 of 600 places are at 0, 0" in said
    assert "Ada <Lovelace>" in said
    page = elements(tmp_path / "previews" / "made.html")
    assert "1 fault, and 1 to look at." in page.text
    assert page.text.index("9 of 600 places are at 0, 0") < page.text.index("Fields Field type")
    assert "Ada <Lovelace>" in page.text
    assert "left_out · no place · rows 12" in page.text
    assert "left_out · no place · examples key a0, lon 1.5; key a1, lon 1.5;" in page.text
    assert "key a4, lon 1.5; and 2 more" in page.text
    assert "rows 1,612" in page.text
    assert len(page.of("img")) == 2  # the maps
    assert not [src for img in page.of("img") if not (src := img["src"] or "").startswith("data:")]
    assert not page.of("script")


def test_pictures_and_texts_are_shown_with_their_places(make: Make, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).normal(size=(300, 6, 8, 8)).astype(np.float32)
    assert main([make(pictures, name="pictures"), "--output", str(tmp_path / "p.html")]) == 0
    page = elements(tmp_path / "p.html")
    assert len(page.of("img")) == 2 + 24 * 2  # two pictures of three channels each
    assert len(page.of("figcaption")) == 2 + 6 + 24
    assert main([make(texts(), name="texts"), "--output", str(tmp_path / "t.html")]) == 0
    assert page.text.count("° N") + page.text.count("° S") == 24
    page = elements(tmp_path / "t.html")
    assert "<b>hardly</b> & known" in page.text
    assert page.text.count("Place number") == 24


def test_a_card_of_earth_mini_is_made_on_first_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_card("atmosphere").mini["places"] == 200_000
    assert main(["atmosphere", "--shards", "2"]) == 0
    assert "in 2 of" in capsys.readouterr().out
    assert "drawn by chance" in elements(tmp_path / "previews" / "atmosphere.html").text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["satelite"], "did you mean `satellite`?"),
        (["nowhere/shards"], "no shards in"),
        (["mine.yaml"], "there is no card mine.yaml"),
        (["satellite", "--root", "nowhere"], "there are no shards in"),
        (["satellite", "--shards", "0"], "--shards must be at least 1"),
    ],
)
def test_bad_input_is_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().out


@pytest.fixture
def visit(browser: Page, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens a page in a window of a size; it may report no problem and fetch nothing."""

    def opened(path: Path, width: int, height: int, dark: bool = False) -> Page:
        browser.open(f"file://{path}", width, height, dark, touch=False)
        return browser

    yield opened
    browser.close()
    assert not browser.problems


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_a_page_in_a_browser(
    make: Make, tmp_path: Path, visit: Callable[..., Any], width: int, dark: bool
) -> None:
    """Nothing is wider than the window, all pictures are there, links lead to sections."""
    observed = numbers()
    observed[:, 2] = 7.0
    assert main([make(observed), "--output", str(tmp_path / "page.html")]) == 0
    shown = visit(tmp_path / "page.html", width, 900, dark)
    assert shown.value("document.documentElement.scrollWidth") <= width
    assert shown.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    ends = "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))"
    assert shown.value(ends)
    words = shown.value("document.querySelector('.faults').innerText")
    assert "channel 2 is constant" in words
    assert shown.value("document.querySelectorAll('tr.odd').length") == 1
    bars = "document.querySelectorAll('.plot rect').length"
    assert shown.value(bars) > 40
