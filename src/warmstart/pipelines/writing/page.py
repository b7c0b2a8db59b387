"""A small page on which people judge pairs: this machine's own, for this machine alone.

It listens on the loopback address only, under a word that nobody can guess, answers no other host
name (so that no page of the web can reach it), runs no script and asks for nothing from outside.
"""

from __future__ import annotations

import hmac
import queue
import secrets
import threading
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from warmstart.errors import RunError
from warmstart.pipelines.writing.prefer import END, LEFT, RIGHT, SKIP, Pair

LOOPBACK = "127.0.0.1"
MOST_BYTES = 4096
CHOICES = {LEFT: "Answer 1 is better", RIGHT: "Answer 2 is better", SKIP: "Neither is better",
           END: "Stop here"}  # fmt: skip
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
STYLE = """:root{color-scheme:light dark;--line:#d0d3d9;--card:#f7f8fa;--mark:#1d5fc4}
@media(prefers-color-scheme:dark){:root{--line:#3a3f47;--card:#1d2025;--mark:#8ab4f8}}
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.25rem;margin:0 0 1rem}h2{font-size:1rem;margin:0}
.text{white-space:pre-wrap;overflow-wrap:anywhere}
.prompt{border-left:.25rem solid var(--line);padding-left:1rem;margin:.25rem 0 2rem}
.quiet{opacity:.7;margin:0}.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}
.card{display:flex;flex-direction:column;gap:.75rem;padding:1rem;background:var(--card);
border:1px solid var(--line);border-radius:.5rem}.card .text{flex:1}
button{font:inherit;padding:.5rem 1rem;border:1px solid var(--line);border-radius:.4rem;
background:none;color:inherit;cursor:pointer}button:hover,button:focus-visible{
border-color:var(--mark);outline:2px solid var(--mark);outline-offset:1px}
.card button{color:var(--mark);border-color:var(--mark)}
.rest{display:flex;gap:1rem;margin-top:1rem;flex-wrap:wrap}
@media(max-width:40rem){.pair{grid-template-columns:1fr}body{margin:1rem auto}}"""


class Page:
    """A context in which `choose` shows a pair on the page and waits for what is chosen."""

    def __init__(self, port: int = 0) -> None:
        self._word = secrets.token_urlsafe(24)
        self._pair: Pair | None = None
        self._over = False
        self._choices: queue.Queue[str] = queue.Queue()
        self._lock = threading.Lock()
        try:
            self._server = ThreadingHTTPServer((LOOPBACK, port), _handler(self))
        except OSError as error:
            reason = f"no page on port {port}: {error.strerror}; give another --port"
            raise RunError(reason) from None
        self._server.daemon_threads = True
        self.address = f"http://{LOOPBACK}:{self._server.server_port}/{self._word}"

    def __enter__(self) -> Page:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def choose(self, pair: Pair) -> str:
        """What is chosen on the page."""
        with self._lock:
            self._pair = pair
        return self._choices.get()

    def is_for(self, path: str, host: str) -> bool:
        """Whether a request is meant for this page."""
        names = {f"{name}:{self._server.server_port}" for name in (LOOPBACK, "localhost")}
        return host in names and hmac.compare_digest(path.encode(), f"/{self._word}".encode())

    def take(self, number: str, choice: str) -> None:
        """A choice for the pair of this number; one for another (a page that was sent twice) says
        nothing."""
        with self._lock:
            if self._pair is None or number != str(self._pair.number) or choice not in CHOICES:
                return
            self._pair, self._over = None, choice == END
            self._choices.put(choice)

    def html(self) -> str:
        """The page as it is now."""
        with self._lock:
            pair, over = self._pair, self._over
        if pair is None:
            text = "Thank you. This page can be closed." if over else "Answers are being written …"
            again = "" if over else '<meta http-equiv="refresh" content="1">'
            return _page(f"<p>{text}</p>", again)
        buttons = {value: f'<button name="choice" value="{value}">{words}</button>'
                   for value, words in CHOICES.items()}  # fmt: skip
        cards = "".join(
            f'<div class="card"><h2>Answer {value}</h2><div class="text">{escape(text)}</div>'
            f"{buttons[value]}</div>"
            for value, text in zip((LEFT, RIGHT), pair.answers, strict=True)
        )
        return _page(
            f'<p class="quiet">Prompt {pair.number + 1} of {pair.of}</p>'
            f'<div class="text prompt">{escape(pair.prompt)}</div>'
            f'<h1>Which answer is better?</h1><form method="post">'
            f'<input type="hidden" name="pair" value="{pair.number}">'
            f'<div class="pair">{cards}</div><div class="rest">{buttons[SKIP]}{buttons[END]}</div>'
            "</form>"
        )

    def finish(self) -> None:
        """Say on the page that nothing more comes."""
        with self._lock:
            self._pair, self._over = None, True


def _page(body: str, head: str = "") -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{head}'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Which answer is better?</title><style>{STYLE}</style></head>"
        f"<body>{body}</body></html>"
    )


def _handler(page: Page) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers for one page."""

        timeout = 30

        def do_GET(self) -> None:
            if self._is_ours():
                self._send(HTTPStatus.OK, page.html())

        def do_POST(self) -> None:
            if not self._is_ours():
                return
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > MOST_BYTES:
                self._send(HTTPStatus.BAD_REQUEST, _page("<p>This is no answer.</p>"))
                return
            fields = parse_qs(self.rfile.read(int(length)).decode(errors="replace"))
            page.take(fields.get("pair", [""])[0], fields.get("choice", [""])[0])
            self.send_response(HTTPStatus.SEE_OTHER)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _is_ours(self) -> bool:
            if page.is_for(self.path, self.headers.get("Host", "")):
                return True
            self._send(HTTPStatus.NOT_FOUND, _page("<p>There is nothing here.</p>"))
            return False

        def _send(self, status: HTTPStatus, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the terminal is not for this."""

    return Handler
