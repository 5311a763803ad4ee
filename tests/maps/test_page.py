"""The interactive page in a real browser."""

import io
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from raytrain import geo
from raytrain.evaluation.similarity import similarities

CELLS, (HEIGHT, WIDTH) = geo.cell_grid(3.0)
STATE = "({...state, title: document.getElementById('caption').textContent})"


def lonlat_at(page: Any, x: float, y: float) -> list[float]:
    """The place at a point of the map, in CSS pixels from its corner."""
    return list(page.value(f"placeAt({x}, {y})"))


def on_screen(page: Any, lon: float, lat: float) -> tuple[float, float]:
    box = page.value("map.getBoundingClientRect().toJSON()")
    x, y = page.value(f"pixelOf([{lon}, {lat}])")
    return box["left"] + x, box["top"] + y


def pixels(page: Any) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))


def test_a_click_shows_the_similarity_of_the_whole_world(visit: Any, atlas: Any) -> None:
    page = visit()
    assert page.value(STATE)["view"] == "colours"
    page.click(*on_screen(page, 10.5, 25.5))
    state = page.value(STATE)
    assert state["view"] == "similarity"
    assert state["place"] == pytest.approx([10.5, 25.5], abs=0.5)
    assert re.match(r"Similarity to 1\d\.\d° E, 2\d\.\d° N", state["title"])
    shown = np.array(page.value("Array.from(cosines)"))
    cell = page.value("cellOf(state.place)")
    exact = similarities(atlas.encoder.learned, CELLS[[cell]], CELLS)
    assert np.abs(shown - exact).max() < 0.1
    assert np.corrcoef(shown, exact)[0, 1] > 0.999
    assert shown[cell] == pytest.approx(1, abs=1e-5)
    place = ",".join(f"{degrees:g}" for degrees in state["place"])
    assert page.value("location.hash") == f"#view=similarity&at={place}"
    assert "similarity 1.00" in page.value("document.getElementById('readout').textContent")


def test_the_page_says_how_exact_it_is(visit: Any, atlas: Any) -> None:
    page = visit()
    said = page.value("document.querySelector('details').textContent")
    r = float(re.search(r"r = (\d\.\d+)", said)[1])  # type: ignore[index]
    worst = float(re.search(r"the largest is (\d\.\d+)", said)[1])  # type: ignore[index]
    land = np.flatnonzero(page.value("Array.from({length: 7200}, (_, i) => norms[i] > 0)"))
    assert len(land) == HEIGHT * WIDTH
    assert r > 0.99
    assert worst < 0.1


def test_a_link_opens_view_and_place(visit: Any) -> None:
    page = visit("view=seams&at=-60,-5")
    state = page.value(STATE)
    assert (state["view"], state["place"], state["middle"]) == ("seams", [-60, -5], 180)
    assert page.value("document.querySelectorAll('#legend figure canvas').length") == 2
    page.value("location.hash = 'view=regions'")
    page.wait("state.view === 'regions'")
    assert page.value("document.querySelectorAll('#swatches li').length") == 6
    page.close()
    assert visit("view=nothing&at=500,2").value(STATE)["view"] == "colours"


def test_dragging_turns_the_world_and_the_wheel_zooms_where_it_points(visit: Any) -> None:
    page = visit()
    (left, top), grabbed = on_screen(page, 12, 0), lonlat_at(page, 500, 300)
    page.mouse("Moved", left, top)
    page.mouse("Pressed", left, top)
    for step in (20, 60, 120):
        page.mouse("Moved", left + step, top, held=True)
    page.mouse("Released", left + 120, top)
    state = page.value(STATE)
    assert state["view"] == "colours"  # no click
    assert state["middle"] < 0
    assert lonlat_at(page, 620, 300)[0] == pytest.approx(grabbed[0], abs=2)
    x, y = map(round, on_screen(page, 30, 40))
    page.mouse("Wheel", x, y, deltaX=0, deltaY=-700)
    page.wait("state.zoom > 2")
    assert on_screen(page, 30, 40) == pytest.approx((x, y), abs=3)  # half a pixel, zoomed
    page.mouse("Wheel", x, y, deltaX=0, deltaY=9000)
    page.wait("state.zoom === 1")
    page.click(*page.value("(b => [b.x + 9, b.y + 9])(byId('in').getBoundingClientRect())"))
    assert page.value("state.zoom") == pytest.approx(1.6)


def test_fingers_pinch_and_tap_on_a_phone(visit: Any) -> None:
    page = visit("view=regions", 390, 844, touch=True)
    assert page.value("document.documentElement.scrollWidth") <= 390
    assert page.value("Math.min(...Array.from(document.querySelectorAll('.zoom button'), "
                      "b => b.getBoundingClientRect().width))") >= 38  # fmt: skip
    x, y = on_screen(page, 20, 10)
    before = page.value("state.zoom")
    page.fingers("Start", (x - 20, y), (x + 20, y))
    for reach in (30, 45, 60):
        page.fingers("Move", (x - reach, y), (x + reach, y))
    page.fingers("End")
    assert page.value("state.zoom") == pytest.approx(3 * before, rel=0.05)
    assert on_screen(page, 20, 10) == pytest.approx((x, y), abs=3)
    assert page.value("state.view") == "regions"  # no tap
    page.fingers("Start", (x, y))
    page.fingers("End")
    assert page.value("state.view") == "similarity"
    assert page.value("state.place") == pytest.approx([20, 10], abs=1)


def test_all_is_done_with_keys(visit: Any) -> None:
    page = visit()
    page.value("map.focus()")
    page.key("ArrowRight")
    page.key("ArrowUp")
    moved = page.value(STATE)
    assert moved["middle"] > 12
    page.key("+")
    assert page.value("state.zoom") == pytest.approx(1.4)
    page.key("ArrowUp")
    assert page.value("state.centre") > 0
    for key, view in (("2", "regions"), ("4", "seams"), ("1", "colours")):
        page.key(key)
        assert page.value("state.view") == view
        assert page.value("document.querySelector(':checked').value") == view
    page.key("Enter")
    assert page.value("state.view") == "similarity"
    assert page.value("state.place[0]") == pytest.approx(page.value("state.middle"), abs=0.01)
    page.key("0")
    assert page.value("state.zoom") == 1
    page.value("(byId('at').value = '151.2, -33.9', byId('find').requestSubmit())")
    assert page.value("state.place") == [151.2, -33.9]


@pytest.mark.parametrize("dark", [False, True])
def test_paper_and_scale_follow_the_scheme(visit: Any, dark: bool) -> None:
    page = visit("view=similarity&at=12,0", dark=dark)
    page.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shown = pixels(page).astype(int)
    assert shown.shape == (800, 1200, 3)
    assert (shown[2, 2].mean() > 200) == (not dark)
    x, y = (round(value) for value in on_screen(page, 12, 0))
    alike, paper = shown[y + 3, x + 3].mean(), shown[2, 2].mean()
    assert abs(alike - paper) > 100  # what is alike stands out


def test_the_dateline_is_no_edge(visit: Any) -> None:
    """Around 180° the painted map is as smooth as elsewhere."""
    page = visit("view=colours")
    page.value("(state.middle = 180, paintAt(1))")
    row = np.array(page.value("Array.from(pen.getImageData(0, map.height / 2, map.width, 1).data)"))
    steps = np.abs(np.diff(row.reshape(-1, 4)[:, :3].astype(int), axis=0)).max(1)
    middle = len(steps) // 2
    assert steps[middle - 4 : middle + 4].max() <= np.percentile(steps[100:-100], 99)
