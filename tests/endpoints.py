"""Every route as tests ask it: its requests, and what of an answer has to stay the same.

check_together(server, ["/v1/classify", "/v1/chat/completions"])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from served import HELLO, TEXTS, Running

Value = tuple[Any, list[float]]
"""What has to be the same, and the numbers that have to be near."""
CLIENTS = 64


@dataclass(frozen=True)
class Endpoint:
    """A route: the models that are asked in turn, the body of the n-th request, and what is
    compared of an answer."""

    models: Sequence[str]
    body: Callable[[int], Mapping[str, Any]]
    value: Callable[[Any], Value]


def text(n: int) -> str:
    return TEXTS[n % len(TEXTS)]


def rows_of(*exact: str, near: str | None = None) -> Callable[[Any], Value]:
    """These fields of each row of `data`, and a number or numbers in another."""

    def value(answer: Any) -> Value:
        numbers: list[float] = []
        for row in answer["data"]:
            found = row[near] if near else []
            found = [*found.values()] if isinstance(found, dict) else found
            numbers += found if isinstance(found, list) else [found]
        return [[row[name] for name in exact] for row in answer["data"]], numbers

    return value


def spans(answer: Any) -> Value:
    found = [span for row in answer["data"] for span in row["spans"]]
    places = [(span["label"], span["start"], span["end"]) for span in found]
    return places, [span["score"] for span in found]


def ranking(answer: Any) -> Value:
    results = answer["results"]
    return [row["index"] for row in results], [row["relevance_score"] for row in results]


def completion(answer: Any) -> Value:
    choices = [(c["index"], c["text"], c["finish_reason"]) for c in answer["choices"]]
    return (choices, answer["usage"]), []


def turns(answer: Any) -> Value:
    return ([choice["message"]["content"] for choice in answer["choices"]], answer["usage"]), []


def response(answer: Any) -> Value:
    parts = [part["text"] for item in answer["output"] for part in item["content"]]
    return (answer["status"], parts, answer["usage"]), []


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v1/classify": Endpoint(
        ("adapter-0", "adapter-1", "adapter-2"),
        lambda n: {"input": [text(n), text(n + 1)]}, rows_of("label", near="scores"),
    ),
    "/v1/tag": Endpoint(("tags",), lambda n: {"input": text(n)}, spans),
    "/v1/answer": Endpoint(
        ("spans",), lambda n: {"input": {"question": text(n), "context": text(n + 2)}},
        rows_of("text", "start", near="confidence"),
    ),
    "/v1/score": Endpoint(("value",), lambda n: {"input": text(n)}, rows_of(near="value")),
    "/v1/embeddings": Endpoint(
        ("vectors",), lambda n: {"input": [text(n), text(n + 3)]},
        rows_of("index", near="embedding"),
    ),
    "/v1/rerank": Endpoint(
        ("vectors",), lambda n: {"query": text(n), "documents": TEXTS[1:]}, ranking
    ),
    "/v1/completions": Endpoint(
        ("words",), lambda n: {"prompt": [text(n), text(n + 1)], "max_tokens": 6, "temperature": 0},
        completion,
    ),
    "/v1/chat/completions": Endpoint(
        ("talk",), lambda n: {"messages": HELLO, "max_tokens": 8, "seed": n, "n": 1 + n % 2}, turns
    ),
    "/v1/responses": Endpoint(
        ("talk",), lambda n: {"input": text(n), "max_output_tokens": 8, "temperature": 0}, response
    ),
    "/v1/summarize": Endpoint(
        ("summary",), lambda n: {"input": text(n), "max_tokens": 6}, rows_of("text")
    ),
    "/v1/translate": Endpoint(
        ("translation",), lambda n: {"input": [text(n), text(n + 1)], "max_tokens": 6},
        rows_of("text", "finish_reason"),
    ),
}  # fmt: skip


def check_together(server: Running, routes: Sequence[str], near: float = 1e-5) -> None:
    """Each answer among 64 clients is that of the same request alone."""
    asks = [(route, n) for n in range(15) for route in routes]
    asks *= 1 + 2 * CLIENTS // len(asks)

    def ask(route: str, n: int) -> Value:
        point = ENDPOINTS[route]
        answer = server.post(route, model=point.models[n % len(point.models)], **point.body(n % 5))
        assert answer.status_code == 200, (route, answer.text)
        return point.value(answer.json())

    alone = {one: ask(*one) for one in {*asks}}
    with ThreadPoolExecutor(CLIENTS) as pool:
        together = [*pool.map(ask, *zip(*asks, strict=True))]
    for one, (exact, numbers) in zip(asks, together, strict=True):
        assert exact == alone[one][0], one
        assert numbers == pytest.approx(alone[one][1], abs=near), one
