"""Shards and runs on S3, against a real server with real keys."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import raytrain
from raytrain import preview, storage
from raytrain.data import conversion
from raytrain.data.shards import Manifest, read_shard
from raytrain.data.sources import csv_parts
from raytrain.data.sources.files import Context
from raytrain.data.sources.tables import TableSource
from raytrain.geo import random_on_sphere
from raytrain.pretrain import main
from raytrain.storage import StorageError

ADVICE = "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for a server other than AWS, "


def test_what_is_written_is_read(s3: Any) -> None:
    url = f"{s3.bucket}/written"
    assert storage.size(f"{url}/a.bin") is None
    for content in (b"old", b"newer"):
        storage.write(f"{url}/a.bin", content)
        assert storage.read(f"{url}/a.bin") == content
    storage.write(f"{url}/checkpoint_1/b.bin", b"b")
    assert storage.size(f"{url}/a.bin") == 5
    assert storage.sizes(url) == {"a.bin": 5}
    assert storage.folders(url, "checkpoint_") == ["checkpoint_1"]
    storage.remove_folder(url)
    with pytest.raises(FileNotFoundError):
        storage.read(f"{url}/checkpoint_1/b.bin")


def test_a_wrong_key_is_refused_in_words(
    s3: Any, tiny_world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    for refused in (
        lambda: storage.read(f"{s3.bucket}/a"),
        lambda: storage.write(f"{s3.bucket}/a", b""),
        lambda: storage.size(f"{s3.bucket}/a"),
        lambda: storage.folders(s3.bucket, "a"),
        lambda: storage.remove_folder(f"{s3.bucket}/a"),
        lambda: raytrain.load(f"{s3.bucket}/a"),
    ):
        with pytest.raises(StorageError, match="access refused"):
            refused()
    assert main([*tiny_world.arguments("a"), f"data.root={s3.bucket}/shards"]) == 2
    said = capsys.readouterr().out
    assert said.startswith(f"error: {s3.bucket}/shards/weather/manifest.json: access refused (")
    assert ADVICE in said
    assert said.count("\n") == 1


def test_keys_come_from_the_files_of_aws_too(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    with pytest.raises(StorageError, match=rf"Unable to locate credentials\. {ADVICE}"):
        storage.write(f"{s3.bucket}/keys/a", b"")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    key = f"aws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n"
    file.write_text(f"[default]\n{key}")
    storage.write(f"{s3.bucket}/keys/a", b"content")
    assert storage.read(f"{s3.bucket}/keys/a") == b"content"
    store = storage.filesystem(s3.bucket)[0]
    assert s3.secret_key not in f"{store!r} {store.to_json()} {vars(store)}"


def test_a_bucket_that_does_not_exist(s3: Any) -> None:
    assert storage.size("s3://nowhere/a") is None
    with pytest.raises(FileNotFoundError):
        storage.read("s3://nowhere/a")


def test_a_server_that_does_not_answer(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("RAYTRAIN_RETRY_S", "0")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(StorageError) as error:
        storage.read(f"{s3.bucket}/a")
    assert "http://127.0.0.1:9" in str(error.value)
    assert ADVICE in str(error.value)


@pytest.fixture
def world_on_s3(s3: Any, tiny_world: Any) -> Iterator[str]:
    """The URL of a folder with the shards of the tiny world."""
    filesystem, path = fsspec.url_to_fs(f"{s3.bucket}/world")
    filesystem.put(f"{tiny_world.root}/", f"{path}/shards/", recursive=True)
    yield f"{s3.bucket}/world"
    storage.remove_folder(f"{s3.bucket}/world")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_raw_rows_become_the_same_shards_as_here(
    kind: str, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "_over_cluster", lambda start_ray: conversion._in_turn)
    monkeypatch.setattr(csv_parts, "BLOCK_BYTES", 20_000)
    lon, lat = random_on_sphere(600, np.random.default_rng(0)).T
    table = pd.DataFrame({"lon": lon, "lat": lat, "a": lon * 2, "b": "x"})
    file = f"t.{kind}"
    table.to_csv(tmp_path / file, index=False) if kind == "csv" else table.to_parquet(
        tmp_path / file, row_group_size=200
    )
    there = f"{s3.bucket}/raw-{kind}"
    storage.write(f"{there}/{file}", (tmp_path / file).read_bytes())
    context = Context(modality="soil", field="vector", folder=tmp_path)
    made = {}
    for folder in (str(tmp_path), there):
        source = TableSource(file=f"{folder}/{file}", shard_rows=20)
        assert len(source.parts(context)) > 1 or kind == "parquet"
        made[folder], _ = conversion.write_rows(f"{folder}/out", source, context, described={})
    here, over_there = made.values()
    assert here == over_there
    assert {*storage.sizes(f"{there}/out")} == {path.name for path in (tmp_path / "out").iterdir()}
    assert len(storage.files(f"{there}/out")) == len(here.shards) + 2
    columns, _ = read_shard(f"{there}/out", here.shards[0], here.fields, here.layout, verify=True)
    np.testing.assert_allclose(columns["vector"][:, 0], columns["lonlat"][:, 0] * 2, rtol=1e-6)


def test_shards_are_read(world_on_s3: str) -> None:
    url = f"{world_on_s3}/shards/words"
    manifest = Manifest.load(url)
    columns, skipped = read_shard(url, manifest.shards[0], manifest.fields, verify=True)
    assert columns["observation"].shape == (128, 12)
    assert skipped == []


@pytest.mark.slow
def test_shards_are_previewed(world_on_s3: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The tiles lie evenly, and also at sea, and nobody has said on what terms."""
    page = f"{world_on_s3}/previews/tiles.html"
    assert preview.main([f"{world_on_s3}/shards/tiles", "--output", page]) == 0
    said = capsys.readouterr().out
    assert "all 1,500 rows of " in said
    assert "of the places are at sea" in said
    assert "no licence and no credit" in said
    assert "BAD" not in said
    assert storage.read(page).startswith(b"<!doctype html>")


def test_a_run_from_shards_to_encoder(
    s3: Any, world_on_s3: str, tiny_world: Any, ray_folder: Path
) -> None:
    tracking = f"sqlite:///{tiny_world.folder}/mlflow.db"
    places = (f"data.root={world_on_s3}/shards", f"storage={world_on_s3}/runs")
    settings = (f"tracking.uri={tracking}", "training.checkpoint_every=2", "training.steps=5")
    again = tiny_world.arguments("far", *places, *settings)
    status, said = tiny_world.run(again, **s3.environment)
    assert status == 0, said
    run = f"{world_on_s3}/runs/far"
    sealed = [file for file in storage.files(run) if file.endswith("/state.json")]
    assert sealed[-1] == f"{run}/checkpoint_000005/state.json"
    assert len(sealed) == 2
    steps = [json.loads(line)["step"] for line in storage.read(f"{run}/metrics.jsonl").splitlines()]
    assert sorted({*steps}) == [1, 2, 3, 4, 5]
    assert Image.open(io.BytesIO(storage.read(f"{run}/map.png"))).width > 1000
    encoder = raytrain.load(run)
    embedding = encoder.encode(np.array([13.4, -70.0]), np.array([52.5, -33.0]))
    assert embedding.shape == (2, encoder.dim)
    assert f"World map   {run}/map.png" in said
    for where, content in everything_kept(run, tiny_world.folder, ray_folder):
        assert s3.secret_key.encode() not in content, where
    assert s3.secret_key not in said


@pytest.mark.slow
def test_a_sweep_on_s3(s3: Any, world_on_s3: str, tiny_world: Any, ray_folder: Path) -> None:
    space = tiny_world.folder / "space.yaml"
    space.write_text(
        "space: {optim.lr: {grid: [1.0e-3, 1.0e-2]}}\nscheduler: {kind: none}\n"
        "trials: null\nfinalists: {count: 0}\n"
    )
    places = (f"data.root={world_on_s3}/shards", f"storage={world_on_s3}/runs")
    settings = [a for a in tiny_world.arguments("sweep", *places) if a != "scaling.workers=1"]
    command = ["--space", str(space), *settings]
    status, said = tiny_world.run(command, "tune", **s3.environment)
    assert status == 0, said
    sweep = f"{world_on_s3}/runs/sweep"
    results = json.loads(storage.read(f"{sweep}/results.json"))
    assert [trial["state"] for trial in results["trials"]] == ["finished", "finished"]
    assert raytrain.load(f"{sweep}/trials/0001").dim
    assert b"<!doctype html>" in storage.read(f"{sweep}/report.html")
    assert "is complete" in tiny_world.run(command, "tune", **s3.environment)[1]
    for where, content in everything_kept(sweep, tiny_world.folder, ray_folder):
        assert s3.secret_key.encode() not in content, where
    assert s3.secret_key not in said


def everything_kept(run: str, *folders: Path) -> Iterator[tuple[str, bytes]]:
    """All files of a run on S3, and of folders here: MLflow's data base, Ray's logs."""
    filesystem, path = fsspec.url_to_fs(run)
    for name, entry in filesystem.find(path, detail=True).items():
        if entry["size"]:  # others mark folders
            yield name, filesystem.cat_file(name)
    for folder in folders:
        for file in folder.rglob("*"):
            if file.is_file():
                yield str(file), file.read_bytes()
