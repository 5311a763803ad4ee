"""A headless Chromium that is driven over the pipe of its DevTools: a fixture of all tests."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 60.0  # seconds


class Page:
    """A page that is open. `problems` are its exceptions, what it logged, and what it fetched."""

    def __init__(self, orders: int, reports: int) -> None:
        self._orders, self._reports, self._unread = orders, reports, b""
        self._number, self._target, self._session = 0, "", ""
        self.problems: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give an order and wait for its result."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            order["sessionId"] = self._session
        os.write(self._orders, json.dumps(order).encode() + b"\0")
        while (report := self._next()).get("id") != self._number:
            self._note(report)
        assert "error" not in report, f"{method}: {report['error']}"
        return dict(report["result"])

    def open(self, url: str, width: int, height: int, dark: bool, touch: bool) -> None:
        """Load a page in a window of a size in CSS pixels, and wait until it is ready."""
        self._target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Page", "Network", "Log"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        self.wait("document.body?.dataset.ready === 'yes'")

    def close(self) -> None:
        self._session = ""
        self.call("Target.closeTarget", targetId=self._target)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, once its promise is kept."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.value(condition):
            assert time.monotonic() < deadline, f"{condition} did not come true; {self.problems}"
            time.sleep(0.02)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """`kind` is Pressed, Released, Moved or Wheel."""
        button = {} if kind == "Wheel" else {"button": "left", "clickCount": 1}
        held = {"buttons": 1} if kind == "Moved" and more.pop("held", False) else {}
        self.call(
            "Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **button, **held, **more
        )

    def click(self, x: float, y: float) -> None:
        for kind in ("Moved", "Pressed", "Released"):
            self.mouse(kind, x, y)

    def fingers(self, kind: str, *points: tuple[float, float]) -> None:
        """`kind` is Start, Move or End."""
        touches = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        self.call("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=touches)

    def key(self, key: str) -> None:
        codes = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39}
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        code = {"windowsVirtualKeyCode": codes[key]} if key in codes else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text, **code)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, **code)

    def screenshot(self) -> bytes:
        """What the window shows, as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            part = os.read(self._reports, 1 << 20)
            assert part, "Chromium ended"
            self._unread += part
        report, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(report))

    def _note(self, report: Mapping[str, Any]) -> None:
        told = report.get("params", {})
        match report.get("method"):
            case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded":
                self.problems.append(json.dumps(told))
            case "Network.requestWillBeSent":
                if not told["request"]["url"].startswith(("file:", "data:")):
                    self.problems.append(told["request"]["url"])


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """A Chromium of its own, which ends with the block."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.fail(f"this test drives a browser: put one of {', '.join(NAMES)} on PATH")
    (theirs, orders), (reports, told) = os.pipe(), os.pipe()
    redirected = f'exec "$0" "$@" 3<&{theirs} 4>&{told} 2>/dev/null'  # the numbers that it expects
    process = subprocess.Popen(
        ["bash", "-c", redirected, program, *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(theirs, told),
    )
    os.close(theirs)
    os.close(told)
    try:
        yield Page(orders, reports)
    finally:
        os.close(orders)  # ends it
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(reports)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page
