"""Places whose observation is what another location encoder knows of them."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

import raytrain
from raytrain import geo
from raytrain.data.cards import load_card
from raytrain.data.preparation import prepare
from raytrain.data.shards import read_shard
from raytrain.data.sources.encoders import EncoderSource
from raytrain.data.sources.files import Context
from raytrain.data.sources.land import land_mask
from raytrain.encoders.weights import WeightsError


def test_the_embedding_of_places_on_land(tmp_path: Path) -> None:
    card = tmp_path / "peer.yaml"
    card.write_text("field: embedding\nsource: {kind: encoder, encoder: earth, places: 300}\n")
    made = prepare(load_card(str(card)), str(tmp_path))
    read = partial(read_shard, made.url, fields=made.manifest.fields)
    shards = [read(shard)[0] for shard in made.manifest.shards]
    places = np.concatenate([shard["lonlat"] for shard in shards])
    assert len(places) == 300
    assert land_mask()[geo.raster_pixels(places, *land_mask().shape)].all()
    assert places[:, 1].min() > -60
    expected = raytrain.load("earth").encode(*places.T)
    found = np.concatenate([shard["embedding"] for shard in shards])
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert made.manifest.source["encoder"] == "earth"


def test_an_encoder_that_is_not_there(tmp_path: Path) -> None:
    context = Context(modality="peer", field="embedding", folder=tmp_path)
    with pytest.raises(WeightsError, match="nobody"):
        EncoderSource(encoder=f"{tmp_path}/nobody").observe(context)
