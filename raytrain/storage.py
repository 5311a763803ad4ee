"""Bytes at rest: a local path or any fsspec URL (s3://…), read whole and written atomically."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import fsspec

from raytrain.errors import UserError


class StorageError(UserError):
    """A store that refused or could not be reached; the message names the URL and the way out."""


def join(url: str, *names: str) -> str:
    """`url/name/…` for paths and URLs alike; a name that is absolute or a URL replaces the rest."""
    for name in names:
        url = name if "://" in name or name.startswith("/") else f"{url.rstrip('/')}/{name}"
    return url


def read(url: str) -> bytes:
    """The whole content. Raises FileNotFoundError or StorageError."""
    with _explained(url):
        if is_local(url):
            return Path(url).read_bytes()
        filesystem, path = fsspec.core.url_to_fs(url)
        return bytes(filesystem.cat_file(path))


def write(url: str, content: bytes | memoryview) -> None:
    """Write so that a reader sees the old content or the new one, never a part. Makes folders."""
    with writing(url) as file:
        file.write(content)


@contextmanager
def writing(url: str) -> Iterator[BinaryIO]:
    """A file to write into, whose content a reader sees after the block and not before; where the
    block ends in an error there is none. Makes folders."""
    with _explained(url, writing=True):
        if not is_local(url):
            content = io.BytesIO()
            yield content
            filesystem, path = fsspec.core.url_to_fs(url)
            # Object stores show an object once it is complete.
            filesystem.pipe_file(path, content.getvalue())
            return
        target = Path(url)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                yield file
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


def size(url: str) -> int | None:
    """Bytes, or None where there is no such file."""
    try:
        with _explained(url):
            if is_local(url):
                return Path(url).stat().st_size
            filesystem, path = fsspec.core.url_to_fs(url)
            return int(filesystem.info(path)["size"])
    except FileNotFoundError:
        return None


def stamp(url: str) -> str:
    """What changes with a file's content: its size and, where the store knows it, when it was
    written."""
    with _explained(url):
        filesystem, path = fsspec.core.url_to_fs(url)
        info = filesystem.info(path)
        try:
            return f"{info['size']} bytes, {filesystem.modified(path).isoformat()}"
        except NotImplementedError:
            return f"{info['size']} bytes"


def remove(url: str) -> None:
    """Delete a file where there is one."""
    if is_local(url):
        with _explained(url, writing=True):
            Path(url).unlink(missing_ok=True)
    elif size(url) is not None:
        with _explained(url):
            filesystem, path = fsspec.core.url_to_fs(url)
            filesystem.rm_file(path)


def datasets_dir() -> Path:
    """The folder of the cards and embedded data that come with raytrain."""
    return _shipped("datasets")


def spaces_dir() -> Path:
    """The folder of the search spaces that come with raytrain."""
    return _shipped("tune_spaces")


def _shipped(name: str) -> Path:
    package = Path(__file__).parent
    shipped = package / "_shipped" / name
    return shipped if shipped.is_dir() else package.parent / name


def cache_dir() -> Path:
    """Where raytrain keeps what it made or fetched: $RAYTRAIN_CACHE or ~/.cache/raytrain."""
    return Path(os.environ.get("RAYTRAIN_CACHE") or Path.home() / ".cache" / "raytrain")


def folders(url: str, prefix: str) -> list[str]:
    """Names of the folders in `url` that begin with `prefix`, sorted; [] where there is no url."""
    try:
        with _explained(url):
            filesystem, path = fsspec.core.url_to_fs(url)
            listed = filesystem.ls(path, detail=True, refresh=True)  # others write there too
    except FileNotFoundError:
        return []
    found = [f["name"].rstrip("/").rpartition("/")[2] for f in listed if f["type"] == "directory"]
    return sorted(name for name in found if name.startswith(prefix))


def files(url: str) -> list[str]:
    """The file at `url`, all files below the folder there, or those that a pattern (*, ?) fits;
    sorted, and [] where there is none."""
    with _explained(url):
        filesystem, path = fsspec.core.url_to_fs(url)
        found = filesystem.glob(path) if "*" in path or "?" in path else filesystem.find(path)
        return sorted(f if is_local(url) else filesystem.unstrip_protocol(f) for f in found)


def sizes(url: str) -> dict[str, int]:
    """Bytes of every file directly in the folder `url`, by name, in one request."""
    with _explained(url):
        filesystem, path = fsspec.core.url_to_fs(url)
        listed = filesystem.ls(path, detail=True)
    return {f["name"].rpartition("/")[2]: f["size"] for f in listed if f["type"] == "file"}


def remove_folder(url: str) -> None:
    """Delete a folder and all in it, where there is one."""
    with _explained(url):
        filesystem, path = fsspec.core.url_to_fs(url)
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)


def absolute(url: str) -> str:
    """The same place for every process, whatever folder it runs in."""
    return os.path.abspath(url) if is_local(url) else url


def is_local(url: str) -> bool:
    """A path of this machine rather than a URL."""
    return "://" not in url


@contextmanager
def _explained(url: str, writing: bool = False) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        if not writing:
            raise FileNotFoundError(*error.args) from None  # a file is no folder with others in it
        what = f"cannot be written, its folder or bucket does not exist ({error})"
        raise StorageError(f"{url} {what}. {_advice(url)}") from None
    except PermissionError as error:
        raise StorageError(f"{url}: access refused ({error}). {_advice(url)}") from None
    except (OSError, ValueError, ImportError) as error:
        raise StorageError(f"{url}: {type(error).__name__}: {error}. {_advice(url)}") from None
    except Exception as error:  # botocore's errors share no base with OSError
        if not type(error).__module__.startswith(("botocore", "aiobotocore", "aiohttp")):
            raise
        raise StorageError(f"{url}: {type(error).__name__}: {error}. {_advice(url)}") from None


def _advice(url: str) -> str:
    if url.startswith("s3://"):
        return (
            "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for a server other than AWS, "
            "AWS_ENDPOINT_URL, here and on every worker"
        )
    return "Check that the folder exists, may be written and has space left"
