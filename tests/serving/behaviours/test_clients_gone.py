"""A client that goes gives its place back, whether it streamed or not, before the text begins or
while it is written."""

from __future__ import annotations

import json
import random
import socket
import time
from typing import Any

import pytest

from served import HELLO, Running, slowed, wait

BODY: dict[str, Any] = {"model": "talk", "messages": HELLO, "max_tokens": 600,
                        "logit_bias": {}, "seed": 1}  # fmt: skip


def begun(server: Running, **body: Any) -> socket.socket:
    """A request of which nothing is read."""
    raw = json.dumps({**BODY, **body}).encode()
    host, _, port = server.url.removeprefix("http://").partition(":")
    opened = socket.create_connection((host, int(port)))
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    opened.sendall(head.encode())
    opened.sendall(raw)
    return opened


@pytest.mark.parametrize("stream", [True, False])
def test_generation_ends_when_the_client_goes(server: Running, stream: bool) -> None:
    """ggml-org/llama.cpp #24496, #13262; ROCm/ATOM #1441; pegainfer #215: also without streaming,
    where Starlette does not cancel a handler."""
    gate, random_of = server.models.named("talk").gate, random.Random(3)
    step = 0.01
    with slowed(server.models, "talk", step) as slow:
        for _ in range(5):
            written = slow.written
            opened = begun(server, stream=stream)
            until = written + random_of.randrange(1, 12)
            wait(lambda until=until: slow.written >= until)
            opened.close()
            at = slow.written
            wait(lambda: gate.inside == 0, 2)
            time.sleep(4 * step)
            assert slow.written - at <= 8
            assert server.value("texts_being_written", model="talk") == 0


def test_a_client_that_goes_while_it_waits_is_never_begun(server: Running) -> None:
    """Neroued/ninfer #111: nor one that goes while the prompt is read, or closes its half alone."""
    gate = server.models.named("talk").gate
    with slowed(server.models, "talk", 0.0, before=0.3) as slow:
        first = begun(server, max_tokens=3)
        wait(lambda: gate.inside == 1)
        waiting = [begun(server, stream=bool(n % 2)) for n in range(4)]
        wait(lambda: gate.inside == 5)
        for n, opened in enumerate(waiting):
            opened.shutdown(socket.SHUT_WR) if n < 2 else opened.close()
        wait(lambda: gate.inside == 1, 1)
        for opened in (first, *waiting[:2]):
            opened.recv(100)
            opened.close()
        time.sleep(0.05)
        assert slow.written <= 4
        reading = begun(server)
        wait(lambda: gate.inside == 1)
        time.sleep(0.1)
        reading.close()
        wait(lambda: gate.inside == 0, 1)
        wait(lambda: server.value("texts_being_written", model="talk") == 0)
        assert slow.written <= 6


def test_others_in_the_batch_go_on(server: Running) -> None:
    """A row leaves; the texts beside it are those that they would have been."""
    whole = server.post("/v1/chat/completions", **{**BODY, "max_tokens": 60}).json()["choices"]
    with slowed(server.models, "talk", 0.002, before=0.2):
        lone = begun(server, seed=5)
        wait(lambda: server.models.named("talk").gate.inside == 1)
        opened = begun(server, max_tokens=60)
        time.sleep(0.5)
        lone.close()
        opened.settimeout(20)
        parts = [opened.recv(65536)]
        while not parts[-1].endswith(b"}"):
            parts.append(opened.recv(65536))
        opened.close()
    body = json.loads(b"".join(parts).partition(b"\r\n\r\n")[2])
    assert body["choices"][0]["message"] == whole[0]["message"]
