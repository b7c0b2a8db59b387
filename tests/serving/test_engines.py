"""Each engine behind each route: its answers under many clients are those of a request alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chats import talker
from endpoints import ENDPOINTS, check_together
from served import HELLO, Running, running
from warmstart import part
from warmstart.errors import RecipeError

READS = ("/v1/classify", "/v1/tag", "/v1/answer", "/v1/score", "/v1/embeddings", "/v1/rerank")
DECODES = ("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/translate")
SERVES: Mapping[str, tuple[str, ...]] = {
    "torch": (*ENDPOINTS,),
    "onnx": READS,
    "openvino": READS,
    "openvino_genai": DECODES,
    "ctranslate2": (*DECODES, "/v1/summarize"),
}
"""Engine → the routes at which it answers, the model for a translation being a decoder and the one
for summaries an encoder-decoder."""
LIBRARY = {"onnx": "onnxruntime"}
SETTINGS = {"openvino_genai": {"cache_gb": 0.05}}
QUICK = {("onnx", "/v1/score"), ("openvino", "/v1/embeddings"), ("ctranslate2", "/v1/summarize")}
"""Of torch `behaviours/test_batching.py` asks all routes at once."""
WRITE: dict[str, Any] = {"model": "talk", "messages": HELLO, "max_tokens": 16}


@pytest.fixture(scope="module")
def folders(server: Running) -> dict[str, Path]:
    return {served.name: served.folder for served in server.models.all()}


def engine_of(name: str) -> Any:
    pytest.importorskip(LIBRARY.get(name, name))
    return part.make("engine", name, SETTINGS.get(name, {}))


@pytest.mark.parametrize(
    ("engine", "route"),
    [
        pytest.param(engine, route, marks=[] if (engine, route) in QUICK else pytest.mark.slow)
        for engine, routes in SERVES.items()
        for route in routes
    ],
)
def test_64_clients_are_answered_as_one_alone(
    engine: str, route: str, folders: dict[str, Path]
) -> None:
    """Exactly where texts are written and labels given; numbers within what the engine says that
    they move by with the rows beside them."""
    made = engine_of(engine)
    sources = {name: folders[name] for name in ENDPOINTS[route].models}
    with running(sources, engine=made) as server:
        check_together(server, [route], near=max(1e-5, made.batch_tolerance or 0.0))


@pytest.mark.parametrize("engine", [*SERVES])
def test_an_engine_that_cannot_is_refused_by_name(engine: str, folders: dict[str, Path]) -> None:
    """When the server starts, and not when somebody asks."""
    made = engine_of(engine)
    for route in {*ENDPOINTS} - {*SERVES[engine]}:
        name = ENDPOINTS[route].models[0]
        with (
            pytest.raises(
                RecipeError, match=rf"^model {name}: engine {engine} .*take engine"
            ) as refused,
            running({name: folders[name]}, engine=made),
        ):
            pass
        assert "torch" in str(refused.value)


@pytest.mark.parametrize(
    "engine", [pytest.param("openvino_genai", marks=pytest.mark.slow), "ctranslate2"]
)
def test_an_engine_that_writes(engine: str, tmp_path: Path) -> None:
    """Greedy texts are those of torch, alone and among others; what the engine cannot do is
    refused by name; a client that goes leaves the others alone."""
    made = engine_of(engine)
    folder = talker(tmp_path / "talk")
    with running({"talk": folder}) as server:
        wanted = server.post("/v1/chat/completions", temperature=0, **WRITE).json()["choices"]
    with running({"talk": folder}, engine=made) as server:

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


def check_gone(server: Running, ask: Callable[[int], str], alone: list[str]) -> None:
    """Clients that go in the middle."""
    body = {**WRITE, "max_tokens": 400, "stream": True}
    for _ in range(3):
        with server.http.stream("POST", f"{server.url}/v1/chat/completions", json=body) as answer:
            next(answer.iter_lines())
            assert ask(3) == alone[3]
    assert ask(5) == alone[5]
