"""A headless browser that tests steer by the WebDriver protocol (W3C), without a package of its own."""

from __future__ import annotations

import base64
import contextlib
import json
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from helpers.ports import free_port

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,1500"),
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # key of an element's reference in the protocol
MISSING = "no Chromium and chromedriver here; on Debian: apt-get install chromium chromium-driver"


def installed() -> tuple[str, str] | None:
    """Return paths of a browser and its driver, None where one is missing."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class Browser:
    """One window of a browser."""

    def __init__(self, address: str) -> None:
        self._address = address

    def call(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Send a command of the protocol; return its value."""
        content = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(
            self._address + path, content, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, path: pathlib.Path) -> None:
        """Open a file."""
        self.call("/url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function in the page; return what it returns."""
        return self.call("/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector: str) -> str:
        """Return the reference of an element."""
        return self.call("/element", {"using": "css selector", "value": selector})[ELEMENT]

    def press(self, selector: str, keys: str) -> None:
        """Focus an element and press keys."""
        self.call(f"/element/{self.find(selector)}/value", {"text": keys})

    def drag(self, source: str, target: str) -> None:
        """Drag one element to another with the mouse."""
        origins = [{ELEMENT: self.find(selector)} for selector in (source, target)]
        moves = [{"type": "pointerMove", "duration": 50, "x": 0, "y": 0, "origin": origin} for origin in origins]
        actions = [moves[0], {"type": "pointerDown", "button": 0}, moves[1], {"type": "pointerUp", "button": 0}]
        self.call("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]})

    def hover(self, selector: str, x: int, y: int) -> None:
        """Move the mouse to a place relative to the middle of an element."""
        move = {"type": "pointerMove", "duration": 50, "x": x, "y": y, "origin": {ELEMENT: self.find(selector)}}
        self.call("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def errors(self) -> list[str]:
        """Return messages of the console that are errors, since the last call."""
        return [entry["message"] for entry in self.call("/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]

    def screenshot(self, path: pathlib.Path) -> None:
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.call("/screenshot")))


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser with a new profile, and end it."""
    found = installed()
    assert found is not None, MISSING
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = subprocess.Popen([found[1], f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            window = Browser(f"http://127.0.0.1:{port}")
            _wait_for(window, driver)
            options = {"binary": found[0], "args": [*FLAGS, f"--user-data-dir={profile}"]}
            capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            session = window.call("/session", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]
            window = Browser(f"http://127.0.0.1:{port}/session/{session}")
            yield window
            window.call("", method="DELETE")
        finally:
            driver.terminate()
            driver.wait(timeout=20)


def _wait_for(window: Browser, driver: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert driver.poll() is None, "chromedriver ended"
        with contextlib.suppress(OSError):
            if window.call("/status")["ready"]:
                return
        time.sleep(0.05)
    raise AssertionError("chromedriver is not ready after ten seconds")
