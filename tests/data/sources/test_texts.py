from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from in_memory import in_memory

from raytrain.data.cards import load_card
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.texts import TextSource

ROWS = """title,lat,lon,body
Zürich,47.4,8.5,"A city
on a lake, ""large"" for Switzerland"
nowhere,,,lost
Berlin,52.5,13.4, A capital
mute,1,2,"  "
"""


def context(folder: Path) -> Context:
    (folder / "wiki.csv").write_text(ROWS)
    return Context(modality="wiki", field="text", folder=folder)


def test_a_table_of_texts(tmp_path: Path) -> None:
    source = TextSource(file="wiki.csv", column="body", title="title")
    offered = in_memory(source, context(tmp_path))
    assert offered.lonlat_deg.tolist() == [[8.5, 47.4], [13.4, 52.5]]
    zurich = 'A city\non a lake, "large" for Switzerland'
    assert offered.take(np.array([1, 0]))["text"] == [" A capital", zurich]
    assert offered.layout == "samples"
    assert offered.dropped == {"no coordinates": 1, "no text": 1}


def test_rows_are_called_by_their_titles(tmp_path: Path) -> None:
    wiki = context(tmp_path)
    for title, keys in ((None, "wiki.csv row 1"), ("title", "Zürich")):
        source = TextSource(file="wiki.csv", column="body", title=title)
        (part,) = source.parts(wiki)
        (rows,) = source.rows(part, wiki)
        assert rows["key"][0].as_py() == keys


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    for options, message in (
        ({}, r"no column `text`; set `source\.column` to one of: title, lat, lon, body"),
        ({"column": "body", "title": "name"}, r"no column `name`; set `source\.title` to one of"),
        ({"column": "body", "lon": "x"}, r"no column `x`; set `source\.lon` to one of: title"),
    ):
        with pytest.raises(SourceError, match=message):
            TextSource(file="wiki.csv", **options).parts(context(tmp_path))


def test_the_texts_of_earth_mini_are_those_of_its_table() -> None:
    card = load_card("text")
    source = card.source_for("earth-mini")
    assert isinstance(source, TextSource)
    texts = in_memory(source, Context(modality="text", field="text", folder=card.folder))
    table = pd.read_csv(card.folder / "earth-mini" / "places.csv.gz")
    assert texts.take(np.arange(len(table)))["text"] == table["text"].tolist()
    np.testing.assert_allclose(texts.lonlat_deg, table[["lon", "lat"]], rtol=0, atol=1e-12)
    assert texts.dropped == {}
