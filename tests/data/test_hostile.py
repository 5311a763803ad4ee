"""Shards and manifests that mean harm: refused in words, without a file written, a pickle run or
memory taken."""

import io
import json
import pickle
import struct
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from raytrain.data import codecs
from raytrain.data.manifest import Field, Manifest, Shard, ShardError
from raytrain.data.shards import read_shard
from raytrain.data.writer import Observations, write_shards
from raytrain.encoders.weights import WeightsError, read_weights

PLACE = json.dumps({"lon": 8.5, "lat": 47.4}).encode()
PHOTO = Field(dtype="uint8", shape=(3, 24, 32), encoding="jpg")
SCAN = Field(dtype="uint8", shape=(3, 24, 32), encoding="png")
VECTOR = Field(dtype="float32", shape=(5,))


@pytest.fixture(autouse=True)
def harmless(tmp_path: Path) -> Iterator[None]:
    """Fails a test that took 100 MB or made a file beside the shard."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak_mb()
    yield
    assert peak_mb() - before < 100
    assert {path.name for path in tmp_path.iterdir()} <= {"made.tar", "manifest.json", "a.st"}
    assert not (tmp_path.parent / "escaped").exists()


def peak_mb() -> float:
    """The most memory that this process had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


def archive(add: Callable[[tarfile.TarFile], None]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        add(made)
    return stream.getvalue()


def members(**contents: bytes) -> bytes:
    """An archive of members, in whose names _ stands for the dot."""

    def add(made: tarfile.TarFile) -> None:
        for name, content in contents.items():
            codecs.add_member(made, name.replace("_", "."), content)

    return archive(add)


def read(folder: Path, content: bytes, layout: str = "samples", **fields: Field) -> Any:
    (folder / "made.tar").write_bytes(content)
    shard = Shard(name="made.tar", split="train", samples=1, bytes=len(content), sha256="")
    return read_shard(str(folder), shard, fields, layout)


def refused(folder: Path, content: bytes, layout: str = "samples", **fields: Field) -> str:
    """The message with which an archive is refused."""
    with pytest.raises(ShardError) as error:
        read(folder, content, layout, **fields)
    said = str(error.value)
    assert said.startswith(f"{folder}/made.tar is damaged: ")
    assert said.count("\n") == 0
    return said


def skipped(folder: Path, content: bytes, **fields: Field) -> str:
    """Why the only sample of an archive was left out."""
    columns, (skip,) = read(folder, content, "samples", **fields)
    assert len(columns["lonlat"]) == 0
    assert skip.key == "one"
    return str(skip.reason)


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a/../../escaped", "a/" * 99 + ".."])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_that_lead_out_of_the_archive(tmp_path: Path, name: str, form: int) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as made:
        codecs.add_member(made, "one.json", PLACE)
        codecs.add_member(made, name, b"x")
    said = refused(tmp_path, stream.getvalue())
    assert f"member `{name}` has a name that leads out of the archive" in said


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.GNUTYPE_SPARSE, "special one"),
    ],
)
def test_members_that_are_no_files(tmp_path: Path, kind: bytes, what: str) -> None:
    def add(made: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("one.json")
        member.type, member.linkname = kind, "/etc/passwd"
        made.addfile(member)

    assert f"member `one.json` is no file but a {what}." in refused(tmp_path, archive(add))


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (b"00000777777\0", "ends at byte 10240, inside member `one.json`, which should reach 2"),
        (b"\x80" + b"\xff" * 11, "ends at byte 10240, inside member `one.json`"),
        (b"-0000001000\0", "has b'-0000001000\\x00' as the size of a member"),  # back to itself
        (b"size\0\0\0\0\0\0\0\0", "as the size of a member"),
    ],
)
def test_members_of_another_size_than_is_there(tmp_path: Path, size: bytes, said: str) -> None:
    content = members(one_json=PLACE)
    assert said in refused(tmp_path, content[:124] + size + content[136:])


def test_names_that_are_no_text(tmp_path: Path) -> None:
    content = members(one_json=PLACE)
    assert "has no 'json'" in skipped(tmp_path, b"one.\xff\xfe\0\0" + content[8:])


def test_a_compressed_archive(tmp_path: Path) -> None:
    packer = zlib.compressobj(1, wbits=31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(200)) + packer.flush()
    assert "no tar header at byte 0 (compressed ones are not read)" in refused(tmp_path, bomb)


def npy(header: str, content: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + content


class Evil:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("escaped"),)


HOSTILE_ARRAYS = {
    "of 10^12 elements": (
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 5)}", bytes(20)),
        "holds 20 bytes, where float32[1000000000000, 5] takes 20,000,000,000,000",
    ),
    "beyond all integers": (
        npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': (1{'0' * 90},)}}", bytes(20)),
        "holds 20 bytes",
    ),
    "of a negative shape": (
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -5)}", bytes(20)),
        "has the shape [-1, -5]",
    ),
    "of a huge element": (
        npy("{'descr': '(100000,100000)<f8', 'fortran_order': False, 'shape': (1,)}", bytes(20)),
        "is no .npy file",
    ),
    "of objects": (
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps([Evil()])),
        "holds Python objects",
    ),
    "that is code": (npy("__import__('pathlib').Path('escaped').touch()"), "is no .npy file"),
    "that nests": (npy("(" * 9000), "is no .npy file"),
    "that is a pickle": (pickle.dumps([Evil()]), "is no .npy file"),
    "of nothing": (b"", "is no .npy file"),
}


@pytest.mark.parametrize("case", HOSTILE_ARRAYS)
def test_arrays(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, said = HOSTILE_ARRAYS[case]
    lonlat = codecs.encode_npy(np.zeros((1, 2)))
    whole = refused(
        tmp_path, members(a_lonlat_npy=lonlat, a_vector_npy=content), "columns", vector=VECTOR
    )
    assert "member `a.vector.npy`: " in whole
    assert said in whole
    one = skipped(tmp_path, members(one_json=PLACE, one_vector_npy=content), vector=VECTOR)
    assert "`one.vector.npy`: " in one
    assert said in one


def png(side: int) -> bytes:
    """A black square: one bit a pixel, and a thousandth of that in the file."""
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(side // 8 + 1) * 1000) for _ in range(side // 1000))
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + rows + packer.flush(), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


@pytest.mark.parametrize("side", [13_000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_png_of_a_huge_image(tmp_path: Path, side: int) -> None:
    said = skipped(tmp_path, members(one_json=PLACE, one_scan_png=png(side)), scan=SCAN)
    assert "`one.scan.png`: " in said
    assert "decompression bomb" in said or f"image is {side} x {side} pixels" in said


def test_a_small_jpeg_of_a_huge_image(tmp_path: Path) -> None:
    content = bytearray(simplejpeg.encode_jpeg(np.zeros((24, 32, 3), np.uint8)))
    size = content.index(b"\xff\xc0") + 5
    content[size : size + 4] = struct.pack(">HH", 60_000, 60_000)
    said = skipped(tmp_path, members(one_json=PLACE, one_photo_jpg=bytes(content)), photo=PHOTO)
    wanted = "image is 60000 x 60000 pixels, the manifest says 32 x 24 pixels"
    assert said == f"`one.photo.jpg`: {wanted}"


def test_a_script_in_place_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would hand PostScript to a program that runs it."""
    monkeypatch.chdir(tmp_path)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n(escaped) (w) file closefile\n"
    said = skipped(tmp_path, members(one_json=PLACE, one_scan_png=script), scan=SCAN)
    assert "`one.scan.png`: cannot identify image" in said


@pytest.mark.parametrize(
    "place",
    [
        b"[" * 100_000,
        b'{"lon": ' + b"9" * 4000 + b', "lat": 1}',
        b'{"lon": [1], "lat": {}}',
        b'"lon"',
        b"\xff\xfe\xfa",
    ],
)
def test_places(place: bytes, tmp_path: Path) -> None:
    assert "`one.json`: " in skipped(tmp_path, members(one_json=place))


def manifest(folder: Path, **shard: Any) -> str:
    """A manifest with one shard, of which something is said, and the message that it is none."""
    lonlat = np.zeros((1, 2))
    offered = Observations.of_arrays(lonlat, {"vector": np.zeros((1, 5), np.float32)})
    url = f"memory://hostile{time.time_ns()}"
    values = json.loads(write_shards(url, offered, modality="made").to_json())
    values["shards"][0] |= shard
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(ShardError) as error:
        Manifest.load(str(folder))
    return str(error.value)


@pytest.mark.parametrize(
    "name", ["../a.tar", "/etc/passwd", "http://127.0.0.1/a.tar", "a/b.tar", "..", "", "a::file:b"]
)
def test_a_manifest_of_shards_elsewhere(name: str, tmp_path: Path) -> None:
    said = manifest(tmp_path, name=name)
    assert f"{tmp_path}/manifest.json is not a raytrain-shards/1 manifest" in said
    assert f"`{name}` is no name of a file beside the manifest" in said


def test_a_manifest_of_more_rows_than_fit(tmp_path: Path) -> None:
    assert "1,000,000,000,000 samples in 10,240 bytes" in manifest(tmp_path, samples=10**12)
    assert "-1 samples" in manifest(tmp_path, samples=-1)


@pytest.mark.parametrize("content", ["[" * 100_000, '"text"', "[]", "null", "{", "\x00"])
def test_a_manifest_that_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ShardError, match=r"manifest\.json is not a raytrain-shards/1 manifest"):
        Manifest.load(str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        struct.pack("<Q", 70)
        + b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}'.ljust(70)
        + bytes(4),
    ],
)
def test_safetensors_of_a_huge_header(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.st").write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.st"):
        read_weights(f"{tmp_path}/a.st")
