"""A real S3 server through a network that fails: survived where that passes, else said."""

import io
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, get_args

import fsspec
import numpy as np
import pandas as pd
import pytest
from faults.proxy import Fault, Proxy

from raytrain import storage
from raytrain.bulk.places import Table
from raytrain.data.manifest import Field, Manifest, ShardError
from raytrain.data.shards import read_shard
from raytrain.data.writer import Observations, write_shards
from raytrain.geo import random_on_sphere
from raytrain.storage import StorageError

CONTENT = np.random.default_rng(0).bytes(300_000)
FAULTS = get_args(Fault)
BROKEN = tuple(fault for fault in FAULTS if fault != "slow")


@pytest.fixture
def url(far_s3: Any, proxy: Proxy) -> Iterator[str]:
    """An object behind the proxy."""
    url = f"{far_s3.bucket}/faults/a.bin"
    storage.write(url, CONTENT)
    yield url
    proxy.heal()
    storage.remove_folder(f"{far_s3.bucket}/faults")


def begin(proxy: Proxy, fault: Fault, only: str) -> None:
    """Two requests fail."""
    proxy.requests.clear()
    if fault == "refuse":
        proxy.fail(fault, seconds=0.4)
    else:
        proxy.fail(fault, only, times=2)


def heard(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record.getMessage() for record in caplog.records if record.name == "raytrain.storage"]
    caplog.clear()
    return said


@pytest.mark.parametrize("fault", FAULTS)
def test_reads_survive(
    fault: Fault, url: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    begin(proxy, fault, "GET")
    assert storage.read(url) == CONTENT
    said = heard(caplog)
    assert len(said) == (fault != "slow")
    assert all(re.fullmatch(rf"{url}: \w+: .*; trying again for 10 s", line) for line in said)
    assert "200" in proxy.requests[-1]


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "short"])
def test_writes_survive(
    fault: Fault, url: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    begin(proxy, fault, "PUT")
    storage.write(url, CONTENT[::-1])
    assert len(heard(caplog)) == (fault != "slow")
    assert storage.read(url) == CONTENT[::-1]


@pytest.mark.parametrize("fault", ["refuse", "503", "reset"])
def test_what_is_there_is_seen(fault: Fault, url: str, proxy: Proxy) -> None:
    """No answer is not the answer that nothing is there."""
    folder = url.rpartition("/")[0]
    begin(proxy, fault, "HEAD" if fault != "reset" else "GET")
    assert storage.size(url) == len(CONTENT)
    begin(proxy, fault, "GET")
    assert storage.files(folder) == [url]
    begin(proxy, fault, "GET")
    assert storage.files(f"{folder}/*.bin") == [url]
    begin(proxy, fault, "GET")
    assert storage.sizes(folder) == {"a.bin": len(CONTENT)}
    begin(proxy, fault, "GET")
    assert storage.folders(folder.rpartition("/")[0], "faults") == ["faults"]
    begin(proxy, fault, "POST|DELETE")
    storage.remove_folder(folder)
    proxy.heal()
    assert storage.size(url) is None


def refused(access: Callable[[], Any]) -> str:
    with pytest.raises(StorageError) as error:
        access()
    return str(error.value)


@pytest.mark.parametrize("fault", BROKEN)
def test_what_does_not_pass_is_said(
    fault: Fault, url: str, far_s3: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYTRAIN_RETRY_S", "0.6")
    proxy.fail(fault)
    began = time.monotonic()
    said = [refused(lambda: storage.read(url))]
    if fault != "short":
        said.append(refused(lambda: storage.write(url, CONTENT)))
    assert time.monotonic() - began < 6
    for line in said:
        assert re.match(rf"{url}: \w+: .*, for 0\.6 s \(RAYTRAIN_RETRY_S\)\. Check AWS_ACC", line)
        assert far_s3.secret_key not in line


def test_what_waiting_does_not_mend_is_said_at_once(
    url: str, far_s3: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.requests.clear()
    with pytest.raises(FileNotFoundError):
        storage.read(f"{far_s3.bucket}/faults/none")
    with pytest.raises(FileNotFoundError):
        storage.read("s3://nowhere/none")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        assert "access refused" in refused(lambda: storage.read(url))
        assert "access refused" in refused(lambda: storage.write(url, CONTENT))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    statuses = [request.rpartition(" ")[2] for request in proxy.requests]
    assert statuses.count("403") == 2
    assert len(statuses) <= 8


def test_the_environment_says_how_often_a_request_is_tried(
    url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYTRAIN_RETRY_S", "0")
    for attempts, tried in (("2", 2), (None, 3)):
        if attempts is None:
            monkeypatch.delenv("AWS_MAX_ATTEMPTS")
        else:
            monkeypatch.setenv("AWS_MAX_ATTEMPTS", attempts)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        proxy.fail("503", "PUT", times=100)
        assert "reduce your request rate" in refused(lambda: storage.write(url, CONTENT))
        assert proxy.left == 100 - tried


def test_a_key_in_a_url_is_refused_and_not_repeated() -> None:
    said = refused(lambda: storage.read("s3://AKIAKEY:S3CRET@bucket/a"))
    assert "must not hold a key; set AWS_ACCESS_KEY_ID" in said
    assert "S3CRET" not in said


LARGE = CONTENT * 360  # beyond 100 MB: in parts
UPLOAD = ".*uploadId="


def uploads_left(far_s3: Any) -> list[Any]:
    filesystem, path = fsspec.url_to_fs(far_s3.bucket)
    return list(filesystem.list_multipart_uploads(path))


@pytest.fixture
def patient(far_s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server takes its time over a large part."""
    monkeypatch.setattr(storage, "READ_TIMEOUT_S", 15)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("lost", ["PUT", "POST"], ids=["a part", "the end"])
def test_a_large_object_survives(lost: str, url: str, far_s3: Any, proxy: Proxy) -> None:
    proxy.fail("reset", f"{lost}{UPLOAD}", times=1)
    storage.write(url, LARGE)
    assert proxy.left == 0
    assert storage.read(url) == LARGE
    assert uploads_left(far_s3) == []


@pytest.mark.usefixtures("patient")
def test_a_large_object_that_is_cut_off_does_not_appear(
    url: str, far_s3: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYTRAIN_RETRY_S", "0.5")
    proxy.fail("cut", f"PUT{UPLOAD}")
    assert "for 0.5 s" in refused(lambda: storage.write(f"{url}.large", LARGE))
    assert storage.size(f"{url}.large") is None
    assert uploads_left(far_s3) == []


def made(layout: str, url: str) -> tuple[Manifest, dict[str, Field]]:
    """Small shards of a layout, and their fields."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 255, (80, 3, 16, 16), dtype=np.uint8)
    offered = Observations.of_arrays(random_on_sphere(80, rng), {"tile": tiles})
    if layout == "samples":
        fields = {"tile": replace(offered.fields["tile"], encoding="jpg")}
        offered = replace(offered, layout=layout, fields=fields)
    manifest = write_shards(url, offered, modality="made")
    return manifest, manifest.fields


@pytest.mark.parametrize("layout", ["columns", "samples"])
@pytest.mark.parametrize("fault", ["short", "flip"])
@pytest.mark.parametrize("checksums", [True, False])
def test_no_sample_is_lost_by_wrong_bytes(
    layout: str, fault: Fault, checksums: bool, far_s3: Any, proxy: Proxy
) -> None:
    """Of a server that has no checksums too; then the manifest's tells."""
    url = f"{far_s3.bucket}/faults/{layout}"
    proxy.checksums = checksums
    manifest, fields = made(layout, url)
    shard = manifest.shards[0]
    right, _ = read_shard(url, shard, fields, layout, verify=True)
    proxy.requests.clear()
    proxy.fail(fault, "GET", times=1)
    columns, skipped = read_shard(url, shard, fields, layout, verify=True)
    assert skipped == []
    assert all(np.array_equal(columns[name], right[name]) for name in right)
    assert sum(request.startswith("GET") for request in proxy.requests) == 2
    if not checksums:
        proxy.fail(fault, "GET")
        with pytest.raises(ShardError, match=r"train-00000\.tar is (truncated|changed: its sha)"):
            read_shard(url, shard, fields, layout, verify=True)


@pytest.mark.parametrize("spot", [257, 1537], ids=["a header", "an image"])
def test_damage_is_fetched_again_though_nothing_is_verified(
    spot: int, far_s3: Any, proxy: Proxy
) -> None:
    url = f"{far_s3.bucket}/faults/unverified"
    manifest, fields = made("samples", url)
    shard = manifest.shards[0]
    right, _ = read_shard(url, shard, fields, "samples")
    proxy.checksums, proxy.spot = False, spot
    proxy.requests.clear()
    proxy.fail("flip", "GET", times=1)
    columns, skipped = read_shard(url, shard, fields, "samples")
    assert skipped == []
    assert all(np.array_equal(columns[name], right[name]) for name in right)
    assert sum(request.startswith("GET") for request in proxy.requests) == 2


def test_a_table_is_read_in_pieces_that_survive(
    far_s3: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = io.BytesIO()
    places = random_on_sphere(1000, np.random.default_rng(0))
    pd.DataFrame(places, columns=["lon", "lat"]).to_parquet(content)
    url = f"{far_s3.bucket}/faults/places.parquet"
    storage.write(url, content.getvalue())
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    proxy.fail("503", "GET", times=4)
    table = Table(url)
    assert proxy.left == 0
    proxy.fail("cut", "GET", times=2)
    (part,) = table.parts_of(0, 1000)
    assert proxy.left == 0
    assert np.array_equal(table.split(part)[0], places)
