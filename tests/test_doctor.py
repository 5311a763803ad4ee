"""`raytrain.doctor` on a fit machine, and on faults that are real: each has a line of its own."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray

from raytrain.checks import collective, verdicts
from raytrain.checks.doors import job_server_finding, listening_findings
from raytrain.checks.finding import Finding, findings
from raytrain.checks.machine import Disk, Facts, Gpu, survey
from raytrain.checks.nodes import alive, clock_offset_s, everywhere
from raytrain.doctor import main
from raytrain.training.config import RunConfig, ScalingConfig


def examined(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, list[str]]:
    """The exit status of the command, and its lines."""
    status = main(arguments)
    return status, capsys.readouterr().out.splitlines()


def lines_of(name: str, lines: list[str]) -> list[str]:
    """The lines about a subject, with its mark first."""
    return [line for line in lines if line[4:].startswith(name)]


@pytest.fixture
def facts(tmp_path: Path, local_ray: None) -> Facts:
    """Those of this machine."""
    (answer,) = everywhere(alive(), survey, str(tmp_path)).given.values()
    return answer


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_machine_that_is_fit(tiny_world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    mlflow = f"tracking.uri=sqlite:///{tiny_world.folder}/mlflow.db"
    two = [*tiny_world.arguments("a", mlflow, "scaling.workers=2"), "--deep"]
    status, lines = examined(capsys, two)
    assert status == 0, lines
    assert {line[:3] for line in lines[:-1]} <= {"ok ", "see", "   "}
    assert len(lines_of("data", lines)) == 4  # two modalities, whose manifests have no licence
    assert "no licence and credit" in "".join(lines_of("data", lines))
    (content,) = lines_of("content", lines)
    assert "MB are what the manifests say" in content
    (reduced,) = lines_of("all-reduce", lines)
    assert "gloo among 2 workers: " in reduced
    assert float(reduced.partition("workers: ")[2].split()[0]) > 0.01
    (stored,) = lines_of("storage", lines)
    assert f"{tiny_world.storage} is written, read, listed, deleted; 16 MB" in stored
    assert not list(Path(tiny_world.storage).iterdir())
    assert not Path(tiny_world.folder, "mlflow.db").exists()  # nothing is left behind
    assert lines[-1].startswith("fit to train: ")


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_shards_and_storage_that_cannot_be_used(
    tiny_world: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_world.shard("words", 2).unlink()
    changed = tiny_world.shard("weather")
    changed.write_bytes(changed.read_bytes()[:-1] + b"\1")
    (Path(tiny_world.folder) / "mlflow.db").write_bytes(b"no data base" * 100)
    mlflow = f"tracking.uri=sqlite:///{tiny_world.folder}/mlflow.db"
    arguments = tiny_world.arguments("a", mlflow, "storage=/sys/raytrain", "scaling.workers=99")
    status, lines = examined(capsys, [*arguments, "--deep"])
    assert status == 1
    for subject, problem in {
        "mlflow": "file is not a database",
        "workers": "99 workers need 99 CPUs, but the cluster has",
        "data": f"words: {tiny_world.shard('words', 2)} is missing, but the manifest names it",
        "content": f"{changed} is changed: its sha256 is",
        "storage": "Check that the folder exists, may be written and has space left",
    }.items():
        assert any(line.startswith("BAD") for line in lines_of(subject, lines)), (subject, lines)
        assert problem in "".join(lines_of(subject, lines))
    assert lines[-1].startswith("not fit to train: ")
    assert not any("Traceback" in line for line in lines)


@pytest.mark.slow
def test_a_wrong_key_a_truncated_shard_and_no_mlflow(s3: Any, tiny_world: Any) -> None:
    shard = tiny_world.shard("weather", 1)
    shard.write_bytes(shard.read_bytes()[:1000])
    wrong = {**s3.environment, "AWS_SECRET_ACCESS_KEY": "wrong-but-secret"}
    bad = (f"storage={s3.bucket}/runs", "tracking.uri=http://user:hidden@127.0.0.1:9/")
    status, said = tiny_world.run(tiny_world.arguments("a", *bad), "doctor", **wrong)
    assert status == 1, said
    lines = said.splitlines()
    (mlflow,) = lines_of("mlflow", lines)
    assert mlflow.startswith("BAD mlflow       MLflow at http://***@127.0.0.1:9/ cannot be used")
    (weather, words) = lines_of("data", lines)[:2]
    assert f"{shard} is truncated: 1,000 bytes, the manifest says" in weather
    assert words.startswith("ok ")
    (stored,) = lines_of("storage", lines)
    assert "access refused" in stored
    assert "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in stored
    assert lines[-1].startswith("not fit to train: ")
    assert "wrong-but-secret" not in said
    assert "hidden" not in said


def test_a_setting_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = examined(capsys, ["storag=x"])
    assert (status, lines) == (2, ["error: unknown setting `storag`; did you mean `storage`?"])


def test_nodes_that_differ(facts: Facts) -> None:
    older = replace(facts, versions={**facts.versions, "torch": "2.1.0"})
    (found,) = verdicts.versions({"10.0.0.1": facts, "10.0.0.2": older, "10.0.0.3": facts})
    assert found.state == "red"
    installed = facts.versions["torch"]
    assert found.words == f"torch differs: {installed} on 10.0.0.1, 10.0.0.3; 2.1.0 on 10.0.0.2"
    (alike,) = verdicts.versions({"10.0.0.1": facts, "10.0.0.3": facts})
    assert alike.state == "green"
    assert f"torch {installed}" in alike.words


def test_what_nodes_report_is_judged(facts: Facts) -> None:
    gpu = Gpu("NVIDIA L4", 23034, 4, "580.1")
    poor = replace(
        facts,
        gpus=(gpu, replace(gpu, used_mib=9000)),
        torch_gpus=0,
        torch_words="the NVIDIA driver on your system is too old",
        memory_used=int(0.97 * facts.memory_total),
        store_folder="/tmp",
        shm_total=64 * 2**20,
        disks=(Disk("object spilling", "/tmp/ray", 100 * 10**9, 2 * 10**9),),
        open_files=1024,
    )
    known = {"10.0.0.1": poor}
    found = [
        *verdicts.gpus(known, {"10.0.0.1": 2.0}),
        *verdicts.memory(known),
        *verdicts.object_store(known, {"10.0.0.1": 8e9}),
        *verdicts.disk(known),
        *verdicts.open_files(known),
        *verdicts.clocks({"10.0.0.1": -2.5, "10.0.0.2": 31.0}),
    ]
    states = {(finding.name, finding.words): finding.state for finding in found}
    assert states == {
        ("gpus", "10.0.0.1: Ray counts 2 GPUs, the driver 2, torch 0 (the NVIDIA driver on your "
         "system is too old)"): "red",
        ("gpus", "10.0.0.1: 8.8 of 22 GiB of GPU 1 are in use"): "yellow",
        ("memory", f"10.0.0.1: 97% of {facts.memory_total / 1e9:.1f} GB are in use"): "red",
        ("object store", "10.0.0.1: the object store of 8.0 GB lies on a disk, in /tmp, since "
         "/dev/shm has 0.1 GB"): "yellow",
        ("disk", "10.0.0.1: 2.0 of 100 GB are free in /tmp/ray (object spilling)"): "red",
        ("open files", "10.0.0.1: at most 1024 a process"): "yellow",
        ("clock", "10.0.0.1: 2.5 s behind this node"): "yellow",
        ("clock", "10.0.0.2: 31.0 s ahead of this node"): "red",
    }  # fmt: skip
    assert all(finding.remedy for finding in found)


@pytest.mark.usefixtures("local_ray")
def test_a_node_that_does_not_answer_and_one_that_fails() -> None:
    def sleep() -> None:
        time.sleep(300)

    def fail() -> None:
        Path("/nowhere").rmdir()

    nodes = alive()
    assert abs(clock_offset_s(nodes[0])) < 0.1
    began = time.monotonic()
    (problem,) = everywhere(nodes, sleep, seconds=2.0).failed.values()
    assert problem == "no answer in 2 s"
    assert time.monotonic() - began < 10
    (problem,) = everywhere(nodes, fail).failed.values()
    assert problem.startswith("FileNotFoundError: ")


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_workers_that_do_not_meet_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collective, "PATIENCE_S", 1.0)
    config = RunConfig(storage=str(tmp_path), scaling=ScalingConfig(workers=2))
    (found,) = collective.reduce_findings(config, 2, use_gpu=False)
    assert (found.state, found.words) == ("red", "2 workers have not met by gloo in 1 s")
    deadline, cpus = time.monotonic() + 60, ray.cluster_resources()["CPU"]
    while ray.available_resources().get("CPU") != cpus:  # its workers end with it
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not list(tmp_path.iterdir())


def test_no_check_raises_or_hangs() -> None:
    def raising() -> Iterator[Finding]:
        yield Finding("a", "green", "so far")
        raise ZeroDivisionError("by zero")

    def hanging() -> Iterator[Finding]:
        time.sleep(60)
        yield Finding("b", "green", "too late")

    assert findings("a", raising) == [
        Finding("a", "green", "so far"),
        Finding("a", "red", "ZeroDivisionError: by zero"),
    ]
    assert findings("b", hanging, seconds=0.2) == [Finding("b", "red", "no end after 0.2 s")]


class JobServer(BaseHTTPRequestHandler):
    """Answers as Ray's: with jobs, or 401 where it wants a token."""

    wants_token = False

    def do_GET(self) -> None:
        self.send_response(401 if self.wants_token else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("host", "wants_token", "states"),
    [("0.0.0.0", False, ["red", "red"]), ("127.0.0.1", True, ["green", "green"])],
)
def test_doors_that_are_open(host: str, wants_token: bool, states: list[str]) -> None:
    handler = type("Handler", (JobServer,), {"wants_token": wants_token})
    with ThreadingHTTPServer((host, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        (listening,) = listening_findings("dashboard", port, alive(), "close it")
        answering = job_server_finding(f"http://127.0.0.1:{port}")
        server.shutdown()
    assert [listening.state, answering.state] == states
    assert f"port {port} listens on {host}" in listening.words


@pytest.mark.gpu
@pytest.mark.slow
def test_gpus_and_nccl(tiny_world: Any) -> None:
    import torch

    gpus = torch.cuda.device_count()
    arguments = tiny_world.arguments("a", "scaling.gpu=true", f"scaling.workers={gpus}")
    status, said = tiny_world.run(arguments, "doctor")
    assert status == 0, said
    lines = said.splitlines()
    assert torch.cuda.get_device_name(0) in lines_of("gpus", lines)[0]
    assert lines_of("gpus", lines)[0].split()[2] == str(gpus)
    (reduced,) = lines_of("all-reduce", lines)
    assert f"nccl among {gpus} workers" in reduced if gpus > 1 else "nccl runs on" in reduced
