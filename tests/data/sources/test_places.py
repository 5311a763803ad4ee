from pathlib import Path

import numpy as np
import pytest

from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.places import PlacesSource, _coordinates, _plain


def observe(folder: Path, **options: object) -> object:
    off = {"names": False, "profiles": False, "leads": False}
    source = PlacesSource(**{**off, **options})  # type: ignore[arg-type]
    return source.observe(Context(modality="wiki", field="text", folder=folder))


def test_a_table_of_texts(tmp_path: Path) -> None:
    (tmp_path / "wiki.csv").write_text(
        "lat,lon,text\n47.4,8.5,Zürich\n,,nowhere\n52.5,13.4,Berlin\n"
    )
    offered = observe(tmp_path, table="wiki.csv")
    assert offered.lonlat_deg.tolist() == [[8.5, 47.4], [13.4, 52.5]]
    assert offered.take(np.array([1, 0]))["text"] == ["Berlin", "Zürich"]
    assert offered.layout == "samples"
    assert offered.dropped == {"no coordinates": 1}


def test_a_missing_text_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "wiki.csv").write_text("lat,lon,body\n47.4,8.5,Zürich\n")
    with pytest.raises(
        SourceError, match="no column `text` for the text; set `text_column` to one"
    ):
        observe(tmp_path, table="wiki.csv")
    with pytest.raises(SourceError, match="wiki: every source of texts is turned off"):
        observe(tmp_path)


def test_coordinates_of_profiles() -> None:
    france = "<strong>metropolitan France:</strong> 46 00 N, 2 00 E <br><br>French Guiana: 4 00 N"
    assert _coordinates(france) == (2.0, 46.0)
    assert _coordinates("34 36 S, 58 30 W") == (-58.5, -34.6)
    assert _coordinates("none") is None
    assert _plain("<b>hot</b>,&nbsp;dry;  summers. ") == "hot ,\xa0dry; summers".replace(
        "\xa0", " "
    )
