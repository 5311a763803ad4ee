"""cluster.yaml keeps its promises, as far as can be seen without AWS."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "cluster.yaml").read_text()


@pytest.fixture
def config() -> dict[str, Any]:
    """What `ray up` makes of the file: it with Ray's defaults, checked by Ray's own schema."""
    prepared: dict[str, Any] = prepare_config(yaml.safe_load(TEXT))
    validate_config(prepared)
    return prepared


@pytest.fixture
def roles() -> dict[str, Any]:
    """The resources of cluster-iam.yaml; CloudFormation's functions are left as their arguments."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, tag, node: f"{tag} {node.value}")
    template = yaml.load((ROOT / "cluster-iam.yaml").read_text(), Loader)
    resources: dict[str, Any] = template["Resources"]
    return resources


def commands(config: dict[str, Any]) -> list[str]:
    """All that runs on any node."""
    return [command for key in config if key.endswith("_commands") for command in config[key]]


def test_ray_is_pinned_to_a_release_that_pyproject_allows(config: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = next(r for r in map(Requirement, project["dependencies"]) if r.name == "ray")
    pinned = re.findall(r"ray\[default\]==([\d.]+)'", " ".join(config["setup_commands"]))
    assert len(pinned) == 1
    assert pinned[0].count(".") == 2  # to the last digit: nodes must agree on it
    assert wanted.specifier.contains(pinned[0])


def test_every_node_gets_the_same_image_and_raytrain(config: dict[str, Any]) -> None:
    nodes = config["available_node_types"].values()
    assert len({node["node_config"]["ImageId"] for node in nodes}) == 1
    for node in nodes:
        assert "worker_setup_commands" not in node  # would replace the common ones
    installs = [c for c in config["setup_commands"] if "uv pip install" in c and "raytrain @" in c]
    assert len(installs) == 1
    assert config["head_setup_commands"] == config["worker_setup_commands"]
    assert config["head_setup_commands"] == config["setup_commands"]  # as Ray has merged them


def test_the_head_trains_nothing_and_workers_come_and_go(config: dict[str, Any]) -> None:
    head, worker = (config["available_node_types"][name] for name in ("head", "worker"))
    assert config["head_node_type"] == "head"
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert 0 <= worker["min_workers"] < worker["max_workers"] == config["max_workers"]
    assert 0 < config["idle_timeout_minutes"] <= 30
    assert config["provider"]["cache_stopped_nodes"] is False


def test_workers_may_use_the_bucket_and_the_head_may_start_them(
    config: dict[str, Any], roles: dict[str, Any]
) -> None:
    for name in ("head", "worker"):
        node = config["available_node_types"][name]["node_config"]
        profile = roles[f"{name.title()}Profile"]["Properties"]
        role = roles[f"{name.title()}Role"]["Properties"]
        assert node["IamInstanceProfile"]["Name"] == profile["InstanceProfileName"]
        assert profile["Roles"] == [f"Ref {name.title()}Role"]
        assert role["ManagedPolicyArns"] == ["Ref Storage"]
    may = roles["HeadRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    passed = next(s for s in may if s["Action"] == "iam:PassRole")
    assert passed["Resource"] == "GetAtt WorkerRole.Arn"
    assert "Policies" not in roles["WorkerRole"]["Properties"]


def test_cloudformation_takes_the_roles_as_they_are() -> None:
    events = yaml.parse((ROOT / "cluster-iam.yaml").read_text())
    assert not any(isinstance(event, yaml.AliasEvent) for event in events)  # which it refuses


def test_ray_starts_with_the_token_on_every_node(config: dict[str, Any]) -> None:
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    for kind in ("head", "worker"):
        starts = [c for c in config[f"{kind}_start_ray_commands"] if "ray start" in c]
        assert len(starts) == 1
        assert starts[0].index(". ~/.raytrain;") < starts[0].index("ray start")
    assert "export RAY_AUTH_MODE=token\n" in config["setup_commands"][0]
    assert "--object-spilling-directory=/opt/dlami/nvme/ray" in starts[0]


def test_nothing_listens_to_the_world_but_ssh(config: dict[str, Any]) -> None:
    assert "security_group" not in config["provider"]  # Ray's own opens port 22 and no other
    for node in config["available_node_types"].values():
        assert not {"SecurityGroupIds", "NetworkInterfaces"} & set(node["node_config"])
        assert node["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}
    hosts = re.findall(r"--(?:dashboard-)?host[= ](\S+)", " ".join(commands(config)))
    assert hosts == ["127.0.0.1", "127.0.0.1"]  # dashboard and MLflow
    assert "ray-client-server-port" not in TEXT


def test_the_file_holds_no_secret(config: dict[str, Any]) -> None:
    assert not re.search(r"AKIA|ASIA|PRIVATE KEY|://[^/\s]+:[^/\s]+@|[0-9a-fA-F]{32}", TEXT)
    exported = re.findall(r"export (\w+)", " ".join(commands(config)))
    assert exported
    assert not [name for name in exported if re.search("KEY|SECRET|TOKEN|PASSWORD", name)]


def test_every_command_is_valid_shell(config: dict[str, Any]) -> None:
    for command in commands(config):
        subprocess.run(["bash", "-n", "-c", f"({command})"], check=True)


def test_jobs_find_the_environment_however_often_setup_runs(
    config: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / ".bashrc").write_text("[[ $- == *i* ]] || return\n")  # as on Ubuntu

    def on_node(command: str) -> str:
        """Run it as Ray does over SSH."""
        wrapped = f"source ~/.bashrc; export PYTHONWARNINGS=ignore && ({command})"
        return subprocess.run(
            ["bash", "--login", "-c", "-i", wrapped],
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # an interactive shell would take the terminal
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        ).stdout

    for _ in range(2):
        for command in config["setup_commands"][:2]:
            on_node(command)
    assert (tmp_path / ".bashrc").read_text().count("raytrain") == 1
    seen = on_node("echo $RAYTRAIN_STORAGE $RAY_AUTH_MODE $PATH").split()
    assert seen[:2] == ["s3://my-bucket/runs", "token"]
    assert seen[2].startswith(f"{tmp_path}/venv/bin:")
