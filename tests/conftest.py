"""A tiny world of made modalities in the real format, runs on it, and a real S3 server."""

import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from weed import Weed

from raytrain import geo
from raytrain.data import codecs
from raytrain.data.writer import Observations, write_shards

if TYPE_CHECKING:
    from raytrain.training.job import Job

pytest_plugins = ["browser"]

PATIENCE_S = 480  # for one run, on a machine that has other things to do
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",
    "RAY_ADDRESS": "local",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
}
TINY = (  # settings of a run that takes no time beside Ray's
    "location.positional.degrees=4",
    "location.network.width=16",
    "location.dim=16",
    "optim.warmup_steps=2",
    "training.batch=32",
    "training.steps=6",
    "training.log_every=1",
    "training.validation_places=64",
    "training.validate_every=1000",
    "training.checkpoint_every=1000",
    "scaling.workers=1",
    "scaling.threads_per_worker=1",
    "evaluate.tasks=igbp",
    "evaluate.seeds=1",
)


def observe(name: str, lonlat_deg: NDArray[np.float64]) -> NDArray[Any]:
    """What each made modality sees at places: smooth in them, with noise."""
    rng = np.random.default_rng(0)
    waves = geo.unit_xyz(lonlat_deg) @ rng.normal(size=(3, 12)) + rng.normal(0, 0.1, 12)
    if name == "tiles":
        tiles = 128 + 40 * waves[:, :3, None, None] + rng.normal(0, 9, (len(waves), 3, 8, 8))
        return tiles.clip(0, 255).astype(np.uint8)
    columns = {"weather": 6, "words": 12}[name]
    return (waves[:, :columns] + rng.normal(0, 0.1, (len(waves), columns))).astype(np.float32)


CLOCKS = ("pairs_per_s", "data_wait", "time_s")  # what differs between equal runs
PLACES = {"tiles": 1500, "weather": 900, "words": 500}
TOWERS = {
    "tiles": "{kind: cnn, patch_px: 4, width: 8, stages: 1}\naugment: {flip: true}",
    "weather": "{kind: mlp, width: 16, hidden_layers: 1}",
    "words": "{kind: projection}",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests begin first: processes that share the files then end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that are marked `gpu` are left out where there is none."""
    import torch

    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no GPU")


@dataclass(frozen=True)
class Run:
    """A command that was started, with all processes that it started in turn."""

    process: "subprocess.Popen[str]"

    def finish(self) -> tuple[int, str]:
        """Exit status and output when it ends; what does not end in time is killed."""
        try:
            output, _ = self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            pytest.fail(f"no end after {PATIENCE_S} s:\n{self.process.communicate()[0]}")
        return self.process.returncode, output

    def wait_for(self, path: Path) -> None:
        """Return as soon as the path exists, while the command runs."""
        self.wait_until(path.exists, str(path))

    def wait_for_workers(self, count: int) -> list[psutil.Process]:
        """Its training workers, and no other run's, as soon as there are so many."""
        self.wait_until(lambda: len(self.workers()) >= count, f"{count} workers")
        return self.workers()

    def wait_until(self, done: Callable[[], bool], what: str) -> None:
        """Return as soon as it is done, while the command runs."""
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
                pytest.fail(f"{what} did not come:\n{self.process.communicate()[0]}")
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """To its process group: what a terminal's Ctrl-C does with SIGINT."""
        os.killpg(self.process.pid, number)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self, title: str = "RayTrainWorker") -> list[psutil.Process]:
        """The processes of this title among them: those that train."""
        found = []
        for child in self.descendants():
            with suppress(psutil.NoSuchProcess):
                if any(title in part for part in child.cmdline()):
                    found.append(child)
        return found


def hear_interrupts() -> None:
    """A shell makes commands in its background deaf to SIGINT, and these hand that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class World:
    """Shards and cards of made modalities, a place for runs, and the command that trains there."""

    folder: Path
    root: str
    storage: str
    environment: dict[str, str]

    def card(self, name: str) -> str:
        return str(self.folder / f"{name}.yaml")

    def arguments(self, name: str, *overrides: str, modalities: str = "weather words") -> list[str]:
        """Of a tiny run: without MLflow and of two modalities, unless the overrides say more."""
        cards = ",".join(self.card(modality) for modality in modalities.split())
        return [
            f"name={name}",
            f"storage={self.storage}",
            f"data.root={self.root}",
            f"data.modalities={cards}",
            "tracking.uri=null",
            *TINY,
            *overrides,
        ]

    def job(self, name: str, *overrides: str, workers: int = 1) -> "Job":
        """What the command makes of its arguments before it starts workers."""
        from raytrain.data.preparation import ready
        from raytrain.pretrain import read_config
        from raytrain.training.job import chosen_cards, make_job

        config = read_config(None, self.arguments(name, *overrides))
        cards = chosen_cards(config)
        return make_job(config, ready(cards.values(), config.data.root), cards, workers)

    def shard(self, modality: str, number: int = 0) -> Path:
        return Path(self.root) / modality / f"train-{number:05d}.tar"

    def rewrite(self, shard: Path, changed: dict[str, bytes]) -> None:
        """Give members of a shard another content, of which the manifest knows."""
        out = io.BytesIO()
        with tarfile.open(shard) as old, tarfile.open(fileobj=out, mode="w") as new:
            for member in old:
                found = old.extractfile(member)
                assert found is not None
                codecs.add_member(new, member.name, changed.get(member.name, found.read()))
        shard.write_bytes(out.getvalue())
        manifest = json.loads((shard.parent / "manifest.json").read_text())
        entry = next(entry for entry in manifest["shards"] if entry["name"] == shard.name)
        entry["bytes"] = len(out.getvalue())
        entry["sha256"] = hashlib.sha256(out.getvalue()).hexdigest()
        (shard.parent / "manifest.json").write_text(json.dumps(manifest))

    def start(
        self,
        arguments: list[str],
        command: str = "pretrain",
        within: Sequence[str] = (),
        **environment: str,
    ) -> "Run":
        """`python -m raytrain.COMMAND` in a session of its own, as a shell would start it; `within`
        is a command that starts it in turn."""
        return Run(
            subprocess.Popen(
                [*within, sys.executable, "-m", f"raytrain.{command}", *arguments],
                cwd=self.folder,
                env=self.environment | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=hear_interrupts,
            )
        )

    def run(
        self, arguments: list[str], command: str = "pretrain", **environment: str
    ) -> tuple[int, str]:
        """The command from its start to its end: exit status, and all that the user saw."""
        return self.start(arguments, command, **environment).finish()

    def metrics(self, name: str) -> dict[int, dict[str, float]]:
        """What a run logged by step, each figure once, but for those that a clock gave."""
        lines = (Path(self.storage) / name / "metrics.jsonl").read_text().splitlines()
        steps: dict[int, dict[str, float]] = {}
        for record in map(json.loads, lines):
            values = {k: v for k, v in record.items() if k not in CLOCKS}
            step = steps.setdefault(values.pop("step"), {})
            assert not step.keys() & values.keys(), record
            step.update(values)
        return steps

    def checkpoint(self, name: str) -> Path:
        """The newest checkpoint of a run."""
        seals = (Path(self.storage) / name).glob("checkpoint_*/state.json")
        return max(seals).parent

    def checkpoint_of(self, name: str, step: int) -> Path:
        """A file that is there as soon as the checkpoint of a step is complete."""
        return Path(self.storage) / name / f"checkpoint_{step:06d}" / "state.json"

    def weights(self, name: str) -> dict[str, bytes]:
        """The files of the newest checkpoint of a run that hold weights."""
        return {p.name: p.read_bytes() for p in self.checkpoint(name).glob("*.safetensors")}


@pytest.fixture(scope="session")
def made_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of cards and shards of every made modality. Not to be changed: see tiny_world."""
    folder = tmp_path_factory.mktemp("world")
    for number, (name, places) in enumerate(PLACES.items()):
        lonlat_deg = geo.random_on_sphere(places, np.random.default_rng(number))
        offered = Observations.of_arrays(lonlat_deg, {"observation": observe(name, lonlat_deg)})
        if name == "tiles":  # so that both layouts are there
            field = replace(offered.fields["observation"], encoding="png")
            offered = replace(offered, fields={"observation": field}, layout="samples")
        url = str(folder / "shards" / name)
        write_shards(url, offered, modality=name, shard_rows=128, group_rows=50)
        (folder / f"{name}.yaml").write_text(f"tower: {TOWERS[name]}\n")
    return folder


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[Path]:
    """Where Ray keeps its logs; short, since the names of sockets have a limit."""
    folder = Path(tempfile.mkdtemp(prefix="rt-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def tiny_world(made_shards: Path, ray_folder: Path, tmp_path: Path) -> World:
    """A copy of the made shards that a test may damage, with an empty place for runs."""
    return make_world(made_shards, ray_folder, tmp_path / "world")


@pytest.fixture(scope="module")
def module_world(
    made_shards: Path, ray_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> World:
    """A tiny world for runs that several tests of a module look at."""
    return make_world(made_shards, ray_folder, tmp_path_factory.mktemp("module") / "world")


def make_world(made_shards: Path, ray_folder: Path, folder: Path) -> World:
    """Copy the made shards to a folder of their own."""
    shutil.copytree(made_shards, folder)
    own = {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "RAYTRAIN_CACHE": str(folder / "cache"),
        "RAY_TMPDIR": str(ray_folder),
    }
    foreign = ("AWS_", "MLFLOW_", "RAY_", "RAYTRAIN_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    return World(folder, str(folder / "shards"), str(folder / "runs"), {**kept, **QUIET, **own})


@pytest.fixture(scope="session")
def local_ray(ray_folder: Path) -> Iterator[None]:
    """A Ray of this session's own, which the command finds running when it is called in here."""
    import ray

    from raytrain.training import launch
    from raytrain.training.config import ScalingConfig

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**QUIET, "RAY_TMPDIR": str(ray_folder)}.items():
            patch.setenv(name, value)
        launch.connect(ScalingConfig(workers=2))
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    """SeaweedFS's S3 server: real keys, real multipart uploads."""
    folder = tmp_path_factory.mktemp("weed")
    ports = _free_ports("master", "volume", "filer", "s3")
    server = Weed(f"http://127.0.0.1:{ports['s3']}")
    (folder / "s3.json").write_text(server.identities())
    command = server.command(str(folder), ports)
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_ready(f"{server.endpoint}/status", process, folder / "log")
        _make_bucket(server)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def s3(weed: Weed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weed]:
    """The S3 server, with this process's environment set to use it."""
    import fsspec

    for name, value in weed.environment.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # would keep keys of earlier tests
    yield replace(weed)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def _free_ports(*names: str) -> dict[str, int]:
    """Ports that are free, and free again 10,000 higher, where the server speaks gRPC. Both lie
    below those that the kernel gives to connections of others in the meantime."""
    ports: dict[str, int] = {}
    rng = np.random.default_rng()
    while len(ports) < len(names):
        port = int(rng.integers(20_000, 22_700))
        if port not in ports.values() and all(map(_is_free, (port, port + 10_000))):
            ports[names[len(ports)]] = port
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the S3 server did not start:\n{log.read_text()[-3000:]}")


def _make_bucket(server: Weed) -> None:
    import s3fs

    filesystem = s3fs.S3FileSystem(
        key=server.access_key,
        secret=server.secret_key,
        endpoint_url=server.endpoint,
        skip_instance_cache=True,
    )
    deadline = time.monotonic() + 30
    while True:
        try:
            filesystem.mkdir(server.bucket.removeprefix("s3://"))
            return
        except OSError:  # S3 answers a little before it can store
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
