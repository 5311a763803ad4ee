"""SeaweedFS's S3 server: a real one, with real keys and real multipart uploads."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Weed:
    """An S3 server with one bucket, and the one key that it takes."""

    endpoint: str
    access_key: str = "raytrain"
    secret_key: str = "S3CRET-never-to-be-seen"
    bucket: str = "s3://bucket"

    @property
    def environment(self) -> dict[str, str]:
        """What has AWS's clients use it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def identities(self) -> str:
        """The content of s3.json: who may do what."""
        key = {"accessKey": self.access_key, "secretKey": self.secret_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "admin", "credentials": [key], "actions": actions}
        return json.dumps({"identities": [identity]})

    def command(self, folder: str, ports: dict[str, int]) -> list[str]:
        """What serves it from a folder that holds s3.json, by ports of master, volume, filer and
        s3; each of them needs the port 10,000 higher too."""
        binary, address = Path(sys.executable).with_name("weed"), urlsplit(self.endpoint).hostname
        return [
            str(binary), "server", f"-ip={address}", f"-ip.bind={address}", f"-dir={folder}", "-s3",
            *(f"-{name}.port={port}" for name, port in ports.items()),
            "-master.volumeSizeLimitMB=64", "-volume.max=100", "-master.telemetry=false",
            "-volume.preStopSeconds=0", f"-s3.config={folder}/s3.json", "-s3.iam=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0",
        ]  # fmt: skip
