"""The hosts that a cluster is tested on: apart from each other, and gone when they end."""

from pathlib import Path

import psutil
import pytest
from cluster.hosts import hosts


def test_hosts_are_apart_and_leave_nothing(tmp_path: Path) -> None:
    def fails() -> None:
        with hosts({"one": "10.9.0.1/24", "two": "10.9.0.2/24"}, tmp_path) as there:
            one, two = there["one"], there["two"]
            one.path("~/.ssh/id_ed25519").write_text((tmp_path / "key").read_text())
            one.path("~/.ssh/id_ed25519").chmod(0o600)
            one.path("/tmp/mine").write_text("of one")
            ssh = "ssh -o StrictHostKeyChecking=no -o LogLevel=ERROR two"
            assert one.run(f"{ssh} 'hostname; ls /dev/shm; test -e /tmp/mine'") == (1, "two\n")
            assert not Path("/tmp/mine").exists()
            two.start("sleep 1000")
            assert "sleep" not in one.run("ps -A")[1]
            assert one.run("ip route get 1.1.1.1")[0] != 0
            raise RuntimeError(f"{one.pid} {two.pid}")

    with pytest.raises(RuntimeError) as error:
        fails()
    assert not [pid for pid in map(int, str(error.value).split()) if psutil.pid_exists(pid)]
    commands = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert ["sleep", "1000"] not in commands
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
