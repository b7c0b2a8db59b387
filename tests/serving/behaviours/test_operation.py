"""Liveness under load, the end of a server, keys, and adapters that change while it runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from served import HELLO, TEXTS, Running, adapters, running, wait
from tiny import classifier, writer
from warmstart.errors import RecipeError
from warmstart.serving.auth import OPEN, known_sums, new_key, sum_of
from warmstart.serving.settings import Serving


def test_liveness_never_waits(server: Running) -> None:
    """vllm-project/vllm #24910, #38157; production-stack #1016; ray #54070: tokenising 1 MB blocked
    the loop, and the orchestrator killed a healthy server."""
    times: list[float] = []
    ended = threading.Event()

    def load(n: int) -> None:
        while not ended.is_set():
            if n < 2:
                server.post("/v1/completions", model="words", prompt="the film " * 110_000)
            elif n % 2:
                server.post("/v1/classify", model="classes", input=TEXTS)
            else:
                server.post("/v1/completions", model="words", prompt="the", max_tokens=8)

    with ThreadPoolExecutor(64) as pool, httpx.Client() as client:
        work = [pool.submit(load, n) for n in range(24)]
        time.sleep(0.5)
        for _ in range(60):
            begun = time.perf_counter()
            assert client.get(f"{server.url}/healthz").status_code == 200
            times.append(time.perf_counter() - begun)
            time.sleep(0.02)
        ended.set()
        for one in work:
            one.result()
    # the clients are threads of this process: half of what is measured is theirs
    assert np.quantile(times, 0.9) < 0.2, sorted(times)[-8:]


def routes_of(app: Any) -> list[tuple[str, str]]:
    return [
        (method, route.path.replace("{model:path}", "x"))
        for route in app.routes
        for method in sorted(getattr(route, "methods", None) or {"GET"})
    ]


def test_every_route_asks_for_a_key(server: Running, tmp_path: Path) -> None:
    """vllm-project/vllm #18892: the key protected /v1 alone. Generated from the table of routes."""
    from starlette.testclient import TestClient

    from warmstart.serving.app import create_app

    key, known = new_key(tmp_path / "keys")
    assert key not in (tmp_path / "keys").read_text()
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
    sums = known_sums(Serving(keys=str(tmp_path / "keys")))
    assert sums == {known} == {sum_of(key)}
    app = create_app(server.models, sums)
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    routes = [*routes_of(app), ("GET", "/page/index.html"), ("GET", "/nowhere")]
    assert len(routes) > 18
    for method, path in routes:
        for headers in ({}, {"Authorization": "Bearer ws-guess"}, {"Authorization": f"Bearer {known}"}):
            answer = client.request(method, path, headers=headers)
            wanted = path in OPEN
            assert (answer.status_code != 401) == wanted, (method, path)
            if not wanted and method != "HEAD":
                assert answer.json()["error"]["code"] == "invalid_api_key"
        answer = client.request(method, path, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code != 401
    assert client.get("/v1/models", auth=("anyone", key)).status_code == 200  # of a browser


def test_others_need_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback by default; elsewhere only with a key, which is never kept itself."""
    monkeypatch.delenv("WARMSTART_SERVE_KEYS", raising=False)
    assert known_sums(Serving()) == frozenset()
    assert known_sums(Serving(host="::1")) == known_sums(Serving(host="localhost")) == frozenset()
    for host in ("0.0.0.0", "::", "192.168.1.4", "example.org"):
        with pytest.raises(RecipeError, match="there is no key"):
            known_sums(Serving(host=host))
    monkeypatch.setenv("WARMSTART_SERVE_KEYS", f"{sum_of('a')},{sum_of('b')}")
    assert len(known_sums(Serving(host="0.0.0.0"))) == 2
    monkeypatch.setenv("WARMSTART_SERVE_KEYS", "my-own-password")
    with pytest.raises(RecipeError, match="no SHA-256 of a key") as refused:
        known_sums(Serving())
    assert "my-own-password" not in str(refused.value)
    with pytest.raises(RecipeError, match="cannot be read"):
        known_sums(Serving(keys=str(tmp_path / "none")))


def test_another_name_for_this_machine_is_refused(server: Running) -> None:
    """A page of another site could ask a server without a key through a name of its own."""
    for host, status in (("evil.example", 400), ("localhost", 200), ("127.0.0.1:80", 200)):
        answer = httpx.get(f"{server.url}/v1/models", headers={"host": host})
        assert answer.status_code == status


def test_metrics_have_no_text(server: Running) -> None:
    server.post("/v1/classify", model="a-name-that-a-client-made-up", input="some text")
    httpx.get(f"{server.url}/a-path-that-a-client-made-up")
    text = httpx.get(f"{server.url}/metrics").text
    assert "made-up" not in text
    assert 'warmstart_requests_total{route="/v1/classify",status="404"}' in text


def test_an_adapter_is_loaded_anew_when_its_content_changes(tmp_path: Path) -> None:
    """Caches are keyed by what is in the files: a touched file changes nothing, a half-written one
    neither."""
    base = classifier("bert", tmp_path / "base")
    made = adapters(base, tmp_path, 2)
    folder = made["adapter-0"]
    with running({"mine": folder}) as server:
        models = server.models

        def scores() -> Any:
            return server.post("/v1/classify", model="mine", input=TEXTS[0]).json()["data"][0]

        before, key = scores(), models.named("mine").key
        os.utime(folder / "adapter_model.safetensors")
        assert models.reload() == []
        whole = (folder / "adapter_model.safetensors").read_bytes()
        (folder / "adapter_model.safetensors").write_bytes(whole[: len(whole) // 2])
        assert models.reload() == []
        assert scores() == before
        assert server.value("reloads_total", model="mine", outcome="failed") == 1
        shutil.copy(made["adapter-1"] / "adapter_model.safetensors", folder)
        assert models.reload() == ["mine"]
        assert models.named("mine").key != key
        assert scores()["scores"] != before["scores"]
        (folder / "adapter_model.safetensors").write_bytes(whole)
        assert models.reload() == ["mine"]
        assert scores()["scores"] == pytest.approx(before["scores"], abs=1e-6)
        assert models.named("mine").key == key


def start(folder: Path, *words: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "warmstart", "serve", f"words={folder}", "--port", "0", "--json",
         *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines = ""
    while True:
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        lines += line
        if line.startswith("}"):
            return process, json.loads(lines)["address"]


def test_sigterm_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    """sgl-project/sglang #39016, kubernetes-sigs/gateway-api-inference-extension #549: ready says
    503 at once, requests are still taken while it drains, what was accepted is finished, exit 0."""
    process, url = start(writer(tmp_path / "words"), "--drain-seconds", "1.5")
    body = {"model": "words", "prompt": "the film", "max_tokens": 50, "n": 4}
    with ThreadPoolExecutor(24) as pool:
        work = [pool.submit(httpx.post, f"{url}/v1/completions", json=body, timeout=60)
                for _ in range(16)]  # fmt: skip
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert httpx.get(f"{url}/readyz").status_code == 503
        assert httpx.get(f"{url}/healthz").status_code == 200
        late = httpx.post(f"{url}/v1/completions", json=body, timeout=60)
        assert [one.result().status_code for one in work] == [200] * 16
        assert late.status_code == 200
    assert process.wait(20) == 0
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 1)
    assert process.stderr is not None and process.stderr.read() == ""


@pytest.mark.slow
def test_a_second_signal_ends_it(tmp_path: Path) -> None:
    process, url = start(writer(tmp_path / "words"), "--drain-seconds", "60")
    assert httpx.get(f"{url}/readyz").status_code == 200
    process.send_signal(signal.SIGTERM)
    wait(lambda: httpx.get(f"{url}/readyz").status_code == 503)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    process, url = start(writer(tmp_path / "more"), "--drain-seconds", "60")
    process.send_signal(signal.SIGINT)  # which skips the pause
    assert process.wait(10) == 0
    assert HELLO
