from pathlib import Path

import pytest

from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.places import PlacesSource, _coordinates, _plain


def test_without_any_source_there_are_no_texts(tmp_path: Path) -> None:
    source = PlacesSource(names=False, profiles=False, leads=False)
    with pytest.raises(SourceError, match="wiki: every source of texts is turned off"):
        source.observe(Context(modality="wiki", field="text", folder=tmp_path))


def test_coordinates_of_profiles() -> None:
    france = "<strong>metropolitan France:</strong> 46 00 N, 2 00 E <br><br>French Guiana: 4 00 N"
    assert _coordinates(france) == (2.0, 46.0)
    assert _coordinates("34 36 S, 58 30 W") == (-58.5, -34.6)
    assert _coordinates("none") is None
    assert _plain("<b>hot</b>,&nbsp;dry;  summers. ") == "hot ,\xa0dry; summers".replace(
        "\xa0", " "
    )
