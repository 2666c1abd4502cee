"""Chromium without a window, driven through the pipes of its DevTools protocol: real clicks and keys."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_S = 20.0
AS_3_AND_4 = "import os, sys; [os.dup2(int(sys.argv[n]), n + 2) for n in (1, 2)]; os.execvp(sys.argv[3], sys.argv[3:])"
"""Starts a program with the two pipes as the file descriptors 3 and 4, where Chromium expects them."""


class BrowserError(Exception):
    """Something on the page did not become as expected."""


class Page:
    """One page of a running Chromium. errors: texts of exceptions and of errors that the page has logged."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from, self._rest, self._last = to_browser, from_browser, b"", 0
        self._session: str | None = None
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._from, 1 << 20)
            if not part:
                raise BrowserError("Chromium has ended")
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(text)
        params = answer.get("params", {})
        if answer.get("method") == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        if answer.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        return answer

    def show(self, width: int, height: int, *, dark: bool = False, mobile: bool = False) -> None:
        """Set the size of the window in CSS pixels, and the colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise BrowserError(f"{expression}: {found['exceptionDetails'].get('exception', {}).get('description')}")
        return found["result"].get("value")

    def wait_for(self, expression: str, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until an expression is true. Raises BrowserError when the time is over."""
        ends = time.monotonic() + timeout_s
        while not self.value(f"Boolean({expression})"):
            if time.monotonic() > ends:
                text = self.value("document.body.innerText.slice(0, 600)")
                raise BrowserError(f"expected {expression}; the page says: {text!r}; errors: {self.errors}")
            time.sleep(0.05)

    def click(self, selector: str, text: str = "") -> None:
        """Click in the middle of the first element of this selector that has the text, with the mouse."""
        quoted, wanted = json.dumps(selector), json.dumps(text)
        found = f"[...document.querySelectorAll({quoted})].find((e) => e.textContent.includes({wanted}))"
        self.wait_for(found)
        x, y = self.value(
            f"(() => {{ const e = {found}; e.scrollIntoView({{ block: 'center' }}); "
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type characters where the focus is."""
        for character in text:
            self.call("Input.dispatchKeyEvent", type="keyDown", text=character, key=character)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=character)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key that is no character, such as ("Tab", 9) or ("Enter", 13)."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, file: Path) -> None:
        """Write what the window shows as PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def opened_browser() -> Iterator[Page]:
    """Start Chromium with an empty profile. Raises SystemExit: there is none on the PATH."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        raise SystemExit(f"browser: expected one of {', '.join(NAMES)} on the PATH; apt-get install chromium")
    (read_end, to_browser), (from_browser, write_end) = os.pipe(), os.pipe()
    theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read_end, write_end)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:  # its processes end a little later
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        options += [f"--user-data-dir={profile}", "--no-first-run"]
        command = [sys.executable, "-c", AS_3_AND_4, *map(str, theirs), program, *options]
        child = subprocess.Popen(command, pass_fds=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for end in (read_end, write_end, *theirs):
            os.close(end)
        try:
            yield Page(to_browser, from_browser)
        finally:
            child.terminate()
            child.wait(20)
            os.close(to_browser)
            os.close(from_browser)
