"""What the facts of all nodes mean for a run. Pure functions: facts by the node's name in,
findings out; one of green where no node is wanting, else one for each that is."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from raytrain.checks.finding import Finding, State
from raytrain.checks.machine import Facts

GB = 1e9
KILLED_SHARE = 0.95  # of memory in use: Ray kills workers from here on
FULL_SHARE = 0.95  # of a disk in use: Ray spills no more, and refuses objects
LEAST_FREE_GB = {"object spilling": 10, "storage": 5}  # a run's checkpoints are some 100 MB each
LEAST_OPEN_FILES = 4096  # Ray itself warns below
# NTP holds a clock within milliseconds: one that is a second off is not held by any, and drifts on.
# One that is half a minute off may be set at any time, and then the times of metrics jump; S3
# refuses requests from 15 minutes on.
CLOCK_YELLOW_S, CLOCK_RED_S = 1.0, 30.0
USED_BY_OTHERS = 0.1  # of a GPU's memory


class Fault(NamedTuple):
    """What is wrong on a node."""

    node: str
    state: State
    words: str
    remedy: str


def _findings(name: str, faults: Iterable[Fault], green: str) -> list[Finding]:
    found = [Finding(name, f.state, f"{f.node}: {f.words}", f.remedy) for f in faults]
    return found or [Finding(name, "green", green)]


def versions(facts: Mapping[str, Facts]) -> list[Finding]:
    """Python, Ray, torch, numpy, pyarrow and raytrain's code, which all nodes must have alike."""
    found: list[Finding] = []
    alike = []
    for package in dict.fromkeys(name for f in facts.values() for name in f.versions):
        nodes: dict[str, list[str]] = {}
        for node, f in facts.items():
            nodes.setdefault(f.versions.get(package, "missing"), []).append(node)
        if len(nodes) == 1:
            alike.append(f"{package} {next(iter(nodes))}")
            continue
        where = "; ".join(f"{version} on {', '.join(on)}" for version, on in nodes.items())
        remedy = "install the same on every node, and start Ray there again"
        found.append(Finding("versions", "red", f"{package} differs: {where}", remedy))
    return found or [Finding("versions", "green", ", ".join(alike))]


def gpus(facts: Mapping[str, Facts], by_ray: Mapping[str, float]) -> list[Finding]:
    """GPUs that Ray counts on each node, beside those that torch and the driver see."""
    faults = [fault for node, f in facts.items() for fault in _gpu_faults(node, f, by_ray[node])]
    total = int(sum(by_ray.values()))
    kinds = {
        f"{g.name}, {g.total_mib / 1024:.0f} GiB, driver {g.driver}"
        for f in facts.values()
        for g in f.gpus
    }
    drivers = {g.driver for f in facts.values() for g in f.gpus}
    if len(drivers) > 1:
        where = [f"{n} has {f.gpus[0].driver}" for n, f in facts.items() if f.gpus]
        advice = "install the same driver everywhere, unless NCCL is known to work between these"
        faults.append(Fault("drivers differ", "yellow", ", ".join(where), advice))
    green = f"{total} ({'; '.join(sorted(kinds))})" if total else "none: training is on CPUs"
    return _findings("gpus", faults, green)


def _gpu_faults(node: str, facts: Facts, by_ray: float) -> Iterable[Fault]:
    there = max(len(facts.gpus), facts.torch_gpus)
    if facts.torch_gpus < by_ray:
        words = (
            f"Ray counts {by_ray:g} GPUs, the driver {len(facts.gpus)}, torch {facts.torch_gpus}"
        )
        why = f" ({facts.torch_words})" if facts.torch_words else ""
        remedy = "install a torch whose CUDA this driver runs (https://pytorch.org), or the driver"
        yield Fault(node, "red", words + why, remedy)
    elif by_ray < there:
        remedy = "start Ray there with --num-gpus, or leave it so to keep GPUs for others"
        yield Fault(node, "yellow", f"Ray counts {by_ray:g} of {there} GPUs", remedy)
    for number, gpu in enumerate(facts.gpus):
        if gpu.used_mib > USED_BY_OTHERS * gpu.total_mib:
            used = f"{gpu.used_mib / 1024:.1f} of {gpu.total_mib / 1024:.0f} GiB"
            remedy = "see `nvidia-smi` for whose it is"
            yield Fault(node, "yellow", f"{used} of GPU {number} are in use", remedy)


def memory(facts: Mapping[str, Facts]) -> list[Finding]:
    """Memory in use, beside the share at which Ray begins to kill workers."""
    faults = []
    for node, f in facts.items():
        share = f.memory_used / f.memory_total
        if share > KILLED_SHARE - 0.1:
            state: State = "red" if share > KILLED_SHARE else "yellow"
            words = f"{share:.0%} of {f.memory_total / GB:.1f} GB are in use"
            remedy = f"end what uses it: Ray kills workers from {KILLED_SHARE:.0%} on"
            faults.append(Fault(node, state, words, remedy))
    least = min(f.memory_total - f.memory_used for f in facts.values())
    return _findings("memory", faults, f"at least {least / GB:.1f} GB free")


def object_store(facts: Mapping[str, Facts], bytes_by_ray: Mapping[str, float]) -> list[Finding]:
    """Whether Ray's object store lies in shared memory, or on a disk for want of it."""
    faults = []
    for node, f in facts.items():
        wanted = bytes_by_ray[node]
        if f.shm_total and not f.store_folder.startswith("/dev/shm"):
            words = (
                f"the object store of {wanted / GB:.1f} GB lies on a disk, in {f.store_folder}, "
                f"since /dev/shm has {f.shm_total / GB:.1f} GB"
            )
            remedy = (
                f"`mount -o remount,size={1.2 * wanted / 2**30:.0f}G /dev/shm` (docker: "
                "--shm-size), and start Ray there again"
            )
            faults.append(Fault(node, "yellow", words, remedy))
    least = min(bytes_by_ray.values())
    return _findings("object store", faults, f"at least {least / GB:.1f} GB, in shared memory")


def disk(facts: Mapping[str, Facts]) -> list[Finding]:
    """Free disk where Ray spills, and where runs go if that is a folder."""
    faults = []
    for node, f in facts.items():
        for d in f.disks:
            full = 1 - d.free / d.total > FULL_SHARE
            if full or d.free < LEAST_FREE_GB[d.purpose] * GB:
                share = f"{d.free / GB:.1f} of {d.total / GB:.0f} GB"
                words = f"{share} are free in {d.folder} ({d.purpose})"
                remedy = f"free some: Ray refuses objects once {FULL_SHARE:.0%} are in use"
                faults.append(Fault(node, "red" if full else "yellow", words, remedy))
    least: dict[str, float] = {}
    for d in (d for f in facts.values() for d in f.disks):
        least[d.purpose] = min(d.free / GB, least.get(d.purpose, d.free / GB))
    green = ", ".join(f"{free:.0f} GB free for {purpose}" for purpose, free in least.items())
    return _findings("disk", faults, green)


def open_files(facts: Mapping[str, Facts]) -> list[Finding]:
    """The limit on open files and sockets of a process."""
    low = {node: f.open_files for node, f in facts.items() if f.open_files < LEAST_OPEN_FILES}
    remedy = "`ulimit -n 65536` before `ray start`, or LimitNOFILE of its service"
    faults = [Fault(node, "yellow", f"at most {n} a process", remedy) for node, n in low.items()]
    least = min(f.open_files for f in facts.values())
    return _findings("open files", faults, f"at least {least:,} a process")


def clocks(offsets_s: Mapping[str, float]) -> list[Finding]:
    """Seconds that the clocks of other nodes are ahead of the driver's."""
    faults = []
    for node, offset in offsets_s.items():
        if abs(offset) > CLOCK_YELLOW_S:
            words = f"{abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} this node"
            remedy = "have NTP keep it (`timedatectl set-ntp true`); S3 refuses 15 minutes"
            faults.append(
                Fault(node, "red" if abs(offset) > CLOCK_RED_S else "yellow", words, remedy)
            )
    most = 1000 * max(map(abs, offsets_s.values()), default=0.0)
    green = f"all within {most:.0f} ms of this node" if offsets_s else "not needed: one node"
    return _findings("clock", faults, green)
