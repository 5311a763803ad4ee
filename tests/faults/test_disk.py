"""The disk that checkpoints go to is full for a while."""

import subprocess
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
    filler = seen / "filler"
    full = subprocess.run(["dd", "if=/dev/zero", f"of={filler}"], stderr=subprocess.PIPE)
    assert b"No space left" in full.stderr
    said: list[str] = []
    assert run.process.stdout is not None
    for line in run.process.stdout:
        said.append(line)
        if "cannot be written" in line:
            filler.unlink()
        if "Encoder " in line:  # while the process is there, its disk can be read
            encoder = raytrain.load(seen / "a")
    assert run.process.wait() == 0, "".join(said)
    output = "".join(said)
    assert "No space left on device" in output
    assert "training goes on, and the next is tried" in output
    assert "was written" in output
    assert encoder.encode(13.4, 52.5).shape == (1, encoder.dim)
