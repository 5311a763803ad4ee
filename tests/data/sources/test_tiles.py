import sys
from collections import Counter
from pathlib import Path

import layouts
import numpy as np
import pyarrow as pa
import pytest
from layouts import encoded, tiff, tile
from PIL import Image

from raytrain import storage
from raytrain.data.rows import KEY, LAT, LON, REASON
from raytrain.data.shards import SAMPLES
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.tiles import TilesSource

PLACES = np.random.default_rng(0).uniform(-60, 60, (12, 2)).round(6)
INDEX = [(f"patch_{n}.tif", *PLACES[n]) for n in range(12)]


def context(folder: Path) -> Context:
    return Context(modality="satellite", field="tile", folder=folder)


def all_rows(source: TilesSource, where: Context) -> pa.Table:
    return pa.concat_tables(
        [rows for part in source.parts(where) for rows in source.rows(part, where)]
    )


def good(rows: pa.Table) -> pa.Table:
    return rows.filter(pa.compute.is_null(rows[REASON])).sort_by(KEY)


def faults(rows: pa.Table) -> dict[str, int]:
    return dict(Counter(filter(None, rows[REASON].to_pylist())))


def s2_100k(folder: Path, tars: int) -> None:
    """As published: `index.csv` beside tars of `images/patch_N.tif`; 12 tiles, of which 10 are
    there, and one more; number 3 is broken, number 5 is truncated, number 8 is smaller."""
    tiles = {f"patch_{n}.tif": tiff(tile(n), compress="deflate", predictor=2) for n in range(10)}
    tiles["patch_3.tif"] = b"II*\0" + bytes(200)
    tiles["patch_5.tif"] = tiles["patch_5.tif"][: len(tiles["patch_5.tif"]) // 2]
    tiles["patch_8.tif"] = tiff(tile(8, size_px=12))
    tiles["patch_77.tif"] = tiff(tile(77))
    files = [(f"images/{name}", content) for name, content in tiles.items()]
    if tars:
        for number in range(tars):
            layouts.archive(folder / "s2" / f"{number:03d}.tar", files[number::tars])
    else:
        layouts.folder(folder, files)
    layouts.index(folder / "index.csv", "fn,lon,lat", [*INDEX, ("", 1, 2), ("patch_1.tif", "", "")])


def test_s2_100k_in_tar_shards(tmp_path: Path) -> None:
    s2_100k(tmp_path, tars=3)
    source, where = TilesSource(files="s2/*.tar"), context(tmp_path)
    rows = all_rows(source, where)
    assert faults(rows) == {
        "the tile is missing": 2,
        "the index does not name the file": 1,
        "the index names no file": 1,
    }
    usable = good(rows)
    assert usable[KEY].to_pylist() == sorted(
        [*(f"patch_{n}.tif" for n in range(10)), "patch_1.tif"]
    )
    places = dict(zip(usable[KEY].to_pylist(), usable[LON].to_pylist(), strict=True))
    assert places["patch_7.tif"] == PLACES[7, 0]
    assert np.isnan(usable[LON]).sum() == 1  # the row without a place, which others count
    spec = source.fields(where)["tile"]
    assert (spec.dtype, spec.shape, source.layout) == ("uint16", (12, 16, 16), SAMPLES)
    observed, reasons = source.observe(usable, where)
    assert {usable[KEY][row].as_py(): why for row, why in reasons.items()} == {
        "patch_3.tif": "no TIFF file, or a damaged one",
        "patch_5.tif": "no TIFF file, or a damaged one",
        "patch_8.tif": "the tile has another size, type or number of bands than the first",
    }
    for row, key in enumerate(usable[KEY].to_pylist()):
        if row not in reasons:
            number = int(key.removeprefix("patch_").removesuffix(".tif"))
            np.testing.assert_array_equal(observed["tile"][row], tile(number))


def test_the_same_in_a_folder(tmp_path: Path) -> None:
    s2_100k(tmp_path, tars=0)
    source, where = TilesSource(files="images"), context(tmp_path)
    rows = all_rows(source, where)
    assert faults(rows) == {"the index names no file": 1}
    usable = good(rows)
    _, reasons = source.observe(usable, where)
    assert Counter(reasons.values()) == {
        "the tile is missing": 2,
        "no TIFF file, or a damaged one": 2,
        "the tile has another size, type or number of bands than the first": 1,
    }
    part = source.parts(where)[0]
    assert (part.rows, part.row) == (14, 1)


def test_a_truncated_archive_gives_what_it_holds(tmp_path: Path) -> None:
    s2_100k(tmp_path, tars=1)
    path = tmp_path / "s2" / "000.tar"
    path.write_bytes(path.read_bytes()[:-12_000])
    rows = all_rows(TilesSource(files="s2/*.tar"), context(tmp_path))
    assert faults(rows)["the archive is damaged here"] == 1
    assert faults(rows)["the tile is missing"] >= 3
    (damage,) = rows.filter(pa.compute.equal(rows[REASON], "the archive is damaged here"))[KEY]
    assert "000.tar: ends at byte" in damage.as_py()


def test_names_are_compared_by_the_folders_that_both_have(tmp_path: Path) -> None:
    files = [(f"{part}/0.tif", tiff(tile(n))) for n, part in enumerate("ab")]
    layouts.archive(tmp_path / "x.tar", [(f"./root/{name}", content) for name, content in files])
    layouts.index(tmp_path / "index.csv", "fn,lon,lat", [("b\\0.tif", 2, 0), ("a/0.tif", 1, 0)])
    source, where = TilesSource(files="x.tar"), context(tmp_path)
    rows = all_rows(source, where)
    assert faults(rows) == {}
    observed, _ = source.observe(rows.sort_by(LON), where)
    np.testing.assert_array_equal(observed["tile"], [tile(0), tile(1)])


def test_bands_in_any_order_and_a_band_of_zeros(tmp_path: Path) -> None:
    layouts.folder(tmp_path, [("0.tif", tiff(tile(0)))])
    layouts.index(tmp_path / "index.csv", "fn,lon,lat", [("0.tif", 1, 2)])
    bands = {
        (4, 3, 2): [3, 2, 1],
        (*range(1, 11), 0, 11, 12): [*range(10), None, 10, 11],
    }
    for numbers, wanted in bands.items():
        source = TilesSource(bands=numbers)
        observed, reasons = source.observe(all_rows(source, context(tmp_path)), context(tmp_path))
        assert not reasons
        zeros = np.zeros((16, 16), np.uint16)
        expected = [zeros if n is None else tile(0)[n] for n in wanted]
        np.testing.assert_array_equal(observed["tile"][0], expected)
    with pytest.raises(SourceError, match="the last: the tile has not all of the `bands`"):
        TilesSource(bands=(13,)).fields(context(tmp_path))
    with pytest.raises(ValueError, match="give numbers from 1, or 0 for a zero band"):
        TilesSource(bands=(0,))


def test_what_is_no_tile_of_the_set(tmp_path: Path) -> None:
    bare = encoded(Image.fromarray(tile(0)[0]), "TIFF")
    promise = bytearray(bare)  # its header's numbers of columns and rows
    for tag in (b"\x00\x01\x04\x00", b"\x01\x01\x04\x00"):
        at = promise.index(tag) + 8
        promise[at : at + 4] = (1 << 20).to_bytes(4, "little")
    files = {
        "0.tif": bare,  # without georeference: the index says where it lies
        "1.tif": b"",
        "2.tif": bytes(promise),
        "3.tif": encoded(Image.fromarray(np.zeros((16, 16), np.uint16)), "TIFF"),
        "4.tif": b"<VRTDataset rasterXSize='16' rasterYSize='16'/>",
        "5.tif": encoded(Image.fromarray(tile(0)[0].astype(np.float32)), "TIFF"),
    }
    layouts.folder(tmp_path, files.items())
    layouts.index(tmp_path / "index.csv", "fn,lon,lat", [(name, 1, 2) for name in files])
    source = TilesSource()
    observed, reasons = source.observe(all_rows(source, context(tmp_path)), context(tmp_path))
    np.testing.assert_array_equal(observed["tile"][0], tile(0)[:1])
    assert reasons == {
        1: "no TIFF file, or a damaged one",
        2: "the tile is absurdly large",
        3: "the tile is empty: all zero, or not finite somewhere",
        4: "no TIFF file, or a damaged one",
        5: "the tile has another size, type or number of bands than the first",
    }


def test_the_middle_or_the_whole_at_another_size(tmp_path: Path) -> None:
    wide = np.repeat(np.repeat(tile(0), 2, axis=1), 2, axis=2)[:, 4:-4]  # 24 x 32
    layouts.folder(tmp_path, [("0.tif", tiff(wide)), ("1.tif", tiff(tile(1, size_px=6)))])
    layouts.index(tmp_path / "index.csv", "fn,lon,lat", [("0.tif", 1, 2), ("1.tif", 3, 4)])
    where = context(tmp_path)
    cut, reasons = TilesSource(size_px=8).observe(all_rows(TilesSource(size_px=8), where), where)
    np.testing.assert_array_equal(cut["tile"][0], wide[:, 8:16, 12:20])
    assert reasons == {1: "the tile is smaller than `size_px`"}
    source = TilesSource(size_px=12, fit="resize")
    small, _ = source.observe(all_rows(source, where), where)
    np.testing.assert_array_equal(small["tile"][0], tile(0)[:, 2:-2, 2:-2])


@pytest.mark.parametrize("tars", [0, 2])
def test_tiles_that_say_themselves_where_they_lie(tmp_path: Path, tars: int) -> None:
    files = [(f"{n}.tif", tiff(tile(n))) for n in range(4)] + [
        ("4.tif", tiff(tile(4), crs=None)),
        ("5.tif", b"nonsense"),
        ("readme.txt", b"not a tile"),
    ]
    if tars:
        for number in range(tars):
            layouts.archive(tmp_path / f"{number}.tar", files[number::tars])
    else:
        layouts.folder(tmp_path, files)
    source = TilesSource(files="*.tar" if tars else ".", index=None)
    rows = all_rows(source, context(tmp_path))
    assert faults(rows) == {"the tile has no georeference": 1, "no TIFF file, or a damaged one": 1}
    usable = good(rows)
    # 500 km east is the middle of zone 33, 15° E; and 80 m on, half a tile.
    np.testing.assert_allclose(
        usable[LON].to_numpy(), 15 + 80 / 111_320 / np.cos(np.radians(45.15)), atol=1e-6
    )
    np.testing.assert_allclose(usable[LAT].to_numpy(), 45.1535, atol=1e-3)
    observed, reasons = source.observe(usable, context(tmp_path))
    assert not reasons
    np.testing.assert_array_equal(observed["tile"], [tile(n) for n in range(4)])


def test_tiles_at_a_url_are_read_by_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s2_100k(tmp_path, tars=2)
    url = f"memory://{tmp_path.name}"
    for path in ("index.csv", "s2/000.tar", "s2/001.tar"):
        storage.write(f"{url}/{path}", (tmp_path / path).read_bytes())
    here = all_rows(TilesSource(files="s2/*.tar"), context(tmp_path))
    source = TilesSource(files=f"{url}/s2/*.tar", index=f"{url}/index.csv")
    there = all_rows(source, context(tmp_path))
    assert there.drop_columns("file").to_pandas().equals(here.drop_columns("file").to_pandas())
    source.fields(context(tmp_path))
    asked: list[int] = []
    whole = storage.read_range

    def counted(url: str, first: int, stop: int) -> bytes:
        asked.append(stop - first)
        return whole(url, first, stop)

    monkeypatch.setattr(storage, "read_range", counted)
    usable = good(there)
    observed, reasons = source.observe(usable, context(tmp_path))
    assert (len(reasons), observed["tile"].shape) == (3, (11, 12, 16, 16))
    assert {*here["file"].to_pylist()} == {"s2/000.tar", "s2/001.tar", None}  # wherever it lies
    spans = zip(usable["first"].to_pylist(), usable["stop"].to_pylist(), strict=True)
    assert sorted(asked) == sorted(stop - first for first, stop in spans)  # one a tile


def test_what_cannot_be_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = context(tmp_path)
    with pytest.raises(SourceError, match=r"index\.csv does not exist; a path in a card is"):
        TilesSource().parts(where)
    layouts.index(tmp_path / "index.csv", "fn,lon,lat", [("0.tif", 1, 2)])
    with pytest.raises(SourceError, match=r"satellite: there is no archive .*/\*\.tar"):
        TilesSource(files="*.tar").parts(where)
    with pytest.raises(
        SourceError, match="none of the first tiles can be used; the last: the tile is"
    ):
        TilesSource().fields(where)
    with pytest.raises(SourceError, match=r"satellite: there is no \.tif file in "):
        TilesSource(index=None).parts(where)
    with pytest.raises(ValueError, match="size_px is 0; choose at least 1"):
        TilesSource(size_px=0)
    (tmp_path / "0.tif").write_bytes(tiff(tile(0)))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    monkeypatch.setitem(sys.modules, "rasterio.enums", None)
    with pytest.raises(SourceError, match=r"needs rasterio: pip install 'raytrain\[rasters\]'"):
        TilesSource(size_px=3).fields(where)
