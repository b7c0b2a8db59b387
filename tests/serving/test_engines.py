"""Each engine behind the routes: its answers under many clients are those of a request alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chats import talker
from served import HELLO, TEXTS, headed, running
from tiny import classifier
from warmstart import part

LABELS = {0: "O", 1: "B-PER", 2: "I-PER"}
WRITE: dict[str, Any] = {"model": "talk", "messages": HELLO, "max_tokens": 16}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_an_engine_of_encoders(name: str, tmp_path: Path) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(name, name))
    engine: Any = part.make("engine", name, {})
    sources = {"classes": classifier("bert", tmp_path / "classes"),
               "tags": headed(tmp_path / "tags", "AutoModelForTokenClassification",
                              id2label=LABELS)}  # fmt: skip
    with running(sources, engine=engine) as server:

        def ask(n: int) -> Any:
            if n % 2:
                body = server.post("/v1/classify", model="classes", input=TEXTS[n % 5]).json()
                return body["data"][0]["scores"]
            return server.post("/v1/tag", model="tags", input=TEXTS[n % 5]).json()["data"][0]

        alone = [ask(n) for n in range(10)]
        with ThreadPoolExecutor(32) as pool:
            together = [*pool.map(ask, range(60))]
        for n, value in enumerate(together):
            wanted = alone[n % 10]
            if n % 2:
                assert value == pytest.approx(wanted, abs=1e-4)
            else:
                assert [span["label"] for span in value["spans"]] == [
                    span["label"] for span in wanted["spans"]
                ]


@pytest.mark.parametrize(
    "engine", [pytest.param("openvino_genai", marks=pytest.mark.slow), "ctranslate2"]
)
def test_an_engine_that_writes(engine: str, tmp_path: Path) -> None:
    """Greedy texts are those of torch, alone and among others; what the engine cannot do is
    refused by name; a client that goes leaves the others alone."""
    pytest.importorskip(engine)
    folder = talker(tmp_path / "talk")
    with running({"talk": folder}) as server:
        wanted = server.post("/v1/chat/completions", temperature=0, **WRITE).json()["choices"]
    settings = {"cache_gb": 0.05} if engine == "openvino_genai" else {}
    with running({"talk": folder}, engine=part.make("engine", engine, settings)) as server:

        def ask(n: int) -> str:
            how: dict[str, Any] = {"temperature": 0} if n % 2 else {"seed": n % 6}
            body = server.post("/v1/chat/completions", **WRITE, **how).json()
            return body["choices"][0]["message"]["content"]

        alone = [ask(n) for n in range(6)]
        assert alone[1] == alone[3] == wanted[0]["message"]["content"]
        with ThreadPoolExecutor(24) as pool:
            assert [*pool.map(ask, range(48))] == [alone[n % 6] for n in range(48)]
        several = server.post("/v1/chat/completions", **WRITE, n=3, seed=1).json()["choices"]
        assert [choice["index"] for choice in several] == [0, 1, 2]
        refused = server.post("/v1/chat/completions", **WRITE, logprobs=True, top_logprobs=2)
        assert refused.json()["error"]["param"] == "logprobs"
        chunks = server.client().chat.completions.create(stream=True, temperature=0, **WRITE)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == alone[1]
        check_gone(server, ask, alone)


def check_gone(server: Any, ask: Callable[[int], str], alone: list[str]) -> None:
    """Clients that go in the middle."""
    body = {**WRITE, "max_tokens": 400, "stream": True}
    for _ in range(3):
        with server.http.stream("POST", f"{server.url}/v1/chat/completions", json=body) as answer:
            next(answer.iter_lines())
            assert ask(3) == alone[3]
    assert ask(5) == alone[5]
