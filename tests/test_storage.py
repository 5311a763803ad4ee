from pathlib import Path

import pytest

from raytrain import storage
from raytrain.errors import UserError
from raytrain.storage import StorageError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for url in (f"{tmp_path}/a/b.bin", f"file://{tmp_path}/c.bin", "memory://folder/d.bin"):
        assert storage.size(url) is None
        storage.write(url, b"old")
        storage.write(url, b"newer")
        assert storage.read(url) == b"newer"
        assert storage.size(url) == 5
        storage.remove(url)
        storage.remove(url)
        with pytest.raises(FileNotFoundError):
            storage.read(url)
    assert not list((tmp_path / "a").iterdir())


def test_names_join_paths_and_urls() -> None:
    assert storage.join("/data", "tiles", "a.tar") == "/data/tiles/a.tar"
    assert storage.join("s3://bucket/data/", "a.tar") == "s3://bucket/data/a.tar"
    assert storage.join("/data", "s3://bucket/tiles") == "s3://bucket/tiles"
    assert storage.join("/data", "/elsewhere") == "/elsewhere"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"file/a\.bin: .*Check that the folder exists"):
        storage.write(f"{tmp_path}/file/a.bin", b"x")


def test_there_is_nothing_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert storage.size(f"{tmp_path}/file/a.bin") is None
    with pytest.raises(FileNotFoundError):
        storage.read(f"{tmp_path}/file/a.bin")


def test_a_store_of_an_unknown_kind_is_named() -> None:
    with pytest.raises(StorageError, match="nosuch://bucket/a: ValueError: Protocol not known"):
        storage.read("nosuch://bucket/a")


def fail_in_the_middle(url: str) -> None:
    with storage.writing(url) as file:
        file.write(b"half")
        raise UserError("in the middle")


def test_a_file_whose_writer_fails_does_not_appear(tmp_path: Path) -> None:
    for url in (f"{tmp_path}/a/b.bin", "memory://failed/b.bin"):
        with pytest.raises(UserError, match=r"^in the middle$"):
            fail_in_the_middle(url)
        assert storage.files(url.rpartition("/")[0]) == []


def test_a_changed_file_has_another_stamp(tmp_path: Path) -> None:
    url = f"{tmp_path}/a.bin"
    storage.write(url, b"old")
    before = storage.stamp(url)
    assert storage.stamp(url) == before
    storage.write(url, b"new")
    assert storage.stamp(url) != before
