"""EC2's instance metadata, version 2 only: where AWS's clients find the keys of a node's role.

python metadata.py ADDRESS ACCESS_KEY SECRET_KEY
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROLES = "/latest/meta-data/iam/security-credentials"
TOKEN = "a-session-of-the-metadata-service"


class Metadata(BaseHTTPRequestHandler):
    """Answers nobody who has not asked for a session's token first: HttpTokens is `required`."""

    def do_PUT(self) -> None:
        self.answer(200 if self.path == "/latest/api/token" else 404, TOKEN)

    def do_GET(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            return self.answer(401, "")
        answers = {
            ROLES: "raytrain",
            f"{ROLES}/raytrain": json.dumps(CREDENTIALS),
            "/latest/meta-data/placement/availability-zone": "us-west-2a",
        }
        path = self.path.rstrip("/")
        self.answer(200 if path in answers else 404, answers.get(path, ""))

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    address, access_key, secret_key = sys.argv[1:]
    CREDENTIALS = {
        "Code": "Success",
        "AccessKeyId": access_key,
        "SecretAccessKey": secret_key,
        "Token": "",  # SeaweedFS takes long-lived keys
        "Expiration": "2099-01-01T00:00:00Z",
    }
    ThreadingHTTPServer((address, 80), Metadata).serve_forever()
