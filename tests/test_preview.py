"""The command, its pages as text, and one of them in a browser."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from browser import Page
from inspection_shards import maker, numbers, on_land, texts
from markup import Elements

from raytrain.preview import main

EXAMPLES = [{"key": f"a{i}", "lon": 1.5} for i in range(7)]


class Shown(NamedTuple):
    """What came of the command."""

    said: str
    path: Path

    @property
    def page(self) -> Elements:
        return Elements(self.path.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("previews")


def preview(folder: Path, *arguments: str) -> Shown:
    path, said = folder / "page.html", io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main([*arguments, "--output", str(path)]) == 0
    return Shown(said.getvalue(), path)


@pytest.fixture(scope="module")
def faulty(folder: Path) -> Shown:
    """A folder without a card: places at 0, 0, a constant column, and a report."""
    places, observed = on_land(), numbers()
    places[:9], observed[:, 2] = 0.0, 7.0
    url = maker(folder)(observed, places, credit="Ada <Lovelace>")
    (Path(url) / "report.json").write_text(
        json.dumps({"rows": 1612, "left_out": {"no place": {"rows": 12, "examples": EXAMPLES}}})
    )
    return preview(folder, url)


def test_the_terminal_says_it_in_short(faulty: Shown) -> None:
    assert faulty.said.startswith("made: ")
    assert "all 600 rows of" in faulty.said
    assert "value: float32 [4] as npy, units" in faulty.said
    assert "BAD places: 9 of 600 places are at 0, 0" in faulty.said
    assert "see value: channel 2 is constant (leave out what tells nothing)" in faulty.said
    assert "CC0; Ada <Lovelace>" in faulty.said


def test_the_page_says_all_and_the_faults_first(faulty: Shown) -> None:
    page = faulty.page
    assert "1 fault, and 2 to look at." in page.text
    assert page.text.index("9 of 600 places are at 0, 0") < page.text.index("Fields Field type")
    assert "Ada <Lovelace>" in page.text
    assert "left_out · no place · rows 12" in page.text
    assert "left_out · no place · examples key a0, lon 1.5; key a1, lon 1.5;" in page.text
    assert "key a4, lon 1.5; and 2 more" in page.text
    assert "rows 1,612" in page.text
    assert len(page.of("img")) == 2  # the maps
    assert all((img["src"] or "").startswith("data:") for img in page.of("img"))
    assert not page.of("script")


def test_pictures_are_shown_with_their_places(folder: Path) -> None:
    pictures = np.random.default_rng(0).normal(size=(300, 6, 8, 8)).astype(np.float32)
    page = preview(folder / "p", maker(folder)(pictures, name="pictures")).page
    assert len(page.of("img")) == 2 + 24 * 2  # two pictures of three channels each
    assert len(page.of("figcaption")) == 2 + 6 + 24
    assert page.text.count("° N") + page.text.count("° S") == 24


def test_texts_of_a_card(folder: Path) -> None:
    maker(folder)(texts(), name="notes")
    card = folder / "notes.yaml"
    card.write_text("field: text\n")
    shown = preview(folder / "t", str(card), "--root", str(folder), "--shards", "2")
    assert "127 of 600 rows were looked at, in 2 of 7 shards drawn by chance" in shown.said
    assert "No fault was found." in shown.page.text
    assert "<b>hardly</b> & known" in shown.page.text
    assert shown.page.text.count("Place number") == 24


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
def visit(browser: Page, faulty: Shown) -> Iterator[Callable[..., Page]]:
    """Opens the page in a window of a width; it may report no problem and fetch nothing."""

    def opened(width: int, dark: bool) -> Page:
        browser.open(f"file://{faulty.path}", width, 900, dark, touch=False)
        return browser

    yield opened
    browser.close()
    assert not browser.problems


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_a_page_in_a_browser(visit: Callable[..., Any], width: int, dark: bool) -> None:
    """Nothing is wider than the window, all pictures are there, links lead to sections."""
    shown = visit(width, dark)
    assert shown.value("document.documentElement.scrollWidth") <= width
    assert shown.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    ends = "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))"
    assert shown.value(ends)
    words = shown.value("document.querySelector('.faults').innerText")
    assert "channel 2 is constant" in words
    assert shown.value("document.querySelectorAll('tr.odd').length") == 1
    assert shown.value("document.querySelectorAll('.plot rect').length") > 40
