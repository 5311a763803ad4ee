"""An HTTP proxy between a client and the real S3 server, which fails when it is told to."""

import http.client
import re
import socket
import struct
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Fault = Literal["refuse", "502", "503", "hang", "reset", "cut", "short", "flip", "slow"]
"""What befalls a request:

refuse  no connection is accepted
502     the page of a gateway without its server
503     S3's SlowDown
hang    no answer
reset   GET: the connection is reset in the middle of the body; else: when the server has done it
cut     half of the body, then the connection is closed
short   GET: half of the body, as if it were all
flip    a byte of the body is another: that at `spot`, or in the middle
slow    SLOW_BYTES_S
"""

SLOW_BYTES_S = 400_000
PIECE = 20_000
ANSWERS = {
    "502": (502, {"Content-Type": "text/html"}, b"<html><hr>Bad Gateway</html>"),
    "503": (
        503,
        {"Content-Type": "application/xml"},
        b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate</Message></Error>",
    ),
}


class Proxy:
    """Passes requests on to the server at `endpoint` until it is told to `fail`.

    `requests` holds "METHOD path status" of all that the server answered. Without `checksums`
    answers come without the sums that the server has of the objects, as from a server without.
    """

    def __init__(self, endpoint: str) -> None:
        self.server = urlsplit(endpoint).netloc
        self.requests: list[str] = []
        self.checksums, self.spot = True, -1
        self.fault: Fault | None = None
        self.only, self.left = "", 0
        self.lock, self.healed = threading.Lock(), threading.Event()
        self.listener = self._listen(0)
        self.port = int(self.listener.server_address[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def fail(
        self, fault: Fault, only: str = "", times: int = 10**9, seconds: float | None = None
    ) -> None:
        """Let the fault befall the next requests whose "METHOD path" begins with the pattern
        `only`, so many of them, for so long."""
        self.heal()
        with self.lock:
            self.only, self.left, self.fault = only, times, fault
        if fault == "refuse":
            self._close()
        if seconds is not None:
            threading.Timer(seconds, self.heal).start()

    def heal(self) -> None:
        """Pass everything on again."""
        with self.lock:
            fault, self.fault = self.fault, None
        self.healed.set()
        self.healed = threading.Event()
        if fault == "refuse":
            self.listener = self._listen(self.port)

    def close(self) -> None:
        """Stop for good."""
        self.heal()
        self._close()

    def next_fault(self, request: str) -> Fault | None:
        """What befalls a request that has just come."""
        with self.lock:
            if self.fault is None or self.left == 0 or not re.match(self.only, request):
                return None
            self.left -= 1
            return self.fault

    def _listen(self, port: int) -> ThreadingHTTPServer:
        listener = Listener(("127.0.0.1", port), type("Bound", (Handler,), {"proxy": self}))
        threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
        return listener

    def _close(self) -> None:
        self.listener.shutdown()
        self.listener.server_close()


class Listener(ThreadingHTTPServer):
    """Handles every connection in a thread that need not end."""

    daemon_threads, block_on_close, request_queue_size = True, False, 64

    def handle_error(self, *_: Any) -> None:
        """Says nothing of clients that went away."""


class Handler(BaseHTTPRequestHandler):
    """Passes a request on, with what befalls it."""

    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def handle_request(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.next_fault(f"{self.command} {self.path}")
        if fault == "refuse":  # of a connection that was there before
            self._reset()
        elif fault in ANSWERS:
            self._answer(*ANSWERS[fault])
        elif fault == "hang":
            self.proxy.healed.wait()
            self._reset()
        elif self.command in ("PUT", "POST"):
            self._upload(content, fault)
        else:
            self._download(*self._ask(content), fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request  # noqa: N815

    def _upload(self, content: bytes, fault: Fault | None) -> None:
        if fault == "slow":
            time.sleep(len(content) / SLOW_BYTES_S)
        if fault == "cut":
            self._ask(content[: len(content) // 2], half=True)
            self._reset()
            return
        answer = self._ask(self._flipped(content) if fault == "flip" else content)
        if fault == "reset":
            self._reset()
        else:
            self._answer(*answer)

    def _download(
        self, status: int, headers: dict[str, str], content: bytes, fault: Fault | None
    ) -> None:
        half = content[: len(content) // 2]
        if fault == "reset":
            self._answer(status, headers, half)
            self._reset()
        elif fault == "cut":
            self._answer(status, headers, half)
            self.close_connection = True
        elif fault == "slow":
            self._answer(status, headers, b"")
            for start in range(0, len(content), PIECE):
                time.sleep(PIECE / SLOW_BYTES_S)
                self.wfile.write(content[start : start + PIECE])
        elif fault == "short":
            self._answer(status, headers | {"Content-Length": str(len(half))}, half)
        else:
            spoilt = self._flipped(content) if fault == "flip" else content
            self._answer(status, headers, spoilt)

    def _ask(self, content: bytes, half: bool = False) -> tuple[int, dict[str, str], bytes]:
        """The server's answer; none where it gets only half of the body."""
        with closing(http.client.HTTPConnection(self.proxy.server, timeout=60)) as server:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    server.putheader(name, value)
            server.endheaders(content)
            if half:
                return 0, {}, b""
            answer = server.getresponse()
            body = answer.read()
        dropped = ("transfer-encoding", "x-amz-checksum")[: 1 if self.proxy.checksums else 2]
        kept = {k: v for k, v in answer.getheaders() if not k.lower().startswith(dropped)}
        if self.command != "HEAD":
            kept["Content-Length"] = str(len(body))
        self.proxy.requests.append(f"{self.command} {self.path} {answer.status}")
        return answer.status, kept, body

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _reset(self) -> None:
        """End the connection by a reset, as a broken network does."""
        self.wfile.flush()
        now = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        self.connection.close()
        self.close_connection = True

    def _flipped(self, content: bytes) -> bytes:
        changed = bytearray(content)
        if changed:
            changed[self.proxy.spot if self.proxy.spot >= 0 else len(changed) // 2] ^= 0x10
        return bytes(changed)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""
