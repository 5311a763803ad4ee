"""Bytes at rest: a local path or any fsspec URL (s3://…), read whole and written atomically.

A store that fails for a moment is asked again: by botocore within seconds (three attempts a
request; AWS_RETRY_MODE and AWS_MAX_ATTEMPTS change that), and here for RAYTRAIN_RETRY_S seconds
(120), with waits that double. What no waiting mends fails at once: a refused key, a missing file.
"""

import io
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec

from raytrain.errors import UserError

T = TypeVar("T")

S3 = ("s3://", "s3a://")
RETRY_S = 120.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 15  # without a byte
PASSING_STATUS = {408, 429, 500, 502, 503, 504}
PASSING_CODES = {  # S3's words for bytes that were spoilt on their way, and for an upload cut off
    "BadDigest", "IncompleteBody", "NoSuchUpload", "RequestTimeout", "XAmzContentSHA256Mismatch",
}  # fmt: skip

log = logging.getLogger(__name__)


class StorageError(UserError):
    """A store that refused or could not be reached; the message names the URL and the way out."""


def join(url: str, *names: str) -> str:
    """`url/name/…` for paths and URLs alike; a name that is absolute or a URL replaces the rest."""
    for name in names:
        url = name if "://" in name or name.startswith("/") else f"{url.rstrip('/')}/{name}"
    return url


def read(url: str) -> bytes:
    """The whole content. Raises FileNotFoundError or StorageError."""
    # By one request. s3fs would ask for the size, and take what is large in ranges, of which S3
    # sends no checksum that botocore could check.
    options = {"max_concurrency": 1} if url.startswith(S3) else {}
    return _access(url, lambda store, path: bytes(store.cat_file(path, **options)))


def read_range(url: str, first: int, stop: int) -> bytes:
    """The bytes from `first` to before `stop`, by one request. Raises as `read` does."""
    return _access(url, lambda store, path: bytes(store.cat_file(path, start=first, end=stop)))


def write(url: str, content: bytes | memoryview) -> None:
    """Write so that a reader sees the old content or the new one, never a part. Makes folders."""
    with writing(url) as file:
        file.write(content)


@contextmanager
def writing(url: str) -> Iterator[BinaryIO]:
    """A file to write into, whose content a reader sees after the block and not before; where the
    block ends in an error there is none. Makes folders."""
    if not is_local(url):
        content = io.BytesIO()
        yield content
        # Object stores show an object once it is complete. Large ones go up in parts.
        whole = content.getvalue()
        _access(url, lambda store, path: store.pipe_file(path, whole), writing=True)
        return
    with _explained(url, writing=True):
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
        return _access(url, lambda store, path: int(store.info(path)["size"]))
    except FileNotFoundError:
        return None


def stamp(url: str) -> str:
    """What changes with a file's content: its size and, where the store knows it, when it was
    written."""

    def ask(store: Any, path: str) -> str:
        info = store.info(path)
        try:
            return f"{info['size']} bytes, {store.modified(path).isoformat()}"
        except NotImplementedError:
            return f"{info['size']} bytes"

    return _access(url, ask)


def remove(url: str) -> None:
    """Delete a file where there is one."""
    if is_local(url):
        with _explained(url, writing=True):
            Path(url).unlink(missing_ok=True)
    elif size(url) is not None:
        _access(url, lambda store, path: store.rm_file(path))


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
        listed = _access(url, lambda store, path: store.ls(path, detail=True))
    except FileNotFoundError:
        return []
    found = [f["name"].rstrip("/").rpartition("/")[2] for f in listed if f["type"] == "directory"]
    return sorted(name for name in found if name.startswith(prefix))


def files(url: str) -> list[str]:
    """The file at `url`, all files below the folder there, or those that a pattern (*, ?) fits;
    sorted, and [] where there is none."""

    def find(store: Any, path: str) -> list[str]:
        found = store.glob(path) if "*" in path or "?" in path else store.find(path)
        return sorted(f if is_local(url) else store.unstrip_protocol(f) for f in found)

    return _access(url, find)


def sizes(url: str) -> dict[str, int]:
    """Bytes of every file directly in the folder `url`, by name, in one request."""
    listed = _access(url, lambda store, path: store.ls(path, detail=True))
    return {f["name"].rpartition("/")[2]: f["size"] for f in listed if f["type"] == "file"}


def remove_folder(url: str) -> None:
    """Delete a folder and all in it, where there is one."""

    def empty(store: Any, path: str) -> None:
        if store.exists(path):
            store.rm(path, recursive=True)

    _access(url, empty)


def absolute(url: str) -> str:
    """The same place for every process, whatever folder it runs in."""
    return os.path.abspath(url) if is_local(url) else url


def is_local(url: str) -> bool:
    """A path of this machine rather than a URL."""
    return "://" not in url


def _access(url: str, act: Callable[[Any, str], T], writing: bool = False) -> T:
    """What `act` returns for the file system of a URL and the path in it; again and again while the
    store fails for a reason that passes. Raises FileNotFoundError or StorageError."""
    with _explained(url, writing):
        store, path = _opened(url)
        patience, wait = float(os.environ.get("RAYTRAIN_RETRY_S", RETRY_S)), FIRST_WAIT_S
        until = time.monotonic() + patience
        while True:
            try:
                return act(store, path)
            except Exception as error:
                left, reason = until - time.monotonic(), f"{type(error).__name__}: {error}"
                if is_local(url) or not _passes(error) or not patience:
                    raise
                if left <= 0:
                    raise StorageError(
                        f"{url}: {reason}, for {patience:g} s (RAYTRAIN_RETRY_S). {_advice(url)}"
                    ) from None
                if wait == FIRST_WAIT_S:
                    log.warning("%s: %s; trying again for %g s", url, reason, patience)
            time.sleep(min(wait * random.uniform(0.5, 1), left))
            wait = min(2 * wait, LONGEST_WAIT_S)


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it, for files that are read in pieces. S3 is asked
    for each up to 12 times, which takes more than a minute."""
    store, path = _opened(url, attempts=12)
    if url.startswith(S3):
        store.retries = 3  # where it ends in the middle, which botocore does not see
    return store, path


def _opened(url: str, attempts: int = 3) -> tuple[Any, str]:
    if not url.startswith(S3):
        store, path = fsspec.core.url_to_fs(url)
        return store, path
    if "@" in url.split("/")[2]:
        raise StorageError(
            "an s3:// URL must not hold a key; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "use the files of the AWS command line"
        )
    config: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S}
    if not {"AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"} & {*os.environ}:
        config["retries"] = {"mode": "standard", "total_max_attempts": attempts}
    # Listings are not kept: other processes write there too.
    store, path = fsspec.core.url_to_fs(url, config_kwargs=config, use_listings_cache=False)
    store.retries = 1  # beside botocore's, which they would multiply
    return store, path


def _passes(error: Exception) -> bool:
    """Whether waiting may mend it: no answer, a broken one, or a store that is overloaded."""
    import aiohttp
    from botocore import exceptions, parsers

    response = getattr(error.__cause__ or error, "response", None)  # s3fs translates botocore's
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status in PASSING_STATUS or response.get("Error", {}).get("Code") in PASSING_CODES
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in PASSING_STATUS
    broken = (
        ConnectionError,
        TimeoutError,
        aiohttp.ClientError,
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        exceptions.FlexibleChecksumError,
        parsers.ResponseParserError,
    )
    return isinstance(error, broken) and not isinstance(error, exceptions.SSLError)


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
    if url.startswith(S3):
        return (
            "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for a server other than AWS, "
            "AWS_ENDPOINT_URL, here and on every worker"
        )
    return "Check that the folder exists, may be written and has space left"
