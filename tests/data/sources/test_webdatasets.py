import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pyarrow as pa
import pytest
import webdataset
from layouts import encoded, picture

from raytrain import geo
from raytrain.data import codecs
from raytrain.data.rows import KEY, LAT, LON, REASON
from raytrain.data.sources.archives import Remote, members
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.webdatasets import WebdatasetSource
from raytrain.data.writer import Observations, write_shards


def context(folder: Path) -> Context:
    return Context(modality="web", field="seen", folder=folder)


def all_rows(source: WebdatasetSource, where: Context) -> pa.Table:
    return pa.concat_tables([r for part in source.parts(where) for r in source.rows(part, where)])


def observed(source: WebdatasetSource, where: Context) -> tuple[pa.Table, Any, dict[int, str]]:
    rows = all_rows(source, where)
    rows = rows.filter(pa.compute.is_null(rows[REASON]))
    columns, reasons = source.observe(rows, where)
    return rows, columns["seen"], reasons


def test_shards_of_webdatasets_own_writer(tmp_path: Path) -> None:
    with webdataset.ShardWriter(f"{tmp_path}/%02d.tar", maxcount=4, verbose=0) as writer:
        for number in range(10):
            writer.write(
                {
                    "__key__": f"x/{number:03d}",
                    "jpg": encoded(picture(number)),
                    "json": {"lon": float(number), "lat": -1.5},
                    "txt": f"Ort {number} ü",
                    "npy": np.full((2, 3), number, np.float32),
                    "cls": 3,
                }
            )
    where = context(tmp_path)
    rows, texts, reasons = observed(WebdatasetSource(member="txt"), where)
    assert not reasons
    assert texts == [f"Ort {number} ü" for number in range(10)]
    assert rows[LON].to_pylist() == [*range(10)]
    assert rows[KEY].to_pylist()[:5:4] == ["00.tar/x/000", "01.tar/x/004"]
    source = WebdatasetSource(member="npy")
    _, arrays, _ = observed(source, where)
    np.testing.assert_array_equal(arrays[:, 0, 0], range(10))
    spec = source.fields(where)["seen"]
    assert (spec.dtype, spec.shape, source.layout) == ("float32", (2, 3), "columns")
    source = WebdatasetSource(size_px=16)
    _, photos, _ = observed(source, where)
    spec = source.fields(where)["seen"]
    assert (spec.shape, spec.encoding, source.layout) == ((3, 16, 16), "jpg", "samples")
    codecs.decode_jpg(memoryview(photos[3]), np.empty((16, 16, 3), np.uint8))


def test_pictures_as_they_are(tmp_path: Path) -> None:
    sizes = [(40, 30), (40, 30), (30, 40)]
    for kind in ("jpg", "png"):
        members = [
            (f"{n}.{end}", content)
            for n, size in enumerate(sizes)
            for end, content in (
                (kind, encoded(picture(n, *size), "PNG" if kind == "png" else "JPEG")),
                ("json", b'{"lon": 1, "lat": 2}'),
            )
        ]
        layouts.archive(tmp_path / kind / "0.tar", members)
        source = WebdatasetSource(files=f"{kind}/*.tar", member=kind)
        _, files, reasons = observed(source, context(tmp_path))
        spec = source.fields(context(tmp_path))["seen"]
        assert (spec.shape, spec.encoding) == ((3, 30, 40), kind)
        assert files[:2] == [members[0][1], members[2][1]]
        assert reasons == {2: "the picture has another size than the first"}


def test_places_where_others_keep_them(tmp_path: Path) -> None:
    places = {
        "a": [("json", b'{"Longitude": "8.5", "latitude": 47.4}')],
        "b": [("json", json.dumps({"geo": {"point": {"e": 8.5, "n": 47.4}}}).encode())],
        "c": [("lon", b"8.5\n"), ("lat", b"47.4")],
        "d": [("x.txt", b"8.5"), ("y.txt", b"47.4")],
    }
    named = {
        "b": {"lon": "geo.point.e", "lat": "geo.point.n"},
        "d": {"lon": "x.txt", "lat": "y.txt"},
    }
    for key, stored in places.items():
        files = [(f"{key}.txt", b"text"), *((f"{key}.{end}", c) for end, c in stored)]
        layouts.archive(tmp_path / f"{key}.tar", files)
        source = WebdatasetSource(files=f"{key}.tar", member="txt", **named.get(key, {}))
        rows, _, _ = observed(source, context(tmp_path))
        assert rows.select([LON, LAT]).to_pylist() == [{LON: 8.5, LAT: 47.4}], key


def test_faults_are_reasons(tmp_path: Path) -> None:
    place = b'{"lon": 1, "lat": 2}'
    array = codecs.encode_npy(np.ones(3, np.float32))
    samples = {
        "good": (array, place),
        "no_member": (None, place),
        "no_place": (array, None),
        "null_place": (array, b'{"lon": null, "lat": "?"}'),
        "list": (array, b"[1, 2]"),
        "bad_json": (array, b'{"lon": 1'),
        "shape": (codecs.encode_npy(np.ones(4, np.float32)), place),
        "type": (codecs.encode_npy(np.ones(3)), place),
        "nan": (codecs.encode_npy(np.array([1, np.nan, 2], np.float32)), place),
        "broken": (array[:-1], place),
        "pickle": (b"\x93NUMPY\x01\x00v\x00{'descr': '|O', }" + bytes(200), place),
    }
    files = [
        (f"{key}.{end}", content)
        for key, contents in samples.items()
        for end, content in zip(("npy", "json"), contents, strict=True)
        if content is not None
    ]
    layouts.archive(tmp_path / "0.tar", files)
    source = WebdatasetSource(member="npy")
    rows = all_rows(source, context(tmp_path))
    by_key = dict(zip(rows[KEY].to_pylist(), rows[REASON].to_pylist(), strict=True))
    assert by_key.pop("0.tar/no_member") == "the sample has no member `npy`"
    assert by_key.pop("0.tar/bad_json") == "the sample's json is not readable"
    assert {*by_key.values()} == {None}
    usable, _, reasons = observed(source, context(tmp_path))
    found = {usable[KEY][row].as_py()[6:]: why for row, why in reasons.items()}
    assert found == {
        "shape": "the array has another shape or type than the first",
        "type": "the array has another shape or type than the first",
        "nan": "the array holds what is no finite number",
        "broken": "the array is no .npy file of numbers, or a damaged one",
        "pickle": "the array is no .npy file of numbers, or a damaged one",
    }
    assert usable[LON].null_count == 3


def test_a_truncated_archive_gives_what_it_holds(tmp_path: Path) -> None:
    place = b'{"lon": 1, "lat": 2}'
    files = [(f"{n}.{end}", c) for n in range(5) for end, c in (("json", place), ("txt", b"text"))]
    path = layouts.archive(tmp_path / "0.tar", files)
    cut = members(Remote(str(path)))[0][-1].first - 10
    path.write_bytes(path.read_bytes()[:cut])  # within the header of the last text
    rows = all_rows(WebdatasetSource(member="txt"), context(tmp_path))
    said = [None] * 4 + ["the sample has no member `txt`", "the archive is damaged here"]
    assert rows[REASON].to_pylist() == said
    assert rows[KEY][5].as_py() == f"0.tar: ends at byte {cut} without the mark of an archive's end"


def test_raytrains_own_samples_are_one_of_them(tmp_path: Path) -> None:
    lonlat_deg = geo.random_on_sphere(20, np.random.default_rng(0))
    made = Observations.of_arrays(lonlat_deg, {"v": np.arange(40.0).reshape(20, 2)})
    write_shards(str(tmp_path), replace(made, layout="samples"), modality="v")
    rows, vectors, reasons = observed(WebdatasetSource(member="v.npy"), context(tmp_path))
    assert not reasons
    order = np.argsort(vectors[:, 0])
    np.testing.assert_array_equal(vectors[order].reshape(-1), np.arange(40.0))
    np.testing.assert_array_equal(rows[LON].to_numpy()[order], lonlat_deg[:, 0])


def test_texts_that_are_none(tmp_path: Path) -> None:
    contents = {"a": "Zürich".encode(), "b": b"  \n", "c": "Zürich".encode("latin-1")}
    files = [(f"{key}.txt", content) for key, content in contents.items()]
    layouts.archive(tmp_path / "0.tar", files)
    _, texts, reasons = observed(WebdatasetSource(member="txt"), context(tmp_path))
    assert texts[0] == "Zürich"
    assert Counter(reasons.values()) == {"the text is empty": 1, "the text is not UTF-8": 1}


def test_members_that_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`member: pkl` is not read; there are: jpg, jpeg, png"):
        WebdatasetSource(member="pkl")
    layouts.archive(tmp_path / "0.tar", [("a.txt", b"text")])
    with pytest.raises(SourceError, match="the last: the sample has no member `jpg`"):
        WebdatasetSource().fields(context(tmp_path))
