"""A real browser, driven through its DevTools protocol: it clicks, types, and reads."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
KEYS: Mapping[str, tuple[str, int]] = {
    "Enter": ("\r", 13), "Tab": ("\t", 9), "Escape": ("", 27), "ArrowRight": ("", 39),
    "ArrowLeft": ("", 37), "ArrowDown": ("", 40), "Home": ("", 36), "End": ("", 35),
}  # fmt: skip


def browser_path() -> str | None:
    """Where there is a browser, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Tab:
    """A page that is open.

    `urls` are all requests that it made; `faults` exceptions, refusals of the content security
    policy, and errors on the console.
    """

    def __init__(self, socket: Any) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.urls: list[str] = []
        self.faults: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Mapping[str, Any]:
        """Have the browser do something, and wait for it."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._hear(message)

    def _hear(self, message: Mapping[str, Any]) -> None:
        what, params = message.get("method"), message.get("params", {})
        if what == "Network.requestWillBeSent":
            self.urls.append(params["request"]["url"])
        elif what == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(params["exceptionDetails"])[:400])
        elif what == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.faults.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 30) -> None:
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, (condition, self.run("document.body.innerText"))
            time.sleep(0.05)

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def text(self, selector: str) -> str:
        """What stands there, as people see it."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of what is really there."""
        place = self.run(
            "(() => { const e = document.querySelector(" + json.dumps(selector) + ");"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "const x = b.x + b.width / 2, y = b.y + b.height / 2;"
            "const top = document.elementFromPoint(x, y);"
            "return {x, y, hit: e.contains(top) || top === e}; })()"
        )
        assert place["hit"], f"{selector} is covered by something else, or not to be seen"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place["x"], y=place["y"],
                      button="left", clickCount=1)  # fmt: skip

    def press(self, key: str, modifiers: int = 0) -> None:
        """A key; `modifiers`: 1 Alt, 2 Ctrl, 8 Shift."""
        text, code = KEYS[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        shown = {"text": text} if text and not modifiers & 2 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **shown)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def write(self, text: str) -> None:
        """Into what has the focus."""
        self.call("Input.insertText", text=text)

    def fill(self, selector: str, text: str) -> None:
        """Click a field and write into it, in the place of what stands there."""
        self.click(selector)
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.write(text)

    def choose(self, selector: str, value: str) -> None:
        """An entry of a list, as the keyboard would."""
        name = json.dumps(selector)
        self.run(f"(() => {{ const e = document.querySelector({name}); e.focus();"
                 f"e.value = {json.dumps(value)};"
                 "e.dispatchEvent(new Event('change', {bubbles: true})); })()")  # fmt: skip
        assert self.run(f"document.querySelector({name}).value") == value

    def look(self, *, width: int = 1200, height: int = 900, dark: bool = False,
             phone: bool = False) -> None:  # fmt: skip
        """The size of the window, the colours that the person likes, and whether it is a phone."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=phone)  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(path: str, folder: Path) -> Iterator[Tab]:
    """A tab of a browser without a window, which knows nothing of any other."""
    import websocket

    process = subprocess.Popen(
        [path, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
         "--remote-allow-origins=*", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", f"--user-data-dir={folder}",
         "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port = _port(folder / "DevToolsActivePort")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        socket: Any = websocket.create_connection(pages[0]["webSocketDebuggerUrl"], timeout=60)
        try:
            yield Tab(socket)
        finally:
            socket.close()
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _port(file: Path) -> int:
    end = time.monotonic() + 60
    while True:
        if file.exists() and (text := file.read_text()):
            return int(text.splitlines()[0])
        assert time.monotonic() < end, "the browser did not start"
        time.sleep(0.05)
