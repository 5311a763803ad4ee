"""The page of a sweep: its text, and what it does in a real browser."""

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from markup import Elements

from raytrain.evaluation import charts
from raytrain.tuning import parallel, plots
from raytrain.tuning.page import page, verdict
from raytrain.tuning.words import distinct, duration, listed, override, short

Content = dict[str, Any]
BAD = "<script>alert('&\"')</script>"


def trial(content: Content, state: str) -> dict[str, Any]:
    return next(t for t in content["trials"] if t["state"] == state)


def unfinished(content: Content) -> Content:
    """All trials failed."""
    for one in content["trials"]:
        one |= {"state": "failed", "score": None, "curve": [], "seeds": [], "steps": 0}
        one |= {"parameters": None, "dim": None, "error": "RuntimeError: out of memory"}
    return content | {"best": None, "finalists": None, "importance": None, "pareto": {}}


def test_is_self_contained(content: Content) -> None:
    html = page(content)
    elements = Elements(html)
    for tag, attrs in elements.found:
        assert tag not in ("link", "iframe", "object", "img")
        assert not [name for name in attrs if name.startswith("on")]
        assert (attrs.get("href") or "#").startswith(("#", "./"))
        assert "src" not in attrs
    for outside in ("http:", "https:", "url(", "@import", "fetch(", "import("):
        assert outside not in html
    ids = [attrs["id"] for _, attrs in elements.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    local = {a["href"] for a in elements.of("a") if (a["href"] or "").startswith("#")}
    assert local <= {f"#{name}" for name in ids}
    assert all(th.get("scope") for th in elements.of("th"))
    for svg in elements.of("svg"):
        assert svg.get("aria-label") or svg.get("aria-hidden") == "true"


def test_says_what_the_sweep_was(content: Content) -> None:
    text = Elements(page(content)).text
    assert "Trials 20: 13 finished, 5 stopped early, 2 failed; 2 took more than one attempt" in text
    assert "2,300 of 3,000" in text
    assert "asha, factor 2, first decision after 50 steps" in text
    assert "Wall time 10 min 12 s" in text
    assert "417 MB read from disk once, shared by 20 trials" in text
    assert "4 tasks (air_temperature, precipitation, elevation, population_density)" in text
    assert "Left out, since a modality leaks them: land_cover" in text
    assert "Neither these tasks nor these seeds were used for choosing" in text
    assert "Errors Trials 5 and 14 UserError: location.network: residual wants a width" in text
    assert content["command"] in text
    assert '"space": "location_encoder"' in text
    assert content["importance"]["note"] in text


def test_every_trial_and_value_is_in_the_table(content: Content) -> None:
    html = page(content)
    rows = re.findall(r'<tr data-trial="(\d+)">(.*?)</tr>', html, re.S)
    assert sorted(int(number) for number, _ in rows) == list(range(20))
    scores = [re.search(r'<td data-sort="(0\.\d+|None)">', row)[1] for _, row in rows]  # type: ignore[index]
    assert scores[-2:] == ["None", "None"]
    assert scores[:-2] == sorted(scores[:-2], reverse=True)
    for number, row in rows:
        one = content["trials"][int(number)]
        assert f">{one['state']}" in row
        for value in one["values"].values():
            assert f">{short(value)}</td>".replace("'", "&#39;") in row
        assert row.count(">–</td>") >= len(content["paths"]) - len(one["values"])


def test_verdict_with_fresh_seeds(content: Content) -> None:
    best = content["best"]
    assert verdict(content).startswith(f"<strong>Trial {best}</strong> is best of 20 trials: mean")
    assert "against .549 of the default." in verdict(content)
    assert verdict(content).endswith(
        "against the default: no difference with 300 labels (+.012, p = .11) and better with all "
        "labels (+.012, p = .003)."
    )
    pair = content["finalists"]["comparisons"][1]
    pair |= {"a": "default", "b": f"trial {best}"}
    assert "worse with all labels (−.012, p = .003)" in verdict(content)
    content["finalists"]["comparisons"] = []
    assert verdict(content).endswith("On fresh seeds it was not compared with the default.")


def test_finalists_are_called_as_the_trials(content: Content) -> None:
    finalists, best = content["finalists"], content["best"]
    finalists["rows"][0]["name"] = f"trial-{best}"
    finalists["rows"][1]["values"] = {}
    for pair in finalists["comparisons"]:
        pair["a"] = f"trial-{best}"
    assert verdict(content).endswith("labels (+.012, p = .003).")
    text = Elements(page(content)).text
    assert f"Setting trial {best} default location. positional. kind" in text
    assert "optim. lr 0.000929 0.001" in text
    content["best"] = content["default"]
    assert f"tasks, trial {best} against the default: no difference with 300" in verdict(content)


def test_samples_that_could_not_be_used_are_counted(content: Content) -> None:
    assert "could not be used" not in page(content)
    content["trials"][3]["skipped"] = 2
    text = Elements(page(content)).text
    assert "shared by 20 trials; 2 samples could not be used" in text


def test_verdict_without(content: Content) -> None:
    content["finalists"] = None
    assert "part of its lead may be luck" in verdict(content)
    content |= {"best": 0}
    assert verdict(content).startswith("<strong>Trial 0</strong>, the default, is best of 20")
    content["trials"] = content["trials"][:1]
    assert verdict(content) == (
        "<strong>Trial 0</strong> is the only one that finished: mean probe score .549."
    )
    assert "No trial finished" in verdict(unfinished(content))
    content["trials"][0]["state"] = "running"
    assert "No trial has finished yet." in verdict(content | {"best": None})


def test_names_are_escaped(content: Content) -> None:
    trial(content, "failed")["error"] = BAD
    content["paths"][0]["values"].append(BAD)
    content["trials"][2]["values"][content["paths"][0]["path"]] = BAD
    for one in content["trials"]:
        one["values"][BAD] = {BAD: BAD}
    content["paths"].append({"path": BAD, "kind": "choice", "values": [], "when": {BAD: [BAD]}})
    content["importance"]["paths"][0]["path"] = BAD
    content["settings"]["note"] = content["about"] = content["finalists"]["verdict"] = BAD
    content["finalists"]["page"] = "javascript:alert(1)"
    elements = Elements(page(content))
    assert len(elements.of("script")) == 1
    assert BAD in elements.text
    assert "./javascript:alert(1)" in [a["href"] for a in elements.of("a")]


@pytest.mark.parametrize("many", [0, 1, 2])
def test_few_trials(content: Content, many: int) -> None:
    content |= {"trials": content["trials"][:many], "best": 0 if many else None}
    content |= {"importance": None, "finalists": None, "pareto": {}}
    text = Elements(page(content | {"default": None})).text
    assert "Too few trials to tell which settings matter." in text
    assert ("Learning curves" in text) == bool(many)


def test_no_finished_trial_and_no_number_is_nan(content: Content) -> None:
    text = Elements(page(unfinished(content))).text
    assert "There is no best configuration" in text
    for absent in ("Learning curves", "Score against cost", "Paired", "None", "nan"):
        assert absent not in text


def test_a_second_objective_is_named(content: Content) -> None:
    assert "Minimised" not in page(content)
    content["objective"]["minimize"] = ["parameters"]
    text = Elements(page(content)).text
    assert "Minimised parameters, beside the score" in text


def test_a_score_far_below_squeezes_no_axis() -> None:
    scores = [0.5, 0.52, 0.54, 0.56, 0.53, None]
    assert plots.score_axis(scores) == charts.linear([0.5, 0.56])
    axis = plots.score_axis([*scores, -1.0])
    assert axis is not None
    assert axis.low > 0.4
    assert plots.score_axis([None]) is None
    assert plots.score_axis([0.5, None]) == charts.linear([0.45, 0.55])


def test_lines_cross_the_axes_at_their_values(content: Content) -> None:
    trials, y = content["trials"], plots.score_axis(t["score"] for t in content["trials"])
    axes = parallel.coordinates(content["paths"], trials, y)
    lines = {line.trial["number"]: line for line in parallel.lines(axes, trials, y)}
    for number, line in lines.items():
        at = json.loads(line.at)
        assert len(at) == len(content["paths"]) + 1
        heights = [float(p.split(",")[1]) for p in line.points.split()][:: parallel.BENDS]
        for axis, height, found in zip(axes, heights, at, strict=True):
            value = {**trials[number]["values"], "": trials[number]["score"]}.get(axis.path)
            if found is None:
                assert height > parallel.LOW_END
            elif axis.scale is None:
                assert axis.options[found] == json.dumps(value)
                assert height == pytest.approx(axis.ticks[found].y, abs=parallel.SPREAD)
            else:
                assert height == pytest.approx(parallel.LOW_END * (1 - found), abs=0.1)
    better, worse = lines[content["best"]], lines[9]
    assert better.shade is not None
    assert worse.shade is not None
    assert better.shade > worse.shade
    assert lines[5].shade is None


def test_a_default_outside_the_space_is_shown(content: Content) -> None:
    """Also where a logarithmic axis has no place for it."""
    content["trials"][0]["values"] |= {"optim.lr": 0, "location.positional.degrees": 30}
    trials, y = content["trials"], plots.score_axis(t["score"] for t in content["trials"])
    axes = {axis.path: axis for axis in parallel.coordinates(content["paths"], trials, y)}
    assert axes["location.positional.degrees"].options == ("40", "30", "20", "10")
    assert axes["optim.lr"].find(0) == (parallel.LOW_END, 0)
    assert page(content)


def test_the_best_is_shown_first_also_below_a_stopped_one(content: Content) -> None:
    trial(content, "stopped")["score"] = 0.6
    first = re.search(r'data-panel="(\d+)">', page(content))
    assert first is not None
    assert int(first[1]) == content["best"]


def test_the_front_is_a_staircase(content: Content) -> None:
    trials, y = content["trials"], plots.score_axis(t["score"] for t in content["trials"])
    chart = plots.scatter(trials, "seconds", "seconds", content["pareto"]["seconds"], y)
    assert chart is not None
    corners = [tuple(map(float, p.split(","))) for p in chart.front.split()]
    assert corners == sorted(corners, key=lambda p: (p[0], -p[1]))
    assert len(chart.lines) == 18
    assert set(chart.on_front) == set(content["pareto"]["seconds"])


def test_words() -> None:
    assert [short(v) for v in (None, True, 3, 5e-5, "a b", {"k": [1, "x"]})] == (
        ["null", "true", "3", "5e−05", "a b", "{k: [1, x]}"]
    )
    assert override("a.b", "fourier") == "a.b=fourier"
    assert override("a.b", "true") == "'a.b=\"true\"'"
    assert override("a.b", 1e-3) == "a.b=0.001"
    assert [duration(s) for s in (34.12, 612.3, 11_100, None)] == (
        ["34.1 s", "10 min 12 s", "3 h 05 min", "–"]
    )
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert distinct(["a.b.kind", "a.c.kind", "lr"]) == (
        {"a.b.kind": "b.kind", "a.c.kind": "c.kind", "lr": "lr"}
    )


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_fits_the_window(
    visit: Callable[..., Any], content: Content, width: int, dark: bool
) -> None:
    content["paths"][0]["values"].append("a_long_name_" * 20)
    content["trials"][2]["values"][content["paths"][0]["path"]] = "a_long_name_" * 20
    trial(content, "failed")["error"] = "E" * 400
    shown = visit(content, width, dark=dark, touch=width < 600)
    assert shown.value("document.documentElement.scrollWidth") <= width
    paper = shown.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == dark


def test_pointing_at_a_line_shows_its_trial(visit: Callable[..., Any], content: Content) -> None:
    shown = visit(content)
    shown.value("byId('parallel').scrollIntoView({behavior: 'instant'})")
    x, y = shown.value(POINT.replace("NUMBER", "9"))
    shown.mouse("Moved", x, y)
    assert shown.value("chosen") == "9"
    panel = shown.value(
        "[...document.querySelectorAll('[data-panel]')].filter(p => !p.hidden)"
        ".map(p => p.textContent).join()"
    )
    assert "Trial 9: finished, score .394" in " ".join(panel.split())
    assert "535.6" in panel
    assert shown.value("document.querySelectorAll('polyline.on').length") == 4  # in every chart
    assert shown.value("document.querySelector('.n.chosen').textContent") == "9"


def test_a_tap_shows_a_trial_on_a_phone(visit: Callable[..., Any], content: Content) -> None:
    shown = visit(content, 390, 844, touch=True)
    shown.value("document.querySelector('#parallel .chart').scrollIntoView({behavior: 'instant'})")
    x, y = shown.value(POINT.replace("NUMBER", "0"))
    shown.fingers("Start", (x, y))
    shown.fingers("End")
    shown.wait("document.querySelector('polyline.on')?.dataset.trial === '0'")


def test_all_is_done_with_keys(visit: Callable[..., Any], content: Content) -> None:
    shown = visit(content)
    order = [t["number"] for t in plots.ranked(content["trials"])]
    shown.value("document.querySelector('#parallel .chart').focus()")
    assert shown.value("chosen") == str(order[0])
    shown.key("ArrowRight")
    shown.key("ArrowRight")
    assert shown.value("chosen") == str(order[2])
    shown.key("ArrowLeft")
    assert shown.value("chosen") == str(order[1])
    shown.value('document.querySelector(\'button[data-axis="0"][data-choice="2"]\').focus()')
    shown.key("Enter")
    wavelets = [
        t for t in content["trials"] if t["values"]["location.positional.kind"] == "wavelets"
    ]
    assert shown.value("byId('shown').textContent") == f"{len(wavelets)} of 20 trials"
    assert shown.value("chosen") in {str(t["number"]) for t in wavelets}


def test_filters_take_trials_out(visit: Callable[..., Any], content: Content) -> None:
    shown = visit(content)
    left = "[...document.querySelectorAll('tr[data-trial]:not(.out)')].map(r => +r.dataset.trial)"
    shown.value(
        "(input => { input.value = 0.5; input.dispatchEvent(new Event('input')) })"
        "(document.querySelector('fieldset[data-axis=\"7\"] [name=from]'))"
    )
    axis = plots.score_axis(t["score"] for t in content["trials"])
    assert axis is not None
    middle = (axis.low + axis.high) / 2
    high = {t["number"] for t in content["trials"] if (t["score"] or 0) >= middle}
    assert 0 < len(high) < 18
    assert set(shown.value(left)) == high
    shown.value("document.querySelector('button[data-axis=\"2\"][data-choice=null]').click()")
    harmonics = {n for n in high if "location.positional.degrees" in content["trials"][n]["values"]}
    assert set(shown.value(left)) == harmonics
    shown.value("byId('clear').click()")
    assert len(shown.value(left)) == 20


def test_the_table_is_sorted_by_a_click(visit: Callable[..., Any], content: Content) -> None:
    shown = visit(content)
    cells = "[...document.querySelectorAll('.all tbody tr')].map(r => r.cells[4].dataset.sort)"
    shown.value("document.querySelectorAll('.all thead button')[4].click()")
    seconds = [float(text) for text in shown.value(cells)]
    assert seconds == sorted(t["seconds"] for t in content["trials"])
    shown.value("document.querySelectorAll('.all thead button')[4].click()")
    assert [float(text) for text in shown.value(cells)] == seconds[::-1]
    shown.value("document.querySelectorAll('.all thead button')[4].click()")  # failed ones first
    parameters = cells.replace("[4]", "[5]")
    shown.value("document.querySelectorAll('.all thead button')[5].click()")
    assert shown.value(parameters)[-2:] == ["None", "None"]
    assert shown.value("document.querySelectorAll('[aria-sort]').length") == 1


def test_many_trials_and_none_open_and_print(visit: Callable[..., Any], content: Content) -> None:
    copies = [{**t, "number": 20 * i + t["number"]} for i in range(5) for t in content["trials"]]
    shown = visit(content | {"trials": copies})
    printed = shown.call("Page.printToPDF", preferCSSPageSize=True)["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")
    shown.close()
    assert visit(unfinished(content)).value("document.querySelectorAll('.chart').length") == 1


POINT = """(line => {
  const frame = line.ownerSVGElement.getBoundingClientRect(), p = line.points[6]
  return [frame.left + p.x * frame.width / 100, frame.top + p.y * frame.height / 100]
})(document.querySelector('#parallel [data-trial="NUMBER"]'))"""
