import numpy as np
import torch

from raytrain.encoders.positional.direct import Direct
from raytrain.geo import Array, unit_xyz


def test_direct_is_the_unit_vector(hard_places: Array) -> None:
    ours = Direct()(torch.from_numpy(hard_places)).numpy()
    np.testing.assert_allclose(ours, unit_xyz(hard_places), atol=6e-8)
