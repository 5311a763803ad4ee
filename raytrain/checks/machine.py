"""What a node says of itself: versions, GPUs, memory, disks, limits."""

import hashlib
import os
import platform
import resource
import subprocess
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

import raytrain
from raytrain import storage

PACKAGES = ("ray", "torch", "numpy", "pyarrow")
QUERY = "name,memory.total,memory.used,driver_version"
NVIDIA_SMI_S = 20  # it takes seconds where the driver is not kept loaded


@dataclass(frozen=True)
class Gpu:
    """As nvidia-smi describes it; memory in MiB."""

    name: str
    total_mib: int
    used_mib: int
    driver: str


@dataclass(frozen=True)
class Disk:
    """A folder and the bytes of the file system that it is on, or will be when it is made."""

    purpose: str
    folder: str
    total: int
    free: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A node, as it describes itself; sizes in bytes."""

    versions: dict[str, str]
    gpus: tuple[Gpu, ...]
    torch_gpus: int  # those that torch can use
    torch_words: str  # why it cannot use others
    memory_total: int
    memory_used: int
    shm_total: int
    store_folder: str  # where the object store lies
    disks: tuple[Disk, ...]
    open_files: int  # limit of a process
    asks_for_token: bool


def survey(storage_url: str) -> Facts:
    """The facts of the node that this runs on, as a Ray task."""
    from ray._common.utils import get_system_memory  # as Ray counts: in a container, its limit
    from ray._private.authentication.authentication_utils import is_token_auth_enabled
    from ray._private.utils import get_used_memory

    raylet = _options(psutil.Process().parent())
    spills = raylet.get("fallback_directory", "/tmp/ray")
    disks = [_disk("object spilling", spills)]
    if storage.is_local(storage_url):
        disks.append(_disk("storage", storage_url))
    gpus = _nvidia_smi()
    torch_gpus, torch_words = _torch_gpus() if gpus or _has_device() else (0, "")
    shm = Path("/dev/shm")
    return Facts(
        versions=_versions(),
        gpus=gpus,
        torch_gpus=torch_gpus,
        torch_words=torch_words,
        memory_total=int(get_system_memory()),
        memory_used=int(get_used_memory()),
        shm_total=psutil.disk_usage(str(shm)).total if shm.is_dir() else 0,
        store_folder=raylet.get("plasma_directory", ""),
        disks=tuple(disks),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        asks_for_token=is_token_auth_enabled(),
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found | {"raytrain": f"{raytrain.__version__} ({_digest()})"}


def _digest() -> str:
    """Short, of all code of raytrain: checkouts of one version may differ."""
    digest, package = hashlib.sha256(), Path(raytrain.__file__).parent
    for file in sorted(package.rglob("*.py")):
        digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:8]


def _options(process: psutil.Process | None) -> dict[str, str]:
    """The --name=value options of a process; a worker's parent is its raylet."""
    words = process.cmdline() if process else []
    pairs = (word[2:].partition("=") for word in words if word.startswith("--"))
    return {name: value for name, _, value in pairs}


def _disk(purpose: str, folder: str) -> Disk:
    there = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
    usage = psutil.disk_usage(str(there))
    return Disk(purpose, folder, usage.total, usage.free)


def _nvidia_smi() -> tuple[Gpu, ...]:
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_S)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    rows = [[word.strip() for word in line.split(",")] for line in done.stdout.splitlines()]
    return tuple(
        Gpu(name, _mib(total), _mib(used), driver)
        for name, total, used, driver in (row for row in rows if len(row) == len(QUERY.split(",")))
    )


def _mib(word: str) -> int:
    return int(word) if word.isdigit() else 0  # "[N/A]" on a GPU that shares the CPU's memory


def _has_device() -> bool:
    return Path("/dev/nvidia0").exists()


def _torch_gpus() -> tuple[int, str]:
    """The GPUs that torch can use, and what it says where it can use none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":  # as Ray sets it for a task without a GPU
        del os.environ["CUDA_VISIBLE_DEVICES"]
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return torch.cuda.device_count(), ""
    if torch.version.cuda is None:
        return 0, f"torch {torch.__version__} is built without CUDA"
    return 0, " ".join(str(warning.message).split("\n")[0] for warning in said)
