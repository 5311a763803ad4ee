"""S3 that goes away under a run, and comes back."""

import json
import re
import time
from dataclasses import replace
from typing import Any

import fsspec
import pytest
from faults.proxy import Proxy

from raytrain import storage

pytestmark = pytest.mark.slow

STEPS, DOWN_S = 200, 60


def test_a_run_outlives_a_minute_without_s3(s3: Any, proxy: Proxy, tiny_world: Any) -> None:
    """Its data, checkpoints and records are all there. It takes every step, and says what it waits
    for."""
    filesystem, path = fsspec.url_to_fs(f"{s3.bucket}/outage")
    filesystem.put(f"{tiny_world.root}/", f"{path}/shards/", recursive=True)
    places = (f"data.root={s3.bucket}/outage/shards", f"storage={s3.bucket}/outage/runs")
    settings = (f"training.steps={STEPS}", "training.checkpoint_every=10", "training.accumulate=4")
    arguments = tiny_world.arguments("far", *settings, *places)
    run = tiny_world.start(arguments, **replace(s3, endpoint=proxy.endpoint).environment)
    url = f"{s3.bucket}/outage/runs/far"
    run.wait_until(lambda: newest_step(url) > 0, "a checkpoint")
    proxy.fail("refuse", seconds=DOWN_S)
    assert newest_step(url) < STEPS
    began = time.monotonic()
    status, said = run.finish()
    assert status == 0, said
    assert time.monotonic() - began > DOWN_S
    assert re.search(rf"{url}\S*: \w+Error: .*; trying again for 120 s", said)
    steps = [json.loads(line)["step"] for line in storage.read(f"{url}/metrics.jsonl").splitlines()]
    assert sorted({*steps}) == [*range(1, STEPS + 1)]
    assert newest_step(url) == STEPS
    assert storage.size(f"{url}/map.png")


def newest_step(url: str) -> int:
    """Of the last checkpoint of a run that is sealed; 0 before the first."""
    seals = [file.split("/")[-2:] for file in storage.files(url)]
    return max((int(folder[-6:]) for folder, file in seals if file == "state.json"), default=0)
