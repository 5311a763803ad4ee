import gc
import io
import json
import tarfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
from numpy.typing import NDArray
from PIL import Image

from raytrain import geo
from raytrain.data import codecs
from raytrain.data.packing import Observed
from raytrain.data.shards import Field, Manifest, Shard, ShardError, read_shard
from raytrain.data.writer import Observations, write_shards

RNG = np.random.default_rng(0)
LONLAT = geo.random_on_sphere(600, RNG)
VECTORS = RNG.normal(size=(600, 5)).astype(np.float32)
TILES = RNG.integers(0, 255, (600, 3, 8, 8), dtype=np.uint8)


def columns(folder: Path, **settings: Any) -> tuple[str, Manifest]:
    offered = Observations.of_arrays(LONLAT, {"vector": VECTORS, "tile": TILES})
    sizes = {"shard_rows": 128, "group_rows": 50, **settings}
    return str(folder), write_shards(str(folder), offered, modality="made", **sizes)


def samples(folder: Path) -> tuple[str, Manifest]:
    fields = {
        "tile": Field(dtype="uint8", shape=(3, 8, 8), encoding="png"),
        "photo": Field(dtype="uint8", shape=(3, 8, 8), encoding="jpg"),
        "vector": Field(dtype="float32", shape=(5,)),
        "text": Field(dtype="str", shape=(), encoding="txt"),
    }

    def take(index: NDArray[np.int64]) -> Observed:
        texts = [f"Zürich {row}" for row in index]
        flat = TILES[index] // 64 * 0 + TILES[index][:, :, :1, :1]  # one colour: JPEG keeps it
        return {"tile": TILES[index], "photo": flat, "vector": VECTORS[index], "text": texts}

    offered = Observations(lonlat_deg=LONLAT, fields=fields, take=take, layout="samples")
    return str(folder), write_shards(str(folder), offered, modality="made", shard_rows=128)


def all_rows(url: str, manifest: Manifest, **options: Any) -> dict[str, NDArray[Any]]:
    parts = [
        read_shard(url, shard, manifest.fields, manifest.layout, **options)[0]
        for shard in manifest.shards
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def original(lonlat_deg: NDArray[np.float64]) -> list[int]:
    number = {tuple(place): row for row, place in enumerate(LONLAT.tolist())}
    return [number[tuple(place)] for place in lonlat_deg.tolist()]


@pytest.mark.parametrize("write", [columns, samples])
def test_everything_written_is_read_once(write: Any, tmp_path: Path) -> None:
    url, manifest = write(tmp_path)
    rows = all_rows(url, manifest, verify=True)
    order = original(rows["lonlat"])
    assert sorted(order) == list(range(600))
    assert order != sorted(order)
    np.testing.assert_array_equal(rows["tile"], TILES[order])
    np.testing.assert_array_equal(rows["vector"], VECTORS[order])
    if "text" in rows:
        assert rows["text"].tolist() == [f"Zürich {row}" for row in order]
        assert np.abs(rows["photo"][..., 4, 4].astype(int) - TILES[order][..., 0, 0]).max() < 8


def test_manifest_says_what_the_shards_hold(tmp_path: Path) -> None:
    url, written = columns(tmp_path)
    manifest = Manifest.load(url)
    assert manifest == replace(written, source=manifest.source)
    assert [shard.samples for shard in manifest.shards_of("train")[:-1]] == [128] * (
        len(manifest.shards_of("train")) - 1
    )
    train = ~geo.held_out(LONLAT)
    assert manifest.samples("train") == train.sum()
    assert manifest.samples("val") == (~train).sum()
    vector, tile = manifest.field("vector"), manifest.field("tile")
    np.testing.assert_allclose(vector.mean, VECTORS[train].mean(0), atol=1e-6)
    np.testing.assert_allclose(vector.std, VECTORS[train].std(0), rtol=1e-5)
    np.testing.assert_allclose(tile.mean, TILES[train].mean((0, 2, 3)), rtol=1e-6)
    for shard in manifest.shards:
        assert (tmp_path / shard.name).stat().st_size == shard.bytes


def test_the_split_is_by_block(tmp_path: Path) -> None:
    url, manifest = columns(tmp_path)
    for shard in manifest.shards:
        lonlat_deg = read_shard(url, shard, {}, manifest.layout)[0]["lonlat"]
        assert (geo.held_out(lonlat_deg) == (shard.split == "val")).all()


@pytest.mark.parametrize("write", [columns, samples])
def test_selected_rows_equal_all_rows_selected(write: Any, tmp_path: Path) -> None:
    url, manifest = write(tmp_path)
    shard, rows = manifest.shards[0], np.array([7, 0, 127, 51, 50])
    whole, _ = read_shard(url, shard, manifest.fields, manifest.layout)
    some, _ = read_shard(url, shard, manifest.fields, manifest.layout, rows=rows)
    for name in whole:
        np.testing.assert_array_equal(some[name], whole[name][rows])


def webdataset_samples(url: str, manifest: Manifest) -> list[dict[str, Any]]:
    paths = [f"{url}/{shard.name}" for shard in manifest.shards]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files open
        read = list(wds.WebDataset(paths, shardshuffle=False).decode("rgb8"))
        gc.collect()
    return read


def test_plain_webdataset_reads_columns(tmp_path: Path) -> None:
    url, manifest = columns(tmp_path)
    groups = webdataset_samples(url, manifest)
    order = original(np.concatenate([group["lonlat.npy"] for group in groups]))
    np.testing.assert_array_equal(
        np.concatenate([group["tile.npy"] for group in groups]), TILES[order]
    )


def test_plain_webdataset_reads_samples(tmp_path: Path) -> None:
    url, manifest = samples(tmp_path)
    read = webdataset_samples(url, manifest)
    order = original(np.array([[sample["json"]["lon"], sample["json"]["lat"]] for sample in read]))
    assert sorted(order) == list(range(600))
    assert [sample["text.txt"] for sample in read] == [f"Zürich {row}" for row in order]
    np.testing.assert_array_equal(read[0]["tile.png"].transpose(2, 0, 1), TILES[order[0]])
    assert read[0]["photo.jpg"].shape == (8, 8, 3)


def test_archives_of_other_writers_are_read(tmp_path: Path) -> None:
    long = "folder/" * 30 + "000000.json"
    for name, form in (("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        with tarfile.open(tmp_path / name, "w", format=form) as archive:
            codecs.add_member(archive, long, b"{}")
            codecs.add_member(archive, "short.txt", b"x" * 600)
        members = codecs.tar_members(memoryview((tmp_path / name).read_bytes()))
        assert [(name, len(content)) for name, content in members] == [
            (long, 2),
            ("short.txt", 600),
        ]


def test_writing_again_is_free_and_equal(tmp_path: Path) -> None:
    _url, manifest = columns(tmp_path / "a")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    assert columns(tmp_path / "a")[1].shards == manifest.shards
    assert times == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    assert columns(tmp_path / "b")[1].shards == manifest.shards


def test_a_stopped_writer_goes_on_behind_its_last_whole_shard(tmp_path: Path) -> None:
    written: list[int] = []

    def stop_at_third(rows: int) -> None:
        written.append(rows)
        if len(written) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        columns(tmp_path / "a", on_rows=stop_at_third)
    with pytest.raises(ShardError, match=r"no shards in .*raytrain\.prepare"):
        Manifest.load(str(tmp_path / "a"))
    kept = (tmp_path / "a" / "train-00000.tar").stat().st_mtime_ns
    _, resumed = columns(tmp_path / "a")
    assert (tmp_path / "a" / "train-00000.tar").stat().st_mtime_ns == kept
    assert not (tmp_path / "a" / "unfinished.json").exists()
    assert resumed == columns(tmp_path / "b")[1]


def test_other_settings_replace_the_shards(tmp_path: Path) -> None:
    columns(tmp_path)
    _, manifest = columns(tmp_path, shard_rows=400)
    assert {path.name for path in tmp_path.glob("*.tar")} == {
        shard.name for shard in manifest.shards
    }


def first_shard(tmp_path: Path) -> tuple[str, Manifest, Path]:
    url, manifest = columns(tmp_path)
    return url, manifest, tmp_path / manifest.shards[0].name


def read_first(url: str, manifest: Manifest, **options: Any) -> Any:
    return read_shard(url, manifest.shards[0], manifest.fields, manifest.layout, **options)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    url, manifest, path = first_shard(tmp_path)
    path.unlink()
    with pytest.raises(
        ShardError, match=r"train-00000\.tar is missing.*Copy it again, or delete it"
    ):
        read_first(url, manifest)


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_a_truncated_shard_is_named(kept: int, tmp_path: Path) -> None:
    url, manifest, path = first_shard(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ShardError, match=r"train-00000\.tar is (truncated: [\d,]+ bytes|empty)"):
        read_first(url, manifest)


def test_a_changed_shard_fails_its_checksum(tmp_path: Path) -> None:
    url, manifest, path = first_shard(tmp_path)
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match=r"train-00000\.tar is changed: its sha256 is"):
        read_first(url, manifest, verify=True)


def test_a_truncation_that_the_manifest_agrees_with_is_seen(tmp_path: Path) -> None:
    url, manifest, path = first_shard(tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    shard = replace(manifest.shards[0], bytes=5000)
    with pytest.raises(
        ShardError, match=r"damaged: ends at byte 5000, inside member `000000.tile.npy`, which"
    ):
        read_shard(url, shard, manifest.fields)


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    url, manifest, path = first_shard(tmp_path)
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(ShardError, match="damaged: no tar header at byte 0"):
        read_first(url, manifest)


def test_a_field_of_another_shape_is_named(tmp_path: Path) -> None:
    url, manifest, _ = first_shard(tmp_path)
    fields = {"vector": replace(manifest.field("vector"), shape=(6,))}
    with pytest.raises(ShardError, match=r"`vector` holds .*float32.*5.*the manifest says .*6"):
        read_shard(url, manifest.shards[0], fields)
    with pytest.raises(ShardError, match="no field `colour`; they hold vector, tile"):
        manifest.field("colour")


def test_a_file_that_is_no_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": "other"}')
    with pytest.raises(ShardError, match=r"manifest\.json is not a raytrain-shards/1 manifest"):
        Manifest.load(str(tmp_path))


def test_places_that_are_none_are_refused_by_the_writer(tmp_path: Path) -> None:
    lonlat_deg = LONLAT.copy()
    lonlat_deg[3] = (12.0, 123.0)
    offered = Observations.of_arrays(lonlat_deg, {"vector": VECTORS})
    with pytest.raises(geo.CoordinateError, match=r"made: 1 of 600 rows are bad.*swapped"):
        write_shards(str(tmp_path), offered, modality="made")


def test_numbers_that_are_none_are_refused_by_the_writer(tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[9, 2] = np.nan
    offered = Observations.of_arrays(LONLAT, {"vector": vectors})
    with pytest.raises(ShardError, match="`vector` holds numbers that are not finite"):
        write_shards(str(tmp_path), offered, modality="made")


def test_shards_may_lie_behind_any_url() -> None:
    url = "memory://bucket/made"
    offered = Observations.of_arrays(LONLAT, {"vector": VECTORS})
    write_shards(url, offered, modality="made", shard_rows=128)
    manifest = Manifest.load(url)
    rows = all_rows(url, manifest, verify=True)
    np.testing.assert_array_equal(rows["vector"], VECTORS[original(rows["lonlat"])])


def made_by_hand(folder: Path, members: dict[str, bytes], samples: int) -> tuple[str, Shard]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            codecs.add_member(archive, name, content)
    (folder / "made.tar").write_bytes(stream.getvalue())
    size = len(stream.getvalue())
    return str(folder), Shard(
        name="made.tar", split="train", samples=samples, bytes=size, sha256=""
    )


def jpeg(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 10, 10)).save(stream, "JPEG")
    return stream.getvalue()


def test_undecodable_samples_are_skipped_and_named(tmp_path: Path) -> None:
    place = json.dumps({"lon": 8.5, "lat": 47.4}).encode()
    members = {
        "good.json": place, "good.photo.jpg": jpeg(32, 24),
        "cut.json": place, "cut.photo.jpg": jpeg(32, 24)[:300],
        "text.json": place, "text.photo.jpg": b"<html>not found</html>",
        "small.json": place, "small.photo.jpg": jpeg(16, 24),
        "lone.json": place,
        "placeless.json": b"{}", "placeless.photo.jpg": jpeg(32, 24),
        "nan.json": b'{"lon": NaN, "lat": 3}', "nan.photo.jpg": jpeg(32, 24),
        "swapped.json": b'{"lon": 47, "lat": 108}', "swapped.photo.jpg": jpeg(32, 24),
        "last.json": place, "last.photo.jpg": jpeg(32, 24),
    }  # fmt: skip
    url, shard = made_by_hand(tmp_path, members, samples=9)
    fields = {"photo": Field(dtype="uint8", shape=(3, 24, 32), encoding="jpg")}
    columns, skipped = read_shard(url, shard, fields, "samples")
    assert columns["photo"].shape == (2, 3, 24, 32)
    assert columns["lonlat"].tolist() == [[8.5, 47.4]] * 2
    assert np.abs(columns["photo"][:, :, 5, 5].astype(int) - [200, 10, 10]).max() < 5
    reasons = {skip.row: skip.reason for skip in skipped}
    assert list(reasons) == [1, 2, 3, 4, 5, 6, 7]
    assert "image is 16 x 24 pixels, the manifest says 32 x 24 pixels" in reasons[3]
    assert "has no 'photo.jpg'" in reasons[4]
    assert "has no 'lon'" in reasons[5]
    assert "not a number" in reasons[6]
    assert "swapped" in reasons[7]
    some, skipped = read_shard(url, shard, fields, "samples", rows=np.array([8, 2]))
    assert len(some["lonlat"]) == 1
    assert [skip.row for skip in skipped] == [2]


def test_bad_coordinates_in_columns_are_skipped(tmp_path: Path) -> None:
    lonlat_deg = np.array([[0.0, 0.0], [np.nan, 1.0], [200.0, 5.0], [1.0, 2.0]])
    members = {
        "000000.lonlat.npy": codecs.encode_npy(lonlat_deg),
        "000000.vector.npy": codecs.encode_npy(VECTORS[:4]),
    }
    url, shard = made_by_hand(tmp_path, members, samples=4)
    fields = {"vector": Field(dtype="float32", shape=(5,))}
    columns, skipped = read_shard(url, shard, fields)
    np.testing.assert_array_equal(columns["vector"], VECTORS[[0, 3]])
    assert [skip.row for skip in skipped] == [1, 2]
    assert "not a number" in skipped[0].reason
    assert "beyond 180" in skipped[1].reason
