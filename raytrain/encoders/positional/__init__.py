"""Positional encodings: places to the numbers that a location encoder's network reads."""

from raytrain.encoders.positional.direct import DirectConfig
from raytrain.encoders.positional.harmonics import SphericalHarmonicsConfig

PositionalConfig = SphericalHarmonicsConfig | DirectConfig

__all__ = ["DirectConfig", "PositionalConfig", "SphericalHarmonicsConfig"]
