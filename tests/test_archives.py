"""The data of location encoders as it is published, with its faults, from archives to a run."""

import json
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from layouts import encoded, picture, tiff, tile, turned
from rasterio.transform import from_origin
from tiny_models import NAME, save_bert, save_timm

from raytrain import featurize, geo, prepare, pretrain
from raytrain.data import codecs
from raytrain.data.manifest import Manifest
from raytrain.data.shards import read_shard

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]

ROWS = 300
BANDS = [*range(1, 11), 0, 11, 12]
CNN = "tower: {kind: cnn, patch_px: 4, width: 8, stages: 1}\n"
WEIGHTS = "timm.safetensors"
IMAGES = (
    f"{{kind: timm, name: {NAME}, channels: [3, 2, 1], image_px: 32, weights: FOLDER/{WEIGHTS}}}"
)
TEXTS = "{kind: sentence, model: FOLDER/bert}"
CARDS = {
    "s2": f"source: {{kind: tiles, index: s2/index.csv, files: s2/*.tar, bands: {BANDS}}}\n"
    f"features: {IMAGES}\n",
    "mp16": "source: {kind: photos, index: mp16.csv, files: images, size_px: 16}\n" + CNN,
    "wikipedia": "source: {kind: text, file: wikipedia.csv, title: title}\nfield: text\n"
    f"features: {TEXTS}\n",
    "web": "source: {kind: webdataset, files: web.tar, member: npy}\n",
    "climate": "source: {kind: points, grids: [{file: grid.tif}], table: climate.csv}\n",
}


def places(seed: int) -> list[list[float]]:
    found: list[list[float]] = geo.random_on_sphere(ROWS, np.random.default_rng(seed)).tolist()
    return found


def s2_100k(folder: Path) -> dict[str, int]:
    """Twelve bands in tars, with an index; the faults by their number."""
    files = {f"patch_{n}.tif": tiff(tile(n, 8), compress="lzw") for n in range(ROWS)}
    for missing in (7, 8, 9):
        del files[f"patch_{missing}.tif"]
    files["patch_11.tif"] = files["patch_11.tif"][:300]
    files["patch_900.tif"] = files["patch_12.tif"]
    rows: list[list[Any]] = [[f"patch_{n}.tif", *place] for n, place in enumerate(places(1))]
    rows[13][1:] = [0, 0]
    rows[14][1:] = [None, None]
    rows[15][1:] = [200, 95]
    layouts.index(folder / "s2" / "index.csv", "fn,lon,lat", [*rows, [None] * 3, rows[16]])
    for shard in range(3):
        layouts.archive(folder / "s2" / f"{shard:03d}.tar", [*files.items()][shard::3])
    return {
        "the tile is missing": 3,
        "no TIFF file, or a damaged one": 1,
        "the index does not name the file": 1,
        "the index names no file": 1,
        "exactly at 0, 0": 1,
        "no coordinates": 1,
        "coordinates outside [-180, 180] x [-90, 90]": 1,
    }


def mp16(folder: Path) -> dict[str, int]:
    """Photos in folders, of all the sorts that there are."""
    sorts = {
        0: lambda n: encoded(picture(n), quality=90),
        1: lambda n: turned(picture(n), 1 + n % 8),
        2: lambda n: encoded(picture(n).convert("L")),
        3: lambda n: encoded(picture(n).convert("CMYK")),
        4: lambda n: encoded(picture(n).convert("RGBA"), "PNG"),
        5: lambda n: encoded(picture(n), "WEBP"),
    }
    files = {f"{n % 7:02x}/{n}.jpg": sorts[n % 6](n) for n in range(ROWS)}
    names = [*files]
    files[names[20]] = encoded(picture(0, 400, 300))[:2000]
    files[names[21]] = layouts.huge_png()
    files[names[22]] = b""
    del files[names[23]], files[names[24]]
    layouts.folder(folder / "images", files.items())
    rows = [[name, *place, "CC BY"] for name, place in zip(names, places(2), strict=True)]
    layouts.index(folder / "mp16.csv", "IMG_ID,LON,LAT,licence", [*rows, rows[30], rows[31]])
    return {
        "the picture is truncated or damaged": 1,
        "the picture has more than 100 million pixels": 1,
        "no JPEG, PNG or WebP picture": 1,
        "the photo is missing": 2,
    }


def wikipedia(folder: Path) -> dict[str, int]:
    """Articles with their coordinates, two without a text."""
    rows: list[list[Any]] = [
        [f"Title {n}", place[1], place[0], f'"Text, of ""{n}"""']
        for n, place in enumerate(places(3))
    ]
    rows[5][3], rows[6][3], rows[7][1] = None, '"  "', "north"
    layouts.index(folder / "wikipedia.csv", "title,lat,lon,text", rows)
    return {"no text": 2, "no coordinates": 1}


def web(folder: Path) -> dict[str, int]:
    """A WebDataset in which one sample lacks its array, and another its place."""
    files = []
    for number, (lon, lat) in enumerate(places(4)):
        files.append((f"{number}.json", json.dumps({"lon": lon, "lat": lat}).encode()))
        files.append((f"{number}.npy", codecs.encode_npy(np.full(3, number, np.float32))))
    del files[20], files[9]
    layouts.archive(folder / "web.tar", files)
    return {"the sample has no member `npy`": 1, "no coordinates": 1}


def climate(folder: Path) -> dict[str, int]:
    """A grid of the world of 0 to 360, with a hole in the north."""
    values = np.ones((1, 18, 36), np.float32)
    values[0, :2] = -1
    grid = tiff(values, from_origin(0, 90, 10, 10), "EPSG:4326", nodata=-1)
    (folder / "grid.tif").write_bytes(grid)
    layouts.index(folder / "climate.csv", "x,y", places(5))
    return {"grid.tif has no number here": sum(lat > 70 for _, lat in places(5))}


def test_published_archives_become_a_run(
    tiny_world: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    makers = {"s2": s2_100k, "mp16": mp16, "wikipedia": wikipedia, "web": web, "climate": climate}
    wanted = {name: make(tmp_path) for name, make in makers.items()}
    cards = {name: str(tmp_path / f"{name}.yaml") for name in CARDS}
    for name, text in CARDS.items():
        Path(cards[name]).write_text(text.replace("FOLDER", str(tmp_path)))
    save_timm(tmp_path / WEIGHTS)
    save_bert(tmp_path / "bert")
    root = str(tmp_path / "root")
    assert prepare.main([*cards.values(), "--root", root]) == 0, capsys.readouterr().out
    for name, faults in wanted.items():
        report = json.loads((tmp_path / "root" / name / "report.json").read_text())
        assert {reason: left["rows"] for reason, left in report["left_out"].items()} == faults
        again = {"s2": 1, "mp16": 2}.get(name, 0)
        assert report["duplicates"]["rows"] == again
        kept = ROWS + again - sum(faults.values()) - again
        kept += 2 if name == "s2" else 0  # a file and a row of the index that are no place's
        assert sum(report["kept"].values()) == kept

    of_tiles, of_photos = (Manifest.load(f"{root}/{name}") for name in ("s2", "mp16"))
    tiles = of_tiles.field("observation")
    assert (tiles.dtype, tiles.shape, tiles.std and tiles.std[10]) == ("uint16", (13, 8, 8), 0.0)
    photos = of_photos.field("observation")
    assert photos.mean == pytest.approx([127, 100, 127], abs=30)  # of decoded pixels
    columns, skipped = read_shard(
        f"{root}/mp16", of_photos.shards[0], of_photos.fields, of_photos.layout, verify=True
    )
    assert not skipped
    assert columns["observation"].shape[1:] == (3, 16, 16)

    modalities = [cards[name] for name in ("s2", "mp16", "wikipedia")]
    frozen = [cards["s2"], cards["wikipedia"]]
    assert featurize.main([*frozen, "--root", root]) == 0, capsys.readouterr().out
    for name, dim in (("s2", 96), ("wikipedia", 16)):  # of the tiny models
        features = Manifest.load(f"{root}/{name}-features")
        raw = Manifest.load(f"{root}/{name}")
        assert [s.samples for s in features.shards] == [s.samples for s in raw.shards]
        assert features.field("feature").shape == (dim,)

    arguments = tiny_world.arguments(
        "archives", f"data.root={root}", f"data.modalities={','.join(modalities)}"
    )
    capsys.readouterr()
    assert pretrain.main(arguments) == 0, capsys.readouterr().out
    assert "making features" not in capsys.readouterr().out
    losses = [step["loss"] for step in tiny_world.metrics("archives").values() if "loss" in step]
    assert len(losses) == 6
    assert np.isfinite(losses).all()
