"""A hub in a thread: as much of the Hugging Face protocol as a download needs, and its troubles.

with HubServer() as hub:
    hub.add("org/model", folder)
    hub.cut["model.safetensors"] = 1000     # the next answer breaks off after 1000 bytes
    ... HF_ENDPOINT=hub.url ...
    hub.requests                            # (method, path, headers) of every request
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """Serves repositories from memory."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Repository → status and error code."""
    token: dict[str, str] = field(default_factory=dict)
    """Repository → token that opens it."""
    cut: dict[str, int] = field(default_factory=dict)
    """File → bytes after which the next answer breaks off, once."""
    down: set[str] = field(default_factory=set)
    """Files that break off again and again: 503 to every GET behind the first cut."""
    garble: set[str] = field(default_factory=set)
    """Files that come with another last byte than their ETag promises."""
    etag: dict[str, str] = field(default_factory=dict)
    """File → what its ETag says instead."""
    endless: set[str] = field(default_factory=set)
    """Files that are announced with their size, and whose GET then never ends."""
    slow: set[str] = field(default_factory=set)
    """Files of which a byte comes every tenth of a second."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def __enter__(self) -> HubServer:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub.answer(self)

            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def add(self, repo: str, folder: Path, **more: bytes) -> None:
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.repos[repo] = files | more

    def ranges(self, name: str) -> list[str]:
        """The Range headers with which a file was asked for."""
        asked = (h["range"] for m, path, h in self.requests if path.endswith(name) and "range" in h)
        return list(asked)

    def fetched(self) -> set[str]:
        """The files of which the content was asked for."""
        paths = (path for method, path, _ in self.requests if method == "GET")
        return {path.rpartition("/")[2] for path in paths if "/resolve/" in path}

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        headers = {key.lower(): value for key, value in to.headers.items()}
        path = to.path.partition("?")[0]
        self.requests.append((to.command, path, headers))
        api = re.fullmatch(r"/api/models/(.+?)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", path)
        match = api or file
        repo = match[1] if match else ""
        if trouble := self._trouble(repo, headers):
            self._send(to, trouble[0], headers={"X-Error-Code": trouble[1]})
        elif file:
            self._file(to, repo, file[2], file[3], headers)
        elif api and (api[3] or "main") not in ("main", COMMIT):
            self._send(to, 404, headers={"X-Error-Code": "RevisionNotFound"})
        elif api and api[2] == "tree":
            self._json(to, [self._entry(n, data) for n, data in self.repos[repo].items()])
        else:
            siblings = [{"rfilename": name} for name in self.repos[repo]]
            self._json(to, {"id": repo, "sha": COMMIT, "siblings": siblings})

    def _trouble(self, repo: str, headers: dict[str, str]) -> tuple[int, str] | None:
        if repo in self.refuse:
            return self.refuse[repo]
        if repo not in self.repos:
            return 404, "RepoNotFound"
        if repo in self.token and headers.get("authorization") != f"Bearer {self.token[repo]}":
            return 401, "RepoNotFound"
        return None

    def _file(
        self,
        to: BaseHTTPRequestHandler,
        repo: str,
        revision: str,
        name: str,
        headers: dict[str, str],
    ) -> None:
        data = self.repos[repo].get(name)
        if data is None or revision not in ("main", COMMIT):
            self._send(to, 404, headers={"X-Error-Code": "EntryNotFound"})
            return
        about = {"ETag": f'"{self.etag.get(name) or self._etag(name, data)}"'}
        about["X-Repo-Commit"] = COMMIT
        if to.command == "GET" and name in self.endless | self.slow:
            self._pour(to, about, b"x" * (1 << 16) if name in self.endless else b"x")
            return
        if name in self.garble:
            data = data[:-1] + bytes([data[-1] ^ 1])
        asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if name in self.down and name not in self.cut and to.command == "GET":
            self._send(to, 503)
            return
        start = int(asked[1]) if asked else 0
        if asked:
            about["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(to, 206 if asked else 200, data[start:], about, name)

    def _send(
        self,
        to: BaseHTTPRequestHandler,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        name: str = "",
    ) -> None:
        to.send_response(status)
        for key, value in (headers or {}).items():
            to.send_header(key, value)
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        if to.command == "HEAD":
            return
        limit = self.cut.pop(name, None)
        to.wfile.write(body[:limit])
        to.wfile.flush()
        if limit is not None:
            to.close_connection = True

    def _pour(self, to: BaseHTTPRequestHandler, headers: dict[str, str], piece: bytes) -> None:
        to.send_response(200)
        for key, value in headers.items():
            to.send_header(key, value)
        to.end_headers()
        to.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                to.wfile.write(piece)
                to.wfile.flush()
                if len(piece) == 1:
                    time.sleep(0.1)

    def _json(self, to: BaseHTTPRequestHandler, value: object) -> None:
        self._send(to, 200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _entry(self, name: str, data: bytes) -> dict[str, Any]:
        entry = {
            "type": "file",
            "path": name,
            "size": len(data),
            "oid": self._etag(name, data)[:40],
        }
        if name.endswith(".safetensors"):
            sha = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": sha, "size": len(data), "pointerSize": 130}
        return entry

    def _etag(self, name: str, data: bytes) -> str:
        """Big files go by their sha256, small ones by a git hash, as on the real hub."""
        if name.endswith(".safetensors"):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
