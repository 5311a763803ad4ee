"""Several hosts on one machine, each with processes, network, disk, name and SSH server of its own.

All that a host is lives in the namespaces of its first process (unshare(1)). Killing that leaves
nothing of it, and it dies with the process that started it.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
INIT = Path(__file__).with_name("init.sh")
NEEDED = (sys.base_prefix, sys.prefix, ROOT)  # Python, what is installed, and the checkout
PROGRAMS = ("curl", "ip", "nsenter", "rsync", "setpriv", "ssh", "sshd", "unshare")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
HOME = "/home/ubuntu"
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")
UNSHARE = ("setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "--fork", "--kill-child")


class LabError(RuntimeError):
    """A host that could not be made; says why."""


@dataclass(frozen=True)
class Host:
    """A host that runs. `pid` is that of its first process, seen from here."""

    name: str
    pid: int
    begun: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def path(self, path: str) -> Path:
        """A file of the host, to be read and written from here; ~ is its user's home."""
        return Path(f"/proc/{self.pid}/root", path.replace("~", HOME, 1).lstrip("/"))

    def command(self, line: str, folder: str = "~") -> list[str]:
        """What runs a command line there, in a login shell of its user."""
        user = [f"HOME={HOME}", "USER=ubuntu", "LOGNAME=ubuntu", "TERM=dumb", "LANG=C.UTF-8"]
        inside = ["nsenter", f"--target={self.pid}", *NAMESPACES, "--root", "--wd"]
        return [*inside, "env", "-i", *user, "bash", "-lc", f"cd {folder} && {line}"]

    def run(self, line: str, folder: str = "~", patience_s: float = 300) -> tuple[int, str]:
        """Exit status of a command line, and all that it printed."""
        done = subprocess.run(
            self.command(line, folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patience_s,
        )
        return done.returncode, done.stdout

    def start(self, line: str, log: str = "/dev/null", folder: str = "~") -> None:
        """Begin a command line that runs beside the others, and ends with the host."""
        command = self.command(f"{line} > {log} 2>&1", folder)
        self.begun.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))


@dataclass(frozen=True)
class Network:
    """A switch, in a namespace of its own, with a wire to everyone who is plugged in."""

    wire: list[str]  # what runs `ip link` at the switch

    def plug(self, name: str, pid: int, address: str) -> None:
        """Give the namespace of a process an address ("10.0.0.1/24")."""
        _run(*self.wire, "add", "name", name, "type", "veth", "peer", "eth0", "netns", str(pid))
        _run(*self.wire, "set", "dev", name, "master", "bridge", "up")
        inside = ["nsenter", f"--target={pid}", "--net", "ip"]
        _run(*inside, "address", "add", address, "dev", "eth0")
        for device in ("lo", "eth0"):
            _run(*inside, "link", "set", device, "up")

    def join(self, stack: contextlib.ExitStack, log: Path, address: str) -> list[str]:
        """What runs a command at an address and among processes of its own, until the stack is
        closed, on this machine in all else."""
        line = "mount -t proc proc /proc && echo ready && exec sleep inf"
        pid = stack.enter_context(_first_process(["sh", "-c", line], log))
        self.plug(log.stem, pid, address)
        return ["nsenter", f"--target={pid}", "--net", "--pid", "--mount"]

    def cut(self, name: str) -> None:
        """Nothing comes through the wire any more, and nobody is told."""
        _run(*self.wire, "set", "dev", name, "down")

    def mend(self, name: str) -> None:
        _run(*self.wire, "set", "dev", name, "up")


@contextlib.contextmanager
def network(log: Path) -> Iterator[Network]:
    """A network of nobody yet."""
    bridge = "ip link add bridge type bridge && ip link set bridge up && echo ready"
    with _first_process(["sh", "-c", f"{bridge} && exec sleep inf"], log) as switch:
        yield Network(["nsenter", f"--target={switch}", "--net", "ip", "link"])


@contextlib.contextmanager
def hosts(
    addresses: Mapping[str, str], folder: Path, needed: Sequence[Path] = ()
) -> Iterator[dict[str, Host]]:
    """Hosts by name, with these addresses ("10.0.0.1/24"), which reach each other and nothing else.

    All know each other's names. Their user `ubuntu` may do everything, and is let in by
    `folder`/key. Folders `needed` are theirs too, copied on write. Raises LabError.
    """
    lines = [f"{address.partition('/')[0]} {name}\n" for name, address in addresses.items()]
    (folder / "hosts").write_text("".join(["127.0.0.1 localhost\n", *lines]))
    for key in ("key", "host_key"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
    found: dict[str, Host] = {}
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [p.wait() for host in found.values() for p in host.begun])
        wires = stack.enter_context(network(folder / "switch.log"))
        for name, address in addresses.items():
            init = [str(INIT), name, str(folder), *map(str, (*NEEDED, *needed))]
            pid = stack.enter_context(_first_process(init, folder / f"{name}.log"))
            wires.plug(name, pid, address)
            found[name] = Host(name, pid)
        yield found


def lack() -> str | None:
    """Why this machine can have no hosts; None where it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"these programs are not installed: {', '.join(missing)}"
    try:
        with tempfile.TemporaryDirectory() as folder, hosts({"one": "10.0.0.1/24"}, Path(folder)):
            return None
    except LabError as error:
        return str(error)


@contextlib.contextmanager
def _first_process(command: list[str], log: Path) -> Iterator[int]:
    """The first process of new namespaces, from the time on when it has printed "ready"."""
    with log.open("w") as file:
        parent = subprocess.Popen(
            [*UNSHARE, *command], stdout=file, stderr=subprocess.STDOUT, env={"PATH": PATH}
        )
    try:
        deadline = time.monotonic() + 30
        while "ready\n" not in log.read_text():
            if parent.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{' '.join(command)}: {log.read_text()}")
            time.sleep(0.02)
        yield psutil.Process(parent.pid).children()[0].pid
    finally:
        if parent.poll() is None:
            for first in psutil.Process(parent.pid).children():
                first.kill()  # and the kernel kills all other processes of its namespace
        parent.wait()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": PATH})
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
