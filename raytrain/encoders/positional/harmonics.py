"""Spherical harmonics: exact, smooth everywhere, and fast to high degrees."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from raytrain.encoders.positional.encoding import PositionalEncoding


@dataclass(frozen=True, kw_only=True)
class SphericalHarmonicsConfig:
    """Spherical harmonics of degree l < `degrees` (SatCLIP's "legendre polynomials"), 1 to 100."""

    kind: Literal["spherical_harmonics"] = "spherical_harmonics"
    degrees: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.degrees <= 100:
            raise ValueError(f"degrees is {self.degrees}; choose 1 to 100")

    def build(self) -> "SphericalHarmonics":
        return SphericalHarmonics(self.degrees)


class SphericalHarmonics(PositionalEncoding):
    """Real orthonormal spherical harmonics; column l² + l + m is Y_lm, m from -l to l.

    No Condon-Shortley sign: Y_11 is positive at (0, 0). m < 0 are sines of |m| lon, m > 0 cosines.
    The integral of Y_lm Y_l'm' over the sphere is 1 for the same l, m and 0 otherwise, so values
    reach about sqrt(2l + 1) / 3.5.

    Computed in float64 and rounded once to float32, in blocks. On a CPU by the forward recurrence
    over l (Holmes and Featherstone 2002, equations 11 to 13), for all m of a row at once; a float32
    recurrence loses three digits near the poles by l = 40 and is no faster. On a GPU, where each of
    its hundreds of small steps waits to be launched, by two matrix products. Lon 180 and -180 give
    the same bits. There is no gradient to coordinates.
    """

    _grow: Tensor
    _back: Tensor
    _orders: Tensor
    _cosines: Tensor
    _sines: Tensor
    _legendre_of: Tensor
    _wave_of: Tensor

    def __init__(self, degrees: int) -> None:
        super().__init__(degrees**2)
        self.degrees = degrees
        l = torch.arange(degrees, dtype=torch.float64)[:, None, None]  # noqa: E741 (the field's name)
        m = torch.arange(degrees, dtype=torch.float64)[None, :, None]
        grow = ((4 * l**2 - 1) / (l**2 - m**2)).clamp(min=0).sqrt()
        back = grow * (((l - 1) ** 2 - m**2) / (4 * (l - 1) ** 2 - 1)).clamp(min=0).sqrt()
        self.register_buffer("_grow", grow, persistent=False)  # [l, m, 1], used for m < l
        self.register_buffer("_back", back, persistent=False)  # [l, m, 1], used for m < l - 1
        self.register_buffer("_orders", m[0], persistent=False)
        for name, table in self._series().items():
            self.register_buffer(name, table, persistent=False)

    @torch.no_grad()
    def forward(self, lonlat_deg: Float64[Tensor, "n 2"]) -> Float32[Tensor, "n columns"]:
        if torch.compiler.is_exporting():
            return self._as_graph(lonlat_deg)
        n, device = len(lonlat_deg), lonlat_deg.device
        columns = torch.empty(self.dim, n, dtype=torch.float32, device=device)
        if device.type != "cpu":
            block = 2**26 // self.dim  # bounds memory to about a gigabyte; fills a GPU
            for start in range(0, n, block):
                points = lonlat_deg[start : start + block]
                self._fill_by_series(columns[:, start : start + block], points)
            return columns.T
        block = 2048  # fits a core's cache
        rows = torch.empty(3, self.degrees, min(n, block), dtype=torch.float64)
        for start in range(0, n, block):
            points = lonlat_deg[start : start + block]
            self._fill(columns[:, start : start + block], points, rows[:, :, : len(points)])
        return columns.T

    def _fill(self, columns: Tensor, lonlat_deg: Tensor, rows: Tensor) -> None:
        """Write the harmonics of one block of points [b, 2] to columns [L², b]. `rows` [3, L, b]
        take the Legendre rows l, l - 1 and l - 2; every l and block uses them again."""
        sin_lat, cos_lat, cosines, sines = self._waves(lonlat_deg)
        last = self.degrees - 1
        for l in range(self.degrees):  # noqa: E741
            legendre, one_back, two_back = rows[l % 3], rows[(l - 1) % 3], rows[(l - 2) % 3]
            if l == 0:
                legendre[0] = math.sqrt(1 / (4 * math.pi))
            else:
                torch.mul(one_back[:l], sin_lat, out=legendre[:l]).mul_(self._grow[l, :l])
                legendre[: l - 1].addcmul_(two_back[: l - 1], self._back[l, : l - 1], value=-1)
                torch.mul(one_back[l - 1], cos_lat, out=legendre[l])
                legendre[l] *= math.sqrt((2 * l + 1) / (2 * l))
            row = legendre[: l + 1].float()
            middle = l**2 + l
            torch.mul(row, cosines[: l + 1], out=columns[middle : middle + l + 1])
            torch.mul(row[1:].flip(0), sines[last - l : last], out=columns[l**2 : middle])

    def _fill_by_series(self, columns: Tensor, lonlat_deg: Tensor) -> None:
        """The same within 1e-11 before it is rounded, by some twenty kernels for any L. In float64,
        which neither autocast nor TF32 touches."""
        _, _, cosines, sines = self._waves(lonlat_deg)
        angles = self._orders * torch.deg2rad(lonlat_deg[:, 1])
        legendre = torch.cat([self._cosines @ angles.cos(), self._sines @ angles.sin()]).float()
        waves = torch.cat([sines[:-1], cosines])  # by m from 1 - L to L - 1
        torch.mul(legendre[self._legendre_of], waves[self._wave_of], out=columns)

    def _series(self) -> dict[str, Tensor]:
        """The Fourier series in latitude of the Legendre functions, which have no frequency above
        l: of cosines alone where l - m is even, else of sines. Matrices [functions, L], and which
        of the functions, and of the waves in longitude, each of the L² columns is a product of."""
        degrees = self.degrees
        step = math.pi / degrees
        lat = step * torch.arange(2 * degrees, dtype=torch.float64)  # a whole turn, over the poles
        functions = torch.cat([*self._legendre(lat.sin(), lat.cos())])
        series = torch.fft.rfft(functions, norm="forward")[:, :degrees]
        series[:, 1:] *= 2
        l, m = torch.tril_indices(degrees, degrees)  # noqa: E741 (of the functions in their order)
        even = (l - m) % 2 == 0
        place = torch.empty_like(l)
        place[torch.cat([even.nonzero(), (~even).nonzero()])[:, 0]] = torch.arange(len(l))
        degree = torch.arange(degrees).repeat_interleave(2 * torch.arange(degrees) + 1)
        wave = torch.arange(degrees**2) - degree * (degree + 1)
        return {
            "_cosines": series.real[even],
            "_sines": -series.imag[~even],
            "_legendre_of": place[degree * (degree + 1) // 2 + wave.abs()],
            "_wave_of": wave + degrees - 1,
        }

    def _as_graph(self, lonlat_deg: Tensor) -> Tensor:
        """The same for any number of points at once, for torch.export: a graph has neither blocks
        nor buffers to write to. A third slower than `_fill`, where both can be had."""
        sin_lat, cos_lat, cosines, sines = self._waves(lonlat_deg)
        last, columns = self.degrees - 1, list[Tensor]()
        for l, legendre in enumerate(self._legendre(sin_lat, cos_lat)):  # noqa: E741
            row = legendre.float()
            columns += [row[1:].flip(0) * sines[last - l : last], row * cosines[: l + 1]]
        return torch.cat(columns[1:]).T

    def _legendre(self, sin_lat: Tensor, cos_lat: Tensor) -> Iterator[Tensor]:
        """The normalised Legendre functions [l + 1, b] of degree l, m from 0 to l, for each l."""
        one_back = two_back = torch.full_like(sin_lat, math.sqrt(1 / (4 * math.pi)))[None]
        yield one_back
        for l in range(1, self.degrees):  # noqa: E741
            inner = one_back * sin_lat * self._grow[l, :l]
            below = inner[: l - 1] - two_back[: l - 1] * self._back[l, : l - 1]
            edge = one_back[l - 1 :] * cos_lat * math.sqrt((2 * l + 1) / (2 * l))
            one_back, two_back = torch.cat([below, inner[l - 1 :], edge]), one_back
            yield one_back

    def _waves(self, lonlat_deg: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """sin and cos of latitude [b]; sqrt(2) cos(m lon), 1 for m = 0, for m = 0 .. L - 1, and
        sqrt(2) sin(m lon) for m = L - 1 .. 0, both [L, b] in float32."""
        lon_deg, lat = lonlat_deg[:, 0], torch.deg2rad(lonlat_deg[:, 1])
        angles = self._orders * torch.deg2rad(torch.where(lon_deg == 180, -180.0, lon_deg))
        cosines = (math.sqrt(2) * angles.cos()).float()
        cosines[0] = 1.0
        return lat.sin(), lat.cos(), cosines, (math.sqrt(2) * angles.sin()).float().flip(0)
