"""The disk that checkpoints go to is full for a while."""

import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

import raytrain

pytestmark = pytest.mark.slow

SETTINGS = (
    "training.steps=160",
    "training.checkpoint_every=10",
    "training.accumulate=8",  # steps slow enough for some to pass while the disk is full
)


def test_training_outlives_a_full_disk(tiny_world: Any, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    arguments = [a for a in tiny_world.arguments("a", *SETTINGS) if not a.startswith("storage=")]
    # A file system of 4 MB that the command sees, and whoever looks through /proc.
    mount = f'mount -t tmpfs -o size=4m tmpfs {disk} && exec "$@"'
    within = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh"]
    run = tiny_world.start([*arguments, f"storage={disk}"], within=within)
    seen = Path(f"/proc/{run.process.pid}/root{disk}")
    run.wait_for(seen / "a" / "checkpoint_000010" / "state.json")
    filler, enough = seen / "filler", threading.Event()

    def fill() -> None:
        """Take what an old checkpoint leaves, too, when it goes."""
        command = ["dd", "if=/dev/zero", f"of={filler}", "oflag=append", "conv=notrunc"]
        while not enough.wait(0.05):
            subprocess.run(command, stderr=subprocess.DEVNULL)

    filling = threading.Thread(target=fill, daemon=True)
    filling.start()
    said: list[str] = []
    assert run.process.stdout is not None
    with run.process.stdout:
        for line in run.process.stdout:
            said.append(line)
            if "cannot be written" in line:
                enough.set()
                filling.join()
                filler.unlink()
            if "Encoder " in line:  # while the process is there, its disk can be read
                encoder = raytrain.load(seen / "a")
    output = "".join(said)
    assert run.process.wait() == 0, output
    assert "No space left on device" in output, output
    assert "training goes on, and the next is tried" in output
    assert "was written" in output
    assert encoder.encode(13.4, 52.5).shape == (1, encoder.dim)
