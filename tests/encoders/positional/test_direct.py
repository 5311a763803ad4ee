import numpy as np
import torch

from raytrain.encoders.positional.direct import Direct, Wrap
from raytrain.geo import Array, great_circle_km, unit_xyz


def test_direct_is_the_unit_vector(hard_places: Array) -> None:
    ours = Direct()(torch.from_numpy(hard_places)).numpy()
    np.testing.assert_allclose(ours, unit_xyz(hard_places), atol=6e-8)


def test_distances_are_chords(hard_places: Array) -> None:
    ours = Direct()(torch.from_numpy(hard_places)).double().numpy()
    chord = np.linalg.norm(ours - ours[:1], axis=1)
    radians = great_circle_km(hard_places, hard_places[:1]) / 6371.0088
    np.testing.assert_allclose(chord, 2 * np.sin(radians / 2), atol=3e-7)


def test_wrap_is_as_published(hard_places: Array) -> None:
    lon, lat = hard_places.T
    columns = [
        np.sin(np.pi * lon / 180),
        np.cos(np.pi * lon / 180),
        np.sin(np.pi * lat / 90),
        np.cos(np.pi * lat / 90),
    ]
    ours = Wrap()(torch.from_numpy(hard_places)).numpy()
    np.testing.assert_allclose(ours, np.stack(columns, axis=1), atol=6e-8)
    north, south = Wrap()(torch.tensor([[7.0, 90.0], [7.0, -90.0]]).double())
    torch.testing.assert_close(north, south)  # the known flaw
