"""Memory that runs out while a run trains."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from raytrain.pretrain import main

pytestmark = pytest.mark.slow

LIMIT, THRESHOLD = 6 * 2**30, 0.55  # Ray's monitor ends workers above 3.5 GB; the kernel at 6.4
CGROUPS = Path("/sys/fs/cgroup")
MEMORY = CGROUPS / "memory" if (CGROUPS / "memory").is_dir() else CGROUPS  # version 1, or 2


@pytest.fixture
def small_machine() -> Iterator[list[str]]:
    """What starts a command that takes LIMIT for this machine's memory: in a control group that it
    sees alone."""
    group = MEMORY / f"raytrain-{os.getpid()}"
    try:
        group.mkdir()
        names = ("memory.limit_in_bytes", "memory.max")
        next(group / name for name in names if (group / name).exists()).write_text(str(LIMIT))
    except (OSError, StopIteration) as error:
        pytest.skip(f"no control group for memory can be made here: {error!r}")
    inside = f'echo $$ > {group}/cgroup.procs && mount --bind {group} {MEMORY} && exec "$@"'
    yield ["unshare", "--mount", "sh", "-c", inside, "sh"]
    for _ in range(300):
        with suppress(OSError):  # Ray's processes end a little after the command
            group.rmdir()
            break
        time.sleep(0.1)


def test_rays_monitor_ends_a_worker_that_takes_too_much(
    tiny_world: Any, small_machine: list[str], local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """With SALT the second modality's turn takes a gigabyte more, for gradients and moments of its
    tower. The run goes on from its checkpoint where there is more memory, in smaller parts too."""
    large = "tower: {kind: mlp, width: 8000, hidden_layers: 2}\n"
    Path(tiny_world.card("words")).write_text(large)
    settings = ("method.kind=salt", "training.steps=30", "training.checkpoint_every=10")
    arguments = tiny_world.arguments("a", *settings)
    quick = {"RAY_memory_usage_threshold": str(THRESHOLD), "RAY_memory_monitor_refresh_ms": "100"}
    run = tiny_world.start([*arguments, "scaling.max_failures=0"], within=small_machine, **quick)
    status, said = run.finish()
    assert status == 2, said
    error = said.partition("error: ")[2]
    assert "Ray ended worker 0, since memory ran out on its node (" in error
    assert "6.00GB limit" in error
    assert "Raise training.accumulate, which keeps the batch and its negatives" in error
    assert error.endswith("goes on from its last checkpoint\n")
    assert error.count("\n") == 1
    assert "Traceback" not in said

    reached = int(tiny_world.checkpoint("a").name.removeprefix("checkpoint_"))
    assert reached == 20
    assert main([*arguments, "training.accumulate=2"]) == 0
    assert f"a goes on from step {reached}" in capsys.readouterr().out
    assert [*tiny_world.metrics("a")] == [*range(1, 31)]
