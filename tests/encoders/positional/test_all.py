"""What holds for every positional encoding."""

import numpy as np
import pytest
import torch

from raytrain.encoders.positional import (
    ConcatConfig,
    DirectConfig,
    FourierConfig,
    HashGridConfig,
    HEALPixConfig,
    NeRFConfig,
    PositionalConfig,
    PositionalEncoding,
    RBFConfig,
    Sphere2VecConfig,
    SphericalHarmonicsConfig,
    VoronoiConfig,
    WrapConfig,
)
from raytrain.geo import Array
from raytrain.settings import SettingsError, build, to_dict

ON_THE_SPHERE: list[PositionalConfig] = [
    SphericalHarmonicsConfig(degrees=12),
    DirectConfig(),
    FourierConfig(),
    NeRFConfig(),
    RBFConfig(),
    VoronoiConfig(sites=100, features=20),
    HEALPixConfig(max_order=4),
    HashGridConfig(finest=64),
    ConcatConfig(parts=(DirectConfig(), HEALPixConfig(max_order=2))),
]
POLES_ARE_LINES: list[PositionalConfig] = [WrapConfig(), Sphere2VecConfig()]
TORN_AT_THE_DATELINE: list[PositionalConfig] = [
    FourierConfig(projection="equal_earth", sigmas=(1.0, 16.0)),
    Sphere2VecConfig(whole=False),
]
ALL = [*ON_THE_SPHERE, *POLES_ARE_LINES, *TORN_AT_THE_DATELINE]


def made(config: PositionalConfig) -> PositionalEncoding:
    torch.manual_seed(0)
    return config.build()


def along(lon_deg: Array | float, lat_deg: Array | float) -> torch.Tensor:
    return torch.from_numpy(np.stack(np.broadcast_arrays(lon_deg, lat_deg), axis=1).astype(float))


@pytest.mark.parametrize("config", ALL, ids=str)
def test_columns_are_finite_float32_and_the_same_in_any_batch(
    config: PositionalConfig, hard_places: Array
) -> None:
    encoding, places = made(config), torch.from_numpy(hard_places)
    columns = encoding(places)
    assert columns.dtype == torch.float32
    assert columns.shape == (len(places), encoding.dim)
    assert encoding.dim == sum(encoding.parts)
    assert torch.isfinite(columns).all()
    torch.testing.assert_close(columns[3:4], encoding(places[3:4]), atol=2e-5, rtol=1e-5)
    assert encoding(places[:0]).shape == (0, encoding.dim)


def same(config: PositionalConfig, device: str) -> float:
    """How far columns under bfloat16 autocast on a device may be from those on the CPU without."""
    if isinstance(config, VoronoiConfig):
        return 0.05  # a mixture of features of about 1, in bfloat16: trained so, 8 bits suffice
    if isinstance(config, FourierConfig) and config.projection == "equal_earth":
        return 2e-3 if device == "cuda" else 1e-6  # float32 phases of hundreds of radians
    return 2e-6


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("config", ALL, ids=str)
def test_training_in_bfloat16_does_not_round_positions(
    config: PositionalConfig, device: str, hard_places: Array
) -> None:
    encoding, places = made(config), torch.from_numpy(hard_places)
    expected = encoding(places)
    with torch.autocast(device, torch.bfloat16):
        columns = encoding.to(device)(places.to(device)).cpu()
    assert (columns - expected).abs().max() < same(config, device)


@pytest.mark.gpu
@pytest.mark.parametrize("config", ALL, ids=str)
def test_a_gpu_gives_the_columns_of_a_cpu(config: PositionalConfig, hard_places: Array) -> None:
    encoding, places = made(config), torch.from_numpy(hard_places)
    expected = encoding(places)
    columns = encoding.cuda()(places.cuda())
    assert columns.dtype == torch.float32
    limit = 2e-5 if isinstance(config, VoronoiConfig) else same(config, "cuda")
    assert (columns.cpu() - expected).abs().max() < limit


@pytest.mark.parametrize("config", [*ON_THE_SPHERE, *POLES_ARE_LINES], ids=str)
def test_the_dateline_is_no_seam(config: PositionalConfig) -> None:
    encoding, lat_deg = made(config), np.linspace(-90, 90, 61)
    west, east = encoding(along(-180.0, lat_deg)), encoding(along(180.0, lat_deg))
    assert (west - east).abs().max() < 1e-5
    close = encoding(along(179.9999999, lat_deg))
    assert (west - close).abs().max() < 1e-5


@pytest.mark.parametrize("config", ON_THE_SPHERE, ids=str)
@pytest.mark.parametrize("lat_deg", [90.0, -90.0])
def test_all_longitudes_are_alike_at_a_pole(config: PositionalConfig, lat_deg: float) -> None:
    encoding, lon_deg = made(config), np.linspace(-180, 180, 41)
    at_pole = encoding(along(lon_deg, lat_deg))
    assert (at_pole - at_pole[:1]).abs().max() < 1e-5
    close = encoding(along(lon_deg, lat_deg * (1 - 1e-10)))
    assert (close - at_pole).abs().max() < 1e-5


@pytest.mark.parametrize("config", [*POLES_ARE_LINES, *TORN_AT_THE_DATELINE], ids=str)
def test_poles_are_lines_where_the_formula_makes_them(config: PositionalConfig) -> None:
    at_pole = made(config)(along(np.linspace(-180, 180, 41), 90.0))
    assert (at_pole - at_pole[:1]).abs().max() > 0.1


@pytest.mark.parametrize("config", TORN_AT_THE_DATELINE, ids=str)
def test_the_dateline_is_a_seam_where_the_formula_makes_one(config: PositionalConfig) -> None:
    encoding, lat_deg = made(config), np.linspace(-80, 80, 41)
    assert (encoding(along(-180.0, lat_deg)) - encoding(along(180.0, lat_deg))).abs().max() > 0.1


@pytest.mark.parametrize("config", ALL, ids=str)
def test_settings_come_back_from_what_is_saved(config: PositionalConfig) -> None:
    assert build(ConcatConfig, {"parts": [to_dict(config)]}).parts == (config,)


def test_concatenation_is_side_by_side(hard_places: Array) -> None:
    members = (DirectConfig(), FourierConfig(sigmas=(1.0, 2.0), frequencies=3), WrapConfig())
    encoding, places = made(ConcatConfig(parts=members)), torch.from_numpy(hard_places)
    assert encoding.parts == (3, 6, 6, 4)
    torch.testing.assert_close(encoding(places)[:, :3], made(members[0])(places))
    torch.testing.assert_close(encoding(places)[:, -4:], made(members[2])(places))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "parts is empty"),
        ([{"degrees": 3}], r"location.parts.0: `kind` is required"),
        ([{"kind": "direct"}, {"kind": "nerf", "scale": 3}], r"parts.1.scale`; did you mean"),
        ([{"kind": "concat", "parts": [{"kind": "healpics"}]}], "did you mean `healpix`"),
    ],
    ids=str,
)
def test_a_bad_part_is_named_with_its_path(parts: list[object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build(ConcatConfig, {"parts": parts}, "location")
