"""AWS for hosts that have no internet: moto's EC2, IAM and CloudFormation, SeaweedFS's S3, and the
metadata service that gives the nodes the keys of their role."""

import base64
import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

from cluster.hosts import Host
from weed import Weed

ADDRESS = "172.31.255.1"  # in the network that moto's accounts have by default
NODES = tuple(f"172.31.0.{4 + n}" for n in range(4))  # what it gives to the first instances
API, S3 = f"http://{ADDRESS}:5000", Weed(f"http://{ADDRESS}:8333", bucket="s3://my-bucket")
PORTS = {"master": 9333, "volume": 8080, "filer": 8888, "s3": 8333}
METADATA = "169.254.169.254"
ENVIRONMENT = {"AWS_ENDPOINT_URL": API, "AWS_ENDPOINT_URL_S3": S3.endpoint}
REQUESTS = "/tmp/requests"


def serve(host: Host) -> None:
    """Be AWS, on a host at ADDRESS."""
    host.path("/tmp/s3.json").write_text(S3.identities())
    assert host.run(f"ip address add {METADATA} dev eth0") == (0, "")
    moto = [Path(sys.executable).with_name("moto_server"), "-H", ADDRESS, "-p", "5000"]
    recorded = ["env", "MOTO_ENABLE_RECORDING=1", f"MOTO_RECORDER_FILEPATH={REQUESTS}"]
    script = Path(__file__).with_name("metadata.py")
    for name, command in {
        "ec2": [*recorded, *moto],
        "s3": S3.command("/tmp", PORTS),
        "metadata": [sys.executable, script, METADATA, S3.access_key, S3.secret_key],
    }.items():
        host.start(shlex.join(map(str, command)), log=f"/tmp/{name}.log")
    ready = f"curl -sf {API}/moto-api/data.json && curl -sf {S3.endpoint}/status"
    deadline = time.monotonic() + 60
    while host.run(ready)[0]:
        assert time.monotonic() < deadline, host.run("tail /tmp/*.log")[1]
        time.sleep(0.2)


def asked(host: Host, action: str) -> Iterator[dict[str, str]]:
    """The requests for an action of EC2 that were made so far, as they came over the wire."""
    for line in host.path(REQUESTS).read_text().splitlines():
        body = base64.b64decode(json.loads(line)["body"] or "").decode()
        request = {name: values[0] for name, values in parse_qs(body).items()}
        if request.get("Action") == action:
            yield request
