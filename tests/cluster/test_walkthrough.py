"""What docs/cluster.md and cluster.yaml promise."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from cluster import aws
from cluster.hosts import HOME, ROOT
from cluster.user import FOLDER, User, told

from raytrain import geo
from raytrain.data.preparation import ready
from raytrain.data.reader import ByThread, Reader
from raytrain.data.writer import HOLDOUT, Observations, write_shards
from raytrain.pretrain import read_config
from raytrain.training.job import chosen_cards, make_job
from raytrain.training.loop import train

pytestmark = pytest.mark.slow

PROMISED = yaml.safe_load((ROOT / "cluster.yaml").read_text())["metadata"]
BUCKET = "s3://my-bucket"
ROWS = 64  # of a shard
TINY = [  # settings of a run that takes no time beside Ray's
    "location.positional.degrees=4",
    "location.network.width=16",
    "location.dim=16",
    f"training.batch={3 * ROWS}",
    "training.log_every=1",
    "training.validation_places=64",
    "evaluate.tasks=igbp",
    "evaluate.seeds=1",
]
SPREAD = ["scaling.workers=3", "scaling.cpus_per_worker=7.5", "scaling.gpu=false"]  # a node has 8
RECIPE = "seed: 7\ntraining: {steps: 50}\n"
OWN = ["--config", "own", *TINY, f"data.root={BUCKET}/own", "data.modalities=a.yaml,b.yaml"]


@pytest.fixture(scope="module")
def installed(user: User) -> str:
    """What the first job printed: with the raytrain of the nodes, and data that went to S3."""
    user.do(f"python -m raytrain.prepare earth-mini --places 3000 --root {BUCKET}/earth-mini")
    data = [f"data.root={BUCKET}/earth-mini", "data.modalities=vegetation,atmosphere"]
    overrides = ["name=installed", *SPREAD, *TINY, *data, "training.steps=4"]
    return user.submit(told("ray job submit -- python -m raytrain.pretrain"), overrides)


@pytest.fixture(scope="module")
def changed(user: User, installed: str) -> str:
    """What a job printed that brought the user's changed checkout and cards along."""
    folder = user.laptop.path(FOLDER)
    (folder / "raytrain" / "recipes" / "own.yaml").write_text(RECIPE)
    make_own(folder)
    user.do("aws s3 mv --quiet --recursive own s3://my-bucket/own")
    return user.submit(told("ray job submit --working-dir"), ["name=three", *SPREAD, *OWN])


def make_own(folder: Path) -> None:
    """Cards of two modalities, and equal shards: a step of three workers, who take a shard each,
    has then the pairs of a step of one worker, who takes three."""
    for seed, (name, columns) in enumerate({"a": 6, "b": 12}.items()):
        rng = np.random.default_rng(seed)
        lonlat_deg = geo.random_on_sphere(1200, rng)
        held_out = geo.held_out(lonlat_deg, HOLDOUT.degrees, HOLDOUT.share, HOLDOUT.seed)
        trained_on = np.flatnonzero(~held_out)
        kept = np.union1d(trained_on[: len(trained_on) // ROWS * ROWS], np.flatnonzero(held_out))
        seen = geo.unit_xyz(lonlat_deg[kept]) @ rng.normal(size=(3, columns))
        arrays = {"observation": (seen + rng.normal(0, 0.1, seen.shape)).astype(np.float32)}
        offered = Observations.of_arrays(lonlat_deg[kept], arrays)
        write_shards(str(folder / "own" / name), offered, modality=name, shard_rows=ROWS)
        (folder / f"{name}.yaml").write_text("tower: {kind: mlp, width: 16, hidden_layers: 1}\n")


def test_workers_come_for_a_job_and_train_on_three_hosts(user: User, installed: str) -> None:
    assert "need 22.5 CPUs, but the cluster has 0; waiting up to 15 minutes for nodes" in installed
    assert "installed starts: melt, 4 steps, 3 workers on CPU" in installed
    assert {len(nodes) for nodes in nodes_of_workers(user)} == {3}
    nodes = re.findall(r"(\d+) worker", user.do(told("ray exec")))  # active and idle
    assert sum(map(int, nodes)) == 3


def nodes_of_workers(user: User) -> list[set[str]]:
    """The nodes that training workers ran on, by job."""
    query = "filter_keys=class_name&filter_predicates=%3D&filter_values=RayTrainWorker"
    nodes: dict[str, set[str]] = {}
    for actor in json.loads(user.get(f"/api/v0/actors?{query}")[1])["data"]["result"]["result"]:
        nodes.setdefault(actor["job_id"], set()).add(actor["node_id"])
    return [*nodes.values()]


def test_a_job_may_bring_a_checkout_of_its_own(user: User, changed: str) -> None:
    assert "three starts: melt, 50 steps, 3 workers on CPU" in changed
    assert {len(nodes) for nodes in nodes_of_workers(user)} == {3}


def test_models_logs_and_artifacts_outlive_the_job(user: User, installed: str) -> None:
    """The model loads from S3, what a job said can be read again, and MLflow knows of it."""
    encoder = user.script(
        "import json, raytrain\n"
        "encoder = raytrain.load('s3://my-bucket/runs/installed')\n"
        "print(json.dumps(encoder.encode([13.4, -60.0], [52.5, -3.1]).tolist()))"
    )
    assert np.isfinite(np.array(encoder)).all()
    job = re.findall(r"raysubmit_\w+", installed)[0]
    assert job in user.do(told("ray job list"))
    assert "installed starts: melt" in user.do(f"{told('ray job logs').rpartition(' ')[0]} {job}")
    user.laptop.start(told("ray dashboard --port 5000"), folder=FOLDER)
    found = user.script(
        "import json, mlflow\n"
        "mlflow.set_tracking_uri('http://127.0.0.1:5000')\n"
        "(run,) = mlflow.search_runs(search_all_experiments=True, output_format='list',\n"
        "    filter_string=\"attributes.run_name = 'installed'\")\n"
        "files = mlflow.artifacts.list_artifacts(run_id=run.info.run_id)\n"
        "print(json.dumps([run.info.status, run.info.artifact_uri, [f.path for f in files]]))"
    )
    assert found[0] == "FINISHED"
    assert {"config.json", "map.png", "probes.json"} <= {*found[2]}
    kept = user.do("aws s3 ls --recursive s3://my-bucket/runs/mlflow/")
    assert "map.png" in kept


def test_three_hosts_train_as_one_does(user: User, changed: str, tmp_path: Path) -> None:
    lines = user.do("aws s3 cp s3://my-bucket/runs/three/metrics.jsonl -").splitlines()
    three, one = losses(map(json.loads, lines)), losses(trained_alone(tmp_path))
    assert [*three] == [*one] == [*range(1, 51)]
    np.testing.assert_allclose([*three.values()], [*one.values()], rtol=1e-4)
    assert three[50] < 0.9 * three[1]


def losses(records: Iterable[dict[str, Any]]) -> dict[int, float]:
    """The loss of every step."""
    return {record["step"]: record["loss"] for record in records if "loss" in record}


def trained_alone(folder: Path) -> list[dict[str, Any]]:
    """The records of the same run in this process, by the loop without Ray."""
    make_own(folder)
    (folder / "own.yaml").write_text(RECIPE)
    cards = ",".join(f"{folder}/{name}.yaml" for name in "ab")
    places = [f"storage={folder}/runs", f"data.root={folder}/own", f"data.modalities={cards}"]
    config = read_config(f"{folder}/own.yaml", ["name=one", *TINY, *places])
    chosen = chosen_cards(config)
    job = make_job(config, ready(chosen.values(), config.data.root), chosen, workers=1)
    cpu, records = torch.device("cpu"), list[dict[str, Any]]()
    streams = {
        name: Reader(s, partial(ByThread, s, job.rows(name), cpu), 1, 0.0, lambda *_: None)
        for name, s in job.streams_from({}).items()
    }
    train(job, streams, cpu, report=lambda record: bool(records.append(record)))
    return records


def test_aws_is_asked_for_what_cluster_yaml_promises(user: User, installed: str) -> None:
    head, *workers = aws.asked(user.cloud, "RunInstances")
    assert sum(int(request["MaxCount"]) for request in workers) == 3
    for request in (head, *workers):
        assert request["ImageId"] == PROMISED["image"]
        assert request["MetadataOptions.HttpTokens"] == "required"
        assert request["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
        assert "raytrain" in request.values()  # the cluster's name, in a tag
    assert head["InstanceType"] == PROMISED["head"]
    assert head["IamInstanceProfile.Name"] == "raytrain-head"
    assert "InstanceMarketOptions.MarketType" not in head
    for request in workers:
        assert request["InstanceType"] == PROMISED["worker"]
        assert request["IamInstanceProfile.Name"] == "raytrain-worker"
        assert request["InstanceMarketOptions.MarketType"] == "spot"
    groups = {request["SecurityGroupId.1"] for request in (head, *workers)}
    assert len(groups) == 1
    found = json.loads(user.do(f"aws ec2 describe-security-groups --group-ids {min(groups)}"))
    rules = found["SecurityGroups"][0]["IpPermissions"]
    outside = [rule for rule in rules if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in outside] == [(22, 22)]
    for rule in rules:
        assert {pair["GroupId"] for pair in rule["UserIdGroupPairs"]} <= groups


def test_nobody_is_let_in_without_the_token(user: User) -> None:
    assert user.get("/api/jobs/")[0] == 200
    for token in ("", "0" * 64):
        assert user.get("/api/jobs/", token)[0] in (401, 403)
    status, said = user.attempt("HOME=/tmp ray job submit -- true")  # where there is no token
    assert status != 0
    assert "submitted" not in said


def test_dashboard_and_mlflow_listen_on_the_heads_loopback_alone(user: User) -> None:
    head = user.nodes[0]
    listening = head.run("ss -Hltn")[1].split()[3::5]
    ports: dict[str, set[str]] = {}
    for address, _, port in (place.rpartition(":") for place in listening):
        ports.setdefault(port, set()).add(address)
    assert ports["8265"] == ports["5000"] == {"127.0.0.1"}
    assert {"22", "6379", "8076"} <= ports.keys()  # the last two for nodes, as AWS's groups see to
    for other in (user.laptop, user.nodes[1]):
        for port in (8265, 5000):
            no_connection = 7  # curl's exit status
            assert other.run(f"curl -s http://{aws.NODES[0]}:{port}/")[0] == no_connection


def test_a_wrong_key_of_s3_is_refused_in_one_line(user: User) -> None:
    command = f"python -m raytrain.pretrain data.root={BUCKET}/earth-mini"
    status, said = user.attempt(f"AWS_SECRET_ACCESS_KEY=wrong {command}")
    assert status == 2
    assert [line for line in said.splitlines() if line.startswith("error: ")]
    assert said.count("access refused") == 1
    assert "Traceback" not in said


def test_no_secret_is_written_anywhere(user: User, changed: str) -> None:
    token = user.laptop.path("~/.ray/auth_token").read_text().strip()
    secrets = (aws.S3.secret_key, token)
    user.do("aws s3 cp --quiet --recursive s3://my-bucket/runs /tmp/runs")
    assert [*user.laptop.path("/tmp/runs").rglob("*.safetensors")]
    for host in (user.laptop, *user.nodes):
        host.path("/opt/secrets").write_text("\n".join(secrets))
        found = {*host.run("grep -rslFf /opt/secrets ~ /tmp")[1].split()}
        own = {f"{HOME}/.profile"} if host is user.laptop else set()  # where the user set the key
        assert found == {f"{HOME}/.ray/auth_token"} | own, host.name
    for node in user.nodes:
        assert [*node.path("/tmp/ray").glob("session_2*/logs/*")]
        arguments = node.run("cat /proc/[0-9]*/cmdline 2>/dev/null | grep -cFf /opt/secrets")
        assert arguments[1] == "0\n", node.name
        keys = node.run(f"cat /proc/[0-9]*/environ 2>/dev/null | grep -c {aws.S3.secret_key}")
        assert keys[1] == "0\n", node.name
    assert not [output for output in user.seen if any(secret in output for secret in secrets)]


def test_nothing_is_left_when_the_cluster_is_taken_down(user: User, installed: str) -> None:
    user.do(told("ray down"))
    query = "Reservations[].Instances[].State.Name"
    states = user.do(f"aws ec2 describe-instances --query '{query}' --output text").split()
    assert Counter(states) == {"terminated": 4}
