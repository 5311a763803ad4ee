import io
from collections import Counter
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import simplejpeg
from layouts import encoded, picture, turned
from PIL import Image

from raytrain.data.rows import KEY, LON, REASON
from raytrain.data.sources.file_rows import LeftOut
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.photos import PhotosSource
from raytrain.data.sources.pictures import Picture, opened

BAD = {
    "truncated.jpg": "the picture is truncated or damaged",
    "huge.png": "the picture has more than 100 million pixels",
    "page.jpg": "no JPEG, PNG or WebP picture",
    "empty.jpg": "no JPEG, PNG or WebP picture",
    "deep.png": "the picture has more than 8 bits a channel",
    "gone.jpg": "the photo is missing",
}


def context(folder: Path) -> Context:
    return Context(modality="photos", field="photo", folder=folder)


def mp16(folder: Path) -> dict[str, bytes]:
    """MP-16's names, with every fault of `BAD`."""
    photo = picture(7, 400, 300)
    files = {
        "d3/2f/3413546123.jpg": encoded(photo, quality=95),
        "00/a1/1.png": encoded(photo, "PNG"),
        "00/a1/2.webp": encoded(photo, "WEBP", lossless=True),
        "truncated.jpg": encoded(photo, quality=95)[:4000],
        "huge.png": layouts.huge_png(),
        "page.jpg": b"<html>429 Too Many Requests</html>",
        "empty.jpg": b"",
        "deep.png": encoded(Image.fromarray(np.zeros((9, 9), np.uint16)), "PNG"),
    }
    layouts.folder(folder / "images", files.items())
    return files


def observed(source: PhotosSource, where: Context) -> tuple[dict[str, bytes], dict[str, str]]:
    """Photos and reasons by their names."""
    rows = pa.concat_tables([r for part in source.parts(where) for r in source.rows(part, where)])
    rows = rows.filter(pa.compute.is_null(rows[REASON]))
    columns, reasons = source.observe(rows, where)
    keys = rows[KEY].to_pylist()
    photos = dict(zip(keys, columns["photo"], strict=True))
    return (
        {key: photo for row, (key, photo) in enumerate(photos.items()) if row not in reasons},
        {keys[row]: why for row, why in reasons.items()},
    )


@pytest.mark.parametrize("column", ["path", "IMG_ID", "img_id", "fn", "FileName"])
def test_mp_16_with_every_fault(tmp_path: Path, column: str) -> None:
    files = mp16(tmp_path)
    names = [*files, "gone.jpg"]
    table = pd.DataFrame({column: names, "LON": np.arange(9.0), "lat": 1.0, "author": "x"})
    parquet = column == "fn"
    name = "mp16.parquet" if parquet else "mp16.csv"
    table.to_parquet(tmp_path / name) if parquet else table.to_csv(tmp_path / name, index=False)
    source = PhotosSource(files="images", index=name, size_px=32)
    photos, reasons = observed(source, context(tmp_path))
    assert reasons == BAD
    assert sorted(photos) == sorted({*files} - {*BAD})
    spec = source.fields(context(tmp_path))["photo"]
    assert (spec.shape, spec.encoding, source.layout) == ((3, 32, 32), "jpg", "samples")
    wanted = np.asarray(picture(7, 400, 300).crop((50, 0, 350, 300)).resize((32, 32)), float)
    for photo in photos.values():
        assert np.abs(simplejpeg.decode_jpeg(photo) - wanted).mean() < 3


def test_photos_in_tars(tmp_path: Path) -> None:
    files = list(mp16(tmp_path).items())
    layouts.archive(tmp_path / "0.tar", files[::2])
    layouts.archive(tmp_path / "1.tar", files[1::2])
    rows = [(Path(name).stem, n, n) for n, (name, _) in enumerate(files) if name.endswith("jpg")]
    layouts.index(tmp_path / "ids.csv", "id,lon,lat", [*rows, ("gone", 1, 1)])
    source = PhotosSource(files="*.tar", index="ids.csv", suffix=".jpg", size_px=16)
    where = context(tmp_path)
    rows = pa.concat_tables([r for part in source.parts(where) for r in source.rows(part, where)])
    assert Counter(filter(None, rows[REASON].to_pylist())) == {
        "the photo is missing": 1,
        "the index does not name the file": 4,
    }
    photos, reasons = observed(source, where)
    assert {*photos} == {"3413546123.jpg"}
    assert {*reasons} == {"truncated.jpg", "page.jpg", "empty.jpg"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_exif_says(orientation: int) -> None:
    upright = picture(3, 40, 40)
    back = {  # from upright pixels to those that a camera of this orientation stores
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[orientation]) if orientation > 1 else upright
    made = Picture(size_px=20).store(turned(stored, orientation), (3, 20, 20))
    wanted = np.asarray(upright.resize((20, 20)), float)
    assert np.abs(simplejpeg.decode_jpeg(made) - wanted).mean() < 4
    assert Image.open(io.BytesIO(made)).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("mode", ["L", "CMYK", "1", "P", "RGBA", "LA", "YCbCr"])
def test_all_colours_become_rgb(mode: str) -> None:
    photo = picture(100, 64, 48)
    image = photo.convert("L").convert("LA") if mode == "LA" else photo.convert(mode)
    kind = "JPEG" if mode in ("L", "CMYK", "YCbCr") else "PNG"
    made = Picture(size_px=24, quality=95).store(encoded(image, kind), (3, 24, 24))
    wanted = np.asarray(image.convert("RGB").crop((8, 0, 56, 48)).resize((24, 24)), float)
    assert np.abs(simplejpeg.decode_jpeg(made) - wanted).mean() < (6 if mode in "1P" else 3)


def test_a_file_that_is_right_already_is_kept() -> None:
    right = encoded(Image.effect_noise((32, 32), 80).convert("RGB"))
    assert Picture(size_px=32).store(right, (3, 32, 32)) is right
    assert Picture(size_px=16).store(right, (3, 16, 16)) != right
    for other in (turned(picture(1, 32, 32), 6), encoded(picture(1, 32, 32).convert("L"))):
        assert Picture(size_px=32).store(other, (3, 32, 32)) != other
    with pytest.raises(LeftOut, match="truncated or damaged"):
        Picture(size_px=32).store(right[:-100], (3, 32, 32))
    litter = right[:-2] + b"litter" + right[-2:]  # Pillow reads it, the reader of shards would not
    with pytest.raises(ValueError, match="Corrupt JPEG data"):
        simplejpeg.decode_jpeg(litter)
    simplejpeg.decode_jpeg(Picture(size_px=32).store(litter, (3, 32, 32)))
    png = encoded(picture(1, 32, 32), "PNG")
    assert Picture(size_px=None, encoding="png").store(png, (3, 32, 32)) is png
    with pytest.raises(LeftOut, match="another size than the first"):
        Picture(size_px=None, encoding="png").store(png, (3, 32, 30))


def test_large_jpegs_are_not_decoded_whole() -> None:
    image = opened(encoded(picture(1, 4000, 3000), quality=60))
    Picture(size_px=32).pixels(image)
    assert image.size == (500, 375)


def test_quality_is_the_users() -> None:
    photo = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), quality=95)
    low, high = (Picture(size_px=48, quality=q).store(photo, (3, 48, 48)) for q in (30, 95))
    assert len(low) < len(high) / 2


def test_settings_that_cannot_be() -> None:
    for wrong in ({"size_px": 0}, {"quality": 101}, {"index": None}):
        with pytest.raises(ValueError, match=r"choose|need an `index`"):
            PhotosSource(**wrong)  # type: ignore[arg-type]


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    layouts.index(tmp_path / "index.csv", "photo,east,north", [("a.jpg", 1, 2)])
    where = context(tmp_path)
    with pytest.raises(SourceError, match=r"no column `lon`.*: photo, east, north"):
        PhotosSource().parts(where)
    with pytest.raises(
        SourceError,
        match=r"no column of files' names; set `source.name` to one of: photo, east, north",
    ):
        PhotosSource(lon="east", lat="north").parts(where)
    source = PhotosSource(lon="east", lat="north", name="photo")
    (rows,) = source.rows(source.parts(where)[0], where)
    assert (rows[KEY].to_pylist(), rows[LON].to_pylist()) == (["a.jpg"], [1.0])
