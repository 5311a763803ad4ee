import numpy as np

from raytrain.data.sources.land import land_mask
from raytrain.geo import raster_pixels
from raytrain.maps.places import places_map
from raytrain.maps.projection import equal_earth_xy


def test_samples_are_bright_where_they_are() -> None:
    cells = np.zeros((180, 360), np.int64)
    many, few = np.array([[-150.0, -30.0]]), np.array([[40.0, -30.0]])  # both at sea
    for place, samples in ((many, 1000), (few, 1)):
        row, column = (index.item() for index in raster_pixels(place, 180, 360))
        cells[row - 1 : row + 2, column - 1 : column + 2] = samples
    picture = places_map({"one": cells}, land=land_mask(), width=880)
    pixels = np.asarray(picture, float)
    height = round(800 * 0.4867)

    def colour(place: np.ndarray) -> float:
        (x,), (y,) = equal_earth_xy(place, 800, height)
        return float(pixels[84 + 34 + round(y), 40 + round(x)].sum())

    land, sea = np.array([[25.0, 0.0]]), np.array([[-120.0, 0.0]])
    assert colour(many) > 2 * colour(few) > 2 * colour(land) > 2 * colour(sea)


def test_every_modality_has_a_panel() -> None:
    cells = np.zeros((180, 360), np.int64)
    sizes = [
        places_map({str(n): cells for n in range(count)}, land=land_mask(), width=240).size
        for count in (1, 2, 3)
    ]
    assert {width for width, _ in sizes} == {240}
    assert sizes[1][1] < sizes[0][1]  # two share a row
    assert sizes[1][1] < sizes[2][1]
