"""Who has a cluster on AWS by docs/cluster.md, command by command."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cluster import aws
from cluster.hosts import ROOT, Host

FOLDER = "~/raytrain"  # the user's checkout
PAGE = (ROOT / "docs" / "cluster.md").read_text()
# Ray starts as many processes for a job as a node has CPUs, in advance; here all share a machine.
PATIENT = "    export RAY_prestart_worker_first_driver=0\n"
TIMES: list[tuple[str, float]] = []  # what was done on clusters, and the seconds that it took


def told(beginning: str) -> str:
    """The one command of the page that begins so, without its comment."""
    lines = PAGE.replace("\\\n", "").splitlines()
    (command,) = [line for line in lines if line.startswith(beginning)]
    return command.partition("  #")[0].strip()


def for_these_hosts(text: str, wheel: str) -> str:
    """cluster.yaml for hosts without Amazon, by the few changes that these need."""
    exports = "".join(f"    export {k}={v}\n" for k, v in aws.ENVIRONMENT.items())
    changes = {
        # What is to be installed: this checkout, and all else is there already.
        "git+https://github.com/raytrain/raytrain@main": f"file://{wheel}",
        "    END\n": f"{exports}    export UV_OFFLINE=1\n{PATIENT}    END\n",
        # These hosts have no addresses but those of their own network.
        "  type: aws\n": "  type: aws\n  use_internal_ips: true\n",
    }
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@dataclass(frozen=True)
class User:
    """The laptop of the user, the nodes to be (the head is the first), and AWS."""

    laptop: Host
    nodes: list[Host]
    cloud: Host
    seen: list[str] = field(default_factory=list)  # all that the commands printed

    def attempt(self, command: str, what: str | None = None) -> tuple[int, str]:
        """Exit status and output of a command on the laptop, in the checkout."""
        began = time.monotonic()
        status, output = self.laptop.run(command, FOLDER)
        TIMES.append((what or command, time.monotonic() - began))
        self.seen.append(output)
        return status, output

    def do(self, command: str, what: str | None = None) -> str:
        """The output of a command that must succeed."""
        status, output = self.attempt(command, what)
        assert status == 0, f"{command}\n{output}"
        return output

    def submit(self, command: str, overrides: list[str]) -> str:
        """What a job prints, which must succeed."""
        return self.do(" ".join([command, *overrides]), f"{command} {overrides[0]} ...")

    def script(self, lines: str) -> Any:
        """The last line that a Python script on the laptop prints, from JSON."""
        self.laptop.path("/tmp/script.py").write_text(lines)
        return json.loads(self.do("python /tmp/script.py", "script").splitlines()[-1])

    def get(self, path: str, token: str = "$(cat ~/.ray/auth_token)") -> tuple[int, str]:
        """HTTP status and answer of the dashboard to who shows the token, or another or none."""
        header = f'-H "Authorization: Bearer {token}"' if token else ""
        line = f"curl -s -w '\\n%{{http_code}}' {header} 'http://127.0.0.1:8265{path}'"
        answer, _, status = self.laptop.run(line)[1].rpartition("\n")
        return int(status), answer


def wait_until(done: Callable[[], bool], patience_s: float = 300) -> None:
    deadline = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.2)
