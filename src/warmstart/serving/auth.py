"""Who may ask, and how much may come: keys, hosts, the size of bodies; before anything is read."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from warmstart.errors import RecipeError
from warmstart.files import read_text
from warmstart.serving.errors import ApiError
from warmstart.serving.settings import LOOPBACK, Serving
from warmstart.serving.tickets import Turns

OPEN = ("/healthz", "/readyz")
"""Paths that need no key."""
KEYS = "WARMSTART_SERVE_KEYS"


def sum_of(key: str) -> str:
    """What is kept of a key: a key has 256 random bits, so that its plain SHA-256 says nothing."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key(file: Path | None = None) -> tuple[str, str]:
    """A fresh key and its sum, which is added to a file of keys where there is one."""
    key = f"ws-{secrets.token_urlsafe(32)}"
    if file is not None:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as lines:
            lines.write(f"{sum_of(key)}\n")
    return key, sum_of(key)


def known_sums(settings: Serving) -> frozenset[str]:
    """The sums of all keys, of the file and the environment. Raises `RecipeError`."""
    where, text = KEYS, os.environ.get(KEYS, "").replace(",", "\n")
    if settings.keys is not None:
        where = settings.keys
        try:
            text = read_text(Path(settings.keys))
        except (OSError, UnicodeDecodeError):
            raise RecipeError(
                f"the file of keys {where} cannot be read; make it: "
                f"warmstart serve --new-key --keys {where}"
            ) from None
    lines = [line.partition("#")[0].strip().lower() for line in text.splitlines()]
    sums = [line for line in lines if line]
    for number, line in enumerate(sums, 1):
        if len(line) != 64 or not set(line) <= set("0123456789abcdef"):
            raise RecipeError(
                f"{where}, key {number}: no SHA-256 of a key, which has 64 hexadecimal digits; a "
                "key itself does not belong there: warmstart serve --new-key makes both"
            )
    if settings.keys is not None and not sums:
        raise RecipeError(f"the file of keys {where} is empty; warmstart serve --new-key makes one")
    if not sums and not settings.is_local:
        raise RecipeError(
            f"at {settings.host} others than this machine could ask, and there is no key; make "
            "one: warmstart serve --new-key --keys keys.txt, and serve with --keys keys.txt"
        )
    return frozenset(sums)


class Guard:
    """Stands before an application: no key, a strange host or too large a body goes no further.
    `front` is what a browser without a key is shown at `/`."""

    def __init__(
        self, app: ASGIApp, sums: Iterable[str], settings: Serving, front: Response
    ) -> None:
        self._app, self._sums, self._settings, self._front = app, [*sums], settings, front
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        try:
            self._check(scope["path"], headers)
            receive = await self._body(headers, receive)
        except ApiError as error:
            if error.status == 401 and scope["path"] == "/":
                await self._front(scope, receive, send)
                return
            response = error.response()
            if error.status == 401:
                response.headers["WWW-Authenticate"] = 'Basic realm="warmstart", Bearer'
            await response(scope, receive, send)
            return
        if scope["path"] not in OPEN:
            await self._turns.wait()
        await self._app(scope, receive, send)

    def _check(self, path: str, headers: dict[bytes, bytes]) -> None:
        """Raise `ApiError` for who may not ask."""
        if not self._sums:
            # a page of another site could reach this machine under a name of its own
            host = headers.get(b"host", b"").decode("latin-1")
            name = host[1:].partition("]")[0] if host[:1] == "[" else host.partition(":")[0]
            if self._settings.is_local and name not in ("", *LOOPBACK):
                raise ApiError(400, "this server answers at localhost only", code="wrong_host")
            return
        if path in OPEN:
            return
        key = key_of(headers.get(b"authorization", b"").decode("latin-1"))
        mine = sum_of(key)
        if not sum(secrets.compare_digest(mine, known) for known in self._sums):
            raise ApiError(401, "give a key that this server knows: Authorization: Bearer KEY",
                           code="invalid_api_key")  # fmt: skip

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """Read the whole body, as far as it may go, so that nothing behind waits for it."""
        limit = self._settings.max_body_bytes
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        break
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > limit:
                        raise _too_large(limit)
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise ApiError(408, "the body did not come in time", code="body_timeout") from None
        whole: list[Message] = [{"type": "http.request", "body": b"".join(parts)}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        return replay


def key_of(header: str) -> str:
    """The key in an Authorization header: of a program as Bearer, of a browser as the password."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body has more than {limit:,} bytes", code="body_too_large")
