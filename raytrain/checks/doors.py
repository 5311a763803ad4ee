"""Who may come in: what listens where on the head, and whether it asks for the token."""

import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

import psutil
import ray

from raytrain.checks.finding import Finding
from raytrain.checks.machine import Facts
from raytrain.checks.nodes import Node, everywhere

TOKEN = (
    "`export RAY_AUTH_MODE=token` before every `ray start`, with the same ~/.ray/auth_token "
    "on all nodes (`ray get-auth-token --generate`)"
)
MLFLOW = "start it with `mlflow server --host 127.0.0.1`, and reach it through SSH"
DASHBOARD = "`ray start --head --dashboard-host=127.0.0.1`, and reach it by `ray dashboard`"


def door_findings(
    nodes: list[Node], facts: Mapping[str, Facts], tracking_uri: str | None
) -> Iterator[Finding]:
    """Of a cluster: token on every node, the dashboard, the job server, MLflow on the head."""
    without = [name for name, f in facts.items() if not f.asks_for_token]
    if without:
        words = f"{', '.join(without)} asks for no token: who reaches its ports may run code"
        yield Finding("token", "red", words, TOKEN)
    else:
        yield Finding("token", "green", "every node asks for it")
    url = ray.init(ignore_reinit_error=True).dashboard_url
    head = [node for node in nodes if node.is_head]
    if url:
        port = int(url.rpartition(":")[2])
        yield from listening_findings("dashboard", port, head, DASHBOARD)
        yield job_server_finding(f"http://{url}")
    else:
        yield Finding("dashboard", "green", "off: `ray job submit` is not possible")
    if tracking_uri and tracking_uri.startswith("http"):
        address = urlsplit(tracking_uri)
        if _is_loopback(address.hostname or ""):
            yield from listening_findings("mlflow's port", address.port or 80, head, MLFLOW)


def listening_findings(name: str, port: int, head: list[Node], remedy: str) -> Iterator[Finding]:
    """Whether a port of the head is open to others than the head."""
    answers = everywhere(head, listeners, port)
    for node, problem in answers.failed.items():
        yield Finding(name, "red", f"{node}: {problem}")
    for node, addresses in answers.given.items():
        if opened := [a for a in addresses if not _is_loopback(a)]:
            words = f"{node}: port {port} listens on {', '.join(opened)}, for all who reach it"
            yield Finding(name, "red", words, remedy)
        elif addresses:
            yield Finding(name, "green", f"port {port} listens on {', '.join(addresses)} alone")
        else:
            yield Finding(name, "yellow", f"{node}: nothing listens on port {port}", remedy)


def listeners(port: int) -> list[str]:
    """The addresses on which this node listens at a port."""
    sockets = psutil.net_connections(kind="tcp")
    bound = {s.laddr for s in sockets if s.status == psutil.CONN_LISTEN and s.laddr}
    return sorted({address.ip for address in bound if address.port == port})


def job_server_finding(address: str) -> Finding:
    """Whether the job server at an address refuses who has no token."""
    name = "job server"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{address}/api/jobs/", timeout=10):
            return Finding(name, "red", f"{address} answers without the token", TOKEN)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            return Finding(name, "green", f"refuses who has no token ({error.code})")
        return Finding(name, "yellow", f"{address} answers {error.code}", "see its log")
    except OSError as error:
        return Finding(name, "yellow", f"{address} does not answer ({error})", "see its log")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name
        return False
