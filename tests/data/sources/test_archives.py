"""Archives of others: how much is read of them, and what is said of damaged ones."""

import os
import tarfile
from pathlib import Path

import layouts
import pytest

from raytrain import storage
from raytrain.data.sources import archives
from raytrain.data.sources.archives import Member, Remote, find_archives, members
from raytrain.data.sources.files import Context, SourceError


@pytest.mark.parametrize("size", [3, 2_000, 40_000, 700_000])
def test_only_headers_are_read_where_members_are_large(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [(f"{n}.bin", os.urandom(size + n)) for n in range(30)]
    path = layouts.archive(tmp_path / "x.tar", files)
    asked: list[int] = []
    whole = storage.read_range

    def counted(url: str, first: int, stop: int) -> bytes:
        asked.append(stop - first)
        return whole(url, first, stop)

    monkeypatch.setattr(storage, "read_range", counted)
    found, damage = members(Remote(str(path)))
    assert damage is None
    assert [member.name for member in found] == [name for name, _ in files]
    content = path.read_bytes()
    assert [content[member.first : member.stop] for member in found] == [c for _, c in files]
    if size < archives.CLOSE:  # read as it comes, by few requests
        assert len(asked) <= 2 + len(content) / archives.NEAR
    else:
        assert sum(asked) < len(content) / 5


def test_hidden_files_folders_and_long_names(tmp_path: Path) -> None:
    long = "/".join(["folder" * 10] * 4) + "/name.tif"
    for number, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w", format=form) as archive:
            for name in ("./a.tif", "._a.tif", "x/.DS_Store", long):
                (tmp_path / "file").write_bytes(name.encode())
                archive.add(tmp_path / "file", name)
            archive.add(tmp_path / "..", "folder", recursive=False)
        found, damage = members(Remote(str(path)))
        assert damage is None
        assert [member.name for member in found] == ["a.tif", long]


def test_damage_is_said_and_what_lies_before_it_is_found(tmp_path: Path) -> None:
    path = layouts.archive(tmp_path / "x.tar", [("a", b"1" * 600), ("b", b"2" * 600)])
    content = path.read_bytes()
    cases = {
        content[:2200]: ("a", "ends at byte 2200, inside member `b`, which should reach 2648"),
        content[:3072]: ("ab", "ends at byte 3072 without the mark of an archive's end"),
        content[:1536] + b"x" * 4096: ("a", "no tar header at byte 1536"),
        b"": ("", "ends at byte 0 without"),
    }
    for damaged, (names, said) in cases.items():
        path.write_bytes(damaged)
        found, damage = members(Remote(str(path)))
        assert "".join(member.name for member in found) == names
        assert damage is not None
        assert said in damage
    path.write_bytes(content)
    assert members(Remote(str(path))) == ([Member("a", 512, 1112), Member("b", 2048, 2648)], None)


def test_links_and_names_without_bound_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert members(Remote(str(path)))[1] == "member `link` is no file but a link"
    with tarfile.open(path, "w") as archive:
        name = tarfile.TarInfo("././@LongLink")
        name.type, name.size = tarfile.GNUTYPE_LONGNAME, 2 << 20
        (tmp_path / "name").write_bytes(b"n" * (2 << 20))
        with (tmp_path / "name").open("rb") as content:
            archive.addfile(name, content)
    assert members(Remote(str(path)))[1] == "a name of 2,097,152 bytes at byte 512"


def test_archives_in_the_order_of_their_names_with_about_their_rows(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        files = [(f"{n}.jpg", b"x" * 5000) for n in range(10 * (number + 1))]
        layouts.archive(tmp_path / f"{number}.tar", files)
    where = Context(modality="photos", field="photo", folder=tmp_path)
    parts = find_archives("*.tar", where)
    assert [Path(part.file).name for part in parts] == ["0.tar", "1.tar", "2.tar"]
    assert [part.rows for part in parts] == pytest.approx([10, 20, 30], rel=0.2)
    (tmp_path / "3.tar.gz").write_bytes(b"packed")
    with pytest.raises(SourceError, match=r"3\.tar\.gz is no \.tar that can be read in pieces"):
        find_archives("*.tar*", where)
