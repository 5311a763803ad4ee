"""HEALPix (Górski et al. 2005): equal-area pixels of the sphere, in ring order, and interpolation.

`nside` (pixels along a side of each of the 12 base pixels) is a power of two here, though nothing
below needs it. There are 4 nside - 1 rings of constant latitude, counted from the north.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor


class Rings(NamedTuple):
    """Rings by number, all tensors of one shape: the first pixel, how many pixels there are, the
    colatitude in radians, and by how much of a pixel the first one's centre lies east of lon 0."""

    start: Tensor
    length: Tensor
    colatitude: Tensor
    shift: Tensor


def neighbours(
    lonlat_deg: Float64[Tensor, "n 2"], nside: Int64[Tensor, "k 1"]
) -> tuple[Int64[Tensor, "4 k n"], Float64[Tensor, "4 k n"]]:
    """The four pixels to interpolate between at places, for each nside, and their weights, >= 0 and
    of sum 1: linear along the two nearest rings and then in latitude between them, as healpy does.
    Between a pole and the first ring, the pole counts as the mean of that ring's four pixels.
    """
    turn = (lonlat_deg[:, 0] / 360).remainder(1.0)
    colatitude = torch.deg2rad(90 - lonlat_deg[:, 1])
    last = 4 * nside - 1
    above = _ring_above(colatitude, nside)  # k n, 0 .. last
    north, south = above == 0, above == last
    upper, lower = (_rings(i.clamp(1), nside) for i in (above, torch.minimum(above + 1, last)))
    west_upper, east_upper, share_upper = _along(turn, upper)
    west_lower, east_lower, share_lower = _along(turn, lower)

    # At a pole both rings are the same one: the other two of its four pixels make the pole.
    opposite = (2 * north.long(), 2 * south.long())
    pixels = [
        upper.start + (west_upper + opposite[0]) % upper.length,
        upper.start + (east_upper + opposite[0]) % upper.length,
        lower.start + (west_lower + opposite[1]) % lower.length,
        lower.start + (east_lower + opposite[1]) % lower.length,
    ]
    top = torch.where(north, 0.0, upper.colatitude)
    bottom = torch.where(south, math.pi, lower.colatitude)
    down = (colatitude - top) / (bottom - top)  # 0 at the upper ring, 1 at the lower
    pole = torch.where(north, 1 - down, 0.0) + torch.where(south, down, 0.0)
    on_upper = torch.where(north, 0.0, 1 - down)
    on_lower = torch.where(south, 0.0, down)
    weights = [
        on_upper * (1 - share_upper),
        on_upper * share_upper,
        on_lower * (1 - share_lower),
        on_lower * share_lower,
    ]
    return torch.stack(pixels), torch.stack(weights) + pole / 4


def _ring_above(colatitude: Tensor, nside: Tensor) -> Tensor:
    """Number [k, n] of the last ring at or north of each place, 0 where there is none."""
    z = colatitude.cos()
    from_pole = math.sqrt(6) * (torch.minimum(colatitude, math.pi - colatitude) / 2).sin()
    belt = nside * (2 - 1.5 * z)
    cap = nside * from_pole  # nside sqrt(3 (1 - |z|))
    ring = torch.where(z.abs() <= 2 / 3, belt, torch.where(z > 0, cap, 4 * nside - cap))
    return ring.floor().long().clamp(min=0).minimum(4 * nside - 1)


def _rings(i: Tensor, nside: Tensor) -> Rings:
    """Rings of number i, 1 .. 4 nside - 1."""
    from_pole = torch.minimum(i, 4 * nside - i)
    in_cap, southern = from_pole < nside, i > 2 * nside
    cap_z = 1 - from_pole.double() ** 2 / (3 * nside**2)
    belt_z = (2 * nside - i).double() * 2 / (3 * nside)
    z = torch.where(in_cap, torch.where(southern, -cap_z, cap_z), belt_z)
    cap_start = torch.where(
        southern,
        12 * nside**2 - 2 * from_pole * (from_pole + 1),
        2 * from_pole * (from_pole - 1),
    )
    belt_start = 2 * nside * (nside - 1) + (i - nside) * 4 * nside
    return Rings(
        torch.where(in_cap, cap_start, belt_start),
        4 * torch.where(in_cap, from_pole, nside),
        z.acos(),
        torch.where(in_cap | ((i - nside) % 2 == 0), 0.5, 0.0),
    )


def _along(turn: Tensor, rings: Rings) -> tuple[Tensor, Tensor, Tensor]:
    """In each ring the pixels whose centres lie west and east of a place, counted from the ring's
    first, and how far the place is on the way to the east one, 0 to 1."""
    position = turn * rings.length - rings.shift
    west = position.floor()
    share = position - west
    return west.long() % rings.length, (west.long() + 1) % rings.length, share
