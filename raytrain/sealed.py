"""Folders that are complete or do not count: the seal, written last, has the checksum of each file.

<folder>/…              files
<folder>/state.json     what the folder is about, and under "files" the bytes and sha256 of each
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from raytrain import storage
from raytrain.errors import UserError
from raytrain.storage import StorageError

SEAL = "state.json"


class Sealed(NamedTuple):
    """A complete folder, and what its seal says of it."""

    url: str
    about: dict[str, Any]


class SealError(UserError):
    """No folder is complete, where there should be one."""


def write(url: str, files: Mapping[str, bytes], about: Mapping[str, Any]) -> None:
    """Write the files, then the seal. Raises StorageError; what was written then is removed, or
    does not count where that is refused too."""
    sums = {name: {"bytes": len(c), "sha256": _sha256(c)} for name, c in files.items()}
    seal = json.dumps({**about, "files": sums}, indent=1).encode()
    try:
        for name, content in {**files, SEAL: seal}.items():
            storage.write(f"{url}/{name}", content)
    except StorageError:
        with suppress(StorageError):
            storage.remove_folder(url)
        raise


def is_sealed(url: str) -> bool:
    """Whether its seal was written, which does not say that its files are still good."""
    return storage.size(f"{url}/{SEAL}") is not None


def inspect(url: str) -> tuple[dict[str, Any], str | None]:
    """What the seal says, and what is wrong with the folder if something is; reads all of it."""
    try:
        about = json.loads(storage.read(f"{url}/{SEAL}"))
        files = {**about["files"]}
    except FileNotFoundError:
        return {}, f"was not written to its end (it has no {SEAL})"
    except (ValueError, TypeError, KeyError):
        return {}, f"has a damaged {SEAL}"
    for name, expected in files.items():
        try:
            content = storage.read(f"{url}/{name}")
        except FileNotFoundError:
            return about, f"lacks {name}"
        if {"bytes": len(content), "sha256": _sha256(content)} != expected:
            return about, f"is damaged ({name} does not have the sha256 of {SEAL})"
    return about, None


def oldest_first(url: str, prefix: str) -> list[str]:
    """Names of the folders in `url` that begin with `prefix`, by the number behind it, which may
    have outgrown its leading zeros."""
    return sorted(storage.folders(url, prefix), key=lambda name: (len(name), name))


def newest(url: str, prefix: str, say: Callable[[str], object]) -> Sealed | None:
    """The last complete one of the folders in `url` that begin with `prefix`; None where
    there is no such folder at all. `say` hears of each that is passed over, and why.

    Raises SealError where there are folders and none of them is complete.
    """
    faults: list[str] = []
    for name in reversed(oldest_first(url, prefix)):
        found, fault = inspect(f"{url}/{name}")
        if fault is None:
            for passed_over in faults:
                say(f"{passed_over}; {name} is taken in its place")
            return Sealed(f"{url}/{name}", found)
        faults.append(f"{url}/{name} {fault}")
    if faults:
        raise SealError("; ".join(faults))
    return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
