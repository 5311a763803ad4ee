"""Six continents by coarse outlines of our own: to hold one out, not to settle a border.

Outlines run through the sea wherever they can, so that islands go with the nearest coast, and are
coarse on land: Suez, the Aegean coast, Bosporus, Caucasus, the rivers and mountains Ural, Darién.
Cyprus is Asia's, the Canaries are Africa's, all New Guinea is Oceania's, the Caribbean but Trinidad
is North America's, and Antarctica is dealt out along meridians.
"""

import numpy as np
from numpy.typing import NDArray

from raytrain.geo import Array

CONTINENTS = ("Africa", "Asia", "Europe", "North America", "Oceania", "South America")

ONE_TURN = np.array([360.0, 0.0])

# Closed outlines of (lon, lat) in degrees, tried in this order: where two overlap the first holds,
# so each border is drawn once. Longitudes go on beyond 180 where an outline crosses the dateline.
# What lies in none is Asia.
_OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "Africa": (
        # the middle of the Mediterranean
        *((-35, 36), (-6, 35.95), (-2, 36), (4, 38), (8.5, 38), (11, 37.5), (12.4, 36.2)),
        *((13.5, 35), (20, 34), (26, 33.5), (30, 33), (32.5, 32)),
        # Suez, the Red Sea and the Gulf of Aden
        *((32.4, 31.2), (32.55, 29.9), (33.3, 28.5), (34.1, 27.6), (35.5, 25.5), (37.5, 22)),
        *((40, 17.5), (41.8, 15), (42.9, 13.2), (43.35, 12.5), (45, 11.9), (51.5, 13), (54, 14)),
        # the Indian Ocean, the pole, the Atlantic
        *((66, 0), (66, -90), (-20, -90), (-20, -5), (-26, 5), (-40, 20)),
    ),
    "Europe": (
        # within Africa, then the Aegean and the Marmara Sea
        *((-35, 30), (26, 30), (28.8, 35.5), (28.3, 36.6), (27.35, 36.97), (27.1, 37.75)),
        *((26.2, 38.35), (26.65, 39.2), (25.9, 39.7), (26.2, 40.04), (26.55, 40.3), (27, 40.5)),
        *((28.5, 40.75), (29, 41), (29.1, 41.25)),
        # the Black Sea, the Caucasus, the Caspian Sea
        *((31, 42.5), (36, 43.3), (38.5, 43), (40, 43.4), (42.4, 43.3), (44.5, 42.7), (46, 42)),
        *((47.8, 41.3), (48.8, 41.9), (50, 43.5), (51, 46.5)),
        # the rivers Ural, the mountains Ural, the Kara Sea
        *((51.5, 51.2), (58.5, 51.3), (59.3, 54.5), (59, 58), (59.3, 61), (60.2, 64.5)),
        *((65.5, 67.3), (66.5, 68.6), (62, 71), (72, 77.5), (72, 90)),
        # west of Svalbard and Iceland
        *((-6, 90), (-6, 80), (-15, 73), (-20, 69), (-28, 66.8), (-36, 62), (-40, 58), (-38, 50)),
    ),
    "South America": (
        # the Pacific, Darién, the Caribbean coast, the Atlantic
        *((245, 5), (272, 3), (279, 5), (282.1, 7.2), (282.6, 8.7), (283.5, 10.5), (285, 12.2)),
        *((288, 13), (296, 11.7), (310, 12), (320, 20), (345, 20), (345, -90), (258, -90)),
        *((258, -15),),
    ),
    "North America": (
        # the Bering Sea, the Pacific north and east of Hawaii; the rest within its neighbours
        *((191, 90), (191, 66), (189, 64.7), (187.3, 63.8), (180, 58), (169, 54), (170, 45)),
        *((200, 34), (230, 31), (238, 15), (245, -5), (330, -5), (330, 50), (355, 60), (355, 90)),
    ),
    "Oceania": (
        # south of Indonesia, west of New Guinea, east of the Philippines and Japan
        *((66, -90), (66, -30), (90, -9), (108, -9.5), (118, -11.2), (124, -11.2), (128, -9.5)),
        *((132.5, -8.5), (133.3, -6.5), (131.5, -4.5), (131.2, -3), (129.3, -2), (129.2, 1)),
        *((131, 8), (131, 12), (140, 21.5), (150, 22), (165, 30), (170, 33)),
        # the rest within the Americas
        *((240, 33), (260, 0), (260, -90)),
    ),
}


def continents(lonlat_deg: Array) -> NDArray[np.int64]:
    """The continent of each place [n, 2], as an index [n] into CONTINENTS."""
    found = np.full(len(lonlat_deg), CONTINENTS.index("Asia"))
    for name, outline in reversed(_OUTLINES.items()):
        corners = np.array(outline, float)
        within = _inside(lonlat_deg, corners) | _inside(lonlat_deg + ONE_TURN, corners)
        found[within] = CONTINENTS.index(name)
    return found


def _inside(lonlat_deg: Array, corners: Array) -> NDArray[np.bool_]:
    """Which places [n, 2] lie in the polygon of corners [k, 2] on the flat map: a ray to the east
    crosses its sides an odd number of times."""
    lon, lat = lonlat_deg.T
    inside = np.zeros(len(lon), bool)
    for (lon_a, lat_a), (lon_b, lat_b) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if lat_a != lat_b:
            side = lon_a + (lat - lat_a) * (lon_b - lon_a) / (lat_b - lat_a)
            inside ^= ((lat_a > lat) != (lat_b > lat)) & (lon < side)
    return inside
