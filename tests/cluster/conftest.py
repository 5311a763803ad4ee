"""A cluster by docs/cluster.md: real hosts, real commands, and an AWS that is not Amazon's."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import aws
from cluster.hosts import HOME, ROOT, Host, hosts, lack
from cluster.user import FOLDER, TIMES, User, for_these_hosts, told, wait_until

from raytrain.storage import cache_dir

LACK = lack()
KEY = "ray-autoscaler_us-west-2"  # Ray would make it, if there were none
ADDRESSES = {
    **dict(zip(("head", "worker-1", "worker-2", "worker-3"), aws.NODES, strict=True)),
    "aws": aws.ADDRESS,
    "laptop": "172.31.255.2",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if LACK:
                item.add_marker(pytest.mark.skip(reason=LACK))


@pytest.fixture(autouse=True)
def times(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test's report has what was done for it, and so passes it on to who sums up."""
    yield
    request.node.user_properties.extend(TIMES)
    TIMES.clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for found in terminalreporter.stats.values() for report in found]
    ended = [report for report in reports if getattr(report, "when", None) == "teardown"]
    done = [time for report in ended for time in report.user_properties]
    if done:
        terminalreporter.section("times on the cluster")
        for what, seconds in done:
            terminalreporter.line(f"{seconds:7.1f} s  {what[:90]}")
    skipped = terminalreporter.stats.get("skipped", [])
    if LACK and any("tests/cluster" in report.nodeid for report in skipped):
        terminalreporter.section("NOT TESTED: THE CLUSTER", red=True, bold=True)
        terminalreporter.line(f"tests/cluster needs root on Linux, and finds: {LACK}")


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Who has just started a cluster, and looks at its dashboard."""
    folder = tmp_path_factory.mktemp("hosts")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    cache_dir().mkdir(parents=True, exist_ok=True)
    addresses = {name: f"{address}/16" for name, address in ADDRESSES.items()}
    with hosts(addresses, folder, needed=[cache_dir()]) as there:
        *nodes, cloud, laptop = there.values()
        aws.serve(cloud)
        for host in (*nodes, laptop):
            furnish(host, wheel)
        equip(laptop, wheel, folder / "key")
        user = User(laptop, nodes, cloud)
        begin(user, wheel)
        yield user


def furnish(host: Host, wheel: Path) -> None:
    """What is on the image: uv, an environment with all but raytrain, and earth-mini if this
    machine has it, which the host makes else."""
    for place, target in {
        "~/.local/bin/uv": Path(sys.executable).with_name("uv"),
        "~/venv": sys.prefix,
        "~/.cache/raytrain": cache_dir(),
    }.items():
        host.path(place).parent.mkdir(parents=True, exist_ok=True)
        host.path(place).symlink_to(target)
    shutil.copy(wheel, host.path("/opt"))
    assert host.run(f"ip route add {aws.METADATA} dev eth0") == (0, "")


def equip(laptop: Host, wheel: Path, key: Path) -> None:
    """What the user has: an account with AWS, whose keys Ray knows, and an installed checkout."""
    environment = aws.ENVIRONMENT | {
        "AWS_ACCESS_KEY_ID": aws.S3.access_key,
        "AWS_SECRET_ACCESS_KEY": aws.S3.secret_key,
        "AWS_DEFAULT_REGION": "us-west-2",
        "PATH": "~/venv/bin:~/.local/bin:$PATH",
    }
    exports = "".join(f"export {name}={value}\n" for name, value in environment.items())
    laptop.path("~/.profile").write_text(exports)
    private = laptop.path(f"~/.ssh/{KEY}.pem")
    private.write_bytes(key.read_bytes())
    private.chmod(0o600)
    checkout = laptop.path(FOLDER)
    for name in ("raytrain", "datasets", "tune_spaces"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
    shutil.copy(ROOT / "cluster-iam.yaml", checkout)
    config = for_these_hosts((ROOT / "cluster.yaml").read_text(), f"/opt/{wheel.name}")
    (checkout / "cluster.yaml").write_text(config)


def begin(user: User, wheel: Path) -> None:
    """All that the page says before the first job."""
    user.do(f"uv pip install --offline --python ~/venv/bin/python /opt/{wheel.name}")
    public = f"fileb://{HOME}/.ssh/authorized_keys"
    user.do(f"aws ec2 import-key-pair --key-name {KEY} --public-key-material {public}")
    user.do(told("aws s3 mb"))
    user.do(told("aws cloudformation deploy"))
    user.do(told("ray get-auth-token") + " > /dev/null")  # it shows the token
    with user.laptop.path("~/.profile").open("a") as profile:
        profile.write(told("export RAY_AUTH_MODE=token RAY_API") + "\n")
    user.do(told("ray up"))
    user.laptop.start(told("ray dashboard cluster.yaml"), folder=FOLDER)
    wait_until(lambda: user.get("/api/version")[0] == 200)
