"""Bad input that shows only once Ray is there, by the command in this process."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from raytrain.pretrain import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


def command(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    """Exit status of the command, and all that the user saw."""
    status = main([*arguments, "scaling.max_failures=0"])
    return status, capsys.readouterr().out


def test_a_missing_shard(tiny_world, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_world.shard("words", 2).unlink()
    status, said = command(capsys, tiny_world.arguments("a"))
    assert status == 2
    assert said == (
        f"error: {tiny_world.shard('words', 2)} is missing, but the manifest names it. Copy it "
        "again, or delete it and run `python -m raytrain.prepare` again\n"
    )


def test_storage_that_cannot_be_written(tiny_world, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(tiny_world.storage)
    file.write_text("not a folder")
    status, said = command(capsys, tiny_world.arguments("a"))
    assert status == 2
    assert said.startswith(f"error: {file}/a/")
    assert "Check that the folder exists, may be written and has space left" in said
    assert said.count("\n") == 1


def test_more_workers_than_the_machine_has_room_for(
    tiny_world, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = command(capsys, tiny_world.arguments("a", "scaling.workers=64"))
    assert status == 2
    assert "64 workers need 64 CPUs, but the cluster has" in said


def test_a_model_that_does_not_fit_into_memory(
    tiny_world, capsys: pytest.CaptureFixture[str]
) -> None:
    too_wide = "location.network.width=2000000"
    status, said = command(capsys, tiny_world.arguments("a", too_wide))
    assert status == 2
    assert "error: a worker ran out of memory (" in said
    assert "Raise training.accumulate, which keeps the batch and its negatives" in said
    assert "Traceback" not in said


def test_workers_that_are_lost_too_often(tiny_world, capsys: pytest.CaptureFixture[str]) -> None:
    def kill_a_worker() -> None:
        while not tiny_world.checkpoint_of("a", 10).exists():
            time.sleep(0.1)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if any("RayTrainWorker" in part for part in process.cmdline()):
                    process.kill()

    threading.Thread(target=kill_a_worker, daemon=True).start()
    long = ("training.steps=5000", "training.checkpoint_every=10")
    status, said = command(capsys, tiny_world.arguments("a", *long))
    assert status == 2
    assert (
        "error: workers were lost more often than scaling.max_failures allows. worker 0: " in said
    )
    error = said.partition("error: ")[2]
    assert "its worker process has died" in error
    assert error.endswith("goes on from its last checkpoint\n")
    assert error.count("\n") == 1
    assert "Traceback" not in said


def test_a_changed_shard(tiny_world, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        shard = tiny_world.shard("words", number)
        content = bytearray(shard.read_bytes())
        content[2000] ^= 1
        shard.write_bytes(content)
    status, said = command(capsys, tiny_world.arguments("a"))
    assert status == 2
    assert "error: " in said
    error = said.partition("error: ")[2]
    assert f"{tiny_world.root}/words/train-0000" in error
    assert "is changed: its sha256 is" in error
    assert "run `python -m raytrain.prepare` again\n" in error
    assert "Traceback" not in said


@pytest.fixture
def damaged_world(tiny_world):
    """Three samples of every shard of tiles are no image, no place and a swapped place."""
    for path in Path(tiny_world.root, "tiles").glob("train-*.tar"):
        tiny_world.rewrite(
            path,
            {
                "000002.observation.png": b"<html>not found</html>",
                "000005.json": b'{"lon": NaN, "lat": 3}',
                "000009.json": b'{"lon": 47, "lat": 108}',
            },
        )
    return tiny_world


def test_too_many_samples_that_cannot_be_used(
    damaged_world, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = command(capsys, damaged_world.arguments("a", modalities="tiles"))
    assert status == 2
    assert "Traceback" not in said
    error = said.partition("error: ")[2]
    assert error.startswith("tiles: ")
    assert "samples could not be used, the last in " in error
    assert f"{damaged_world.root}/tiles/train-0" in error
    assert "more than data.max_skipped_share = 0.10% of a pass" in error


def test_samples_that_cannot_be_used_are_counted(
    damaged_world, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = damaged_world.arguments("a", "data.max_skipped_share=0.05", modalities="tiles")
    status, said = command(capsys, [*arguments, "tracking.uri=http://127.0.0.1:9/"])
    assert status == 0
    assert "tiles: samples of train-000" in said
    assert "Skipped samples of tiles (undecodable or no place on Earth; others took" in said
    assert "MLflow at http://127.0.0.1:9/ failed" in said


def test_probes_beside_training_are_shown_and_logged(
    tiny_world, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = command(capsys, tiny_world.arguments("a", "evaluate.every=3"))
    assert status == 0
    metrics = tiny_world.metrics("a")
    for step in (3, 6):
        assert f"step {step}: held-out blocks, probes with all labels / 300 labels: igbp 0." in said
        assert 0.1 < metrics[step]["probe/igbp/300 labels"] < 0.6
    assert not any("probe" in key for key in metrics[4])
