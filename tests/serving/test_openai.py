"""OpenAI's own client: every path that it has for texts, as its users call it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, Literal, get_type_hints

import httpx
import numpy as np
import openai
import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params
from pydantic import BaseModel, ConfigDict

from served import HELLO, TEXTS, Running, running
from warmstart.serving.auth import sum_of
from warmstart.serving.routes.chat import ChatRequest
from warmstart.serving.routes.completions import CompletionRequest
from warmstart.serving.routes.embeddings import EmbeddingRequest
from warmstart.serving.routes.responses import ResponseRequest

TALK: dict[str, Any] = {"model": "talk", "messages": HELLO, "max_tokens": 20}
WORDS: dict[str, Any] = {"model": "words", "prompt": "the film", "max_tokens": 8}


class Mood(BaseModel):
    model_config = ConfigDict(extra="forbid")

    mood: Literal["good", "bad"]
    sure: bool


def test_a_chat_that_is_parsed(server: Running) -> None:
    """Structured output, whole and streamed, in the client's own objects."""
    chat = server.client().chat.completions
    how: dict[str, Any] = {**TALK, "max_tokens": 120, "response_format": Mood, "seed": 2}
    parsed = chat.parse(**how).choices[0].message.parsed
    assert isinstance(parsed, Mood)
    with chat.stream(**how) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == parsed
    assert kinds.count("content.done") == 1
    free = chat.create(**{**how, "response_format": {"type": "json_object"}}).choices[0]
    assert free.finish_reason == "length" or isinstance(
        json.loads(free.message.content or ""), dict
    )


def test_a_response_that_is_parsed(server: Running) -> None:
    responses = server.client().responses
    how: dict[str, Any] = {"model": "talk", "input": "Hello", "text_format": Mood,
                           "max_output_tokens": 120, "temperature": 0}  # fmt: skip
    whole = responses.parse(store=False, **how)
    assert isinstance(whole.output_parsed, Mood)
    assert whole.store is False
    with responses.stream(**how) as stream:
        last = [*stream][-1]
        assert last.type == "response.completed"
        assert stream.get_final_response().output_parsed == whole.output_parsed


def test_stop_and_usage_of_a_chat(server: Running) -> None:
    chat = server.client().chat.completions
    how: dict[str, Any] = {**TALK, "seed": 4}
    text = chat.create(**how).choices[0].message.content or ""
    whole = chat.create(stop=[text[3:5]], **how)
    assert whole.choices[0].message.content == text[: text.find(text[3:5])]
    assert whole.choices[0].finish_reason == "stop"
    chunks = [*chat.create(stop=[text[3:5]], stream=True,
                           stream_options={"include_usage": True}, **how)]  # fmt: skip
    parts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(parts) == whole.choices[0].message.content
    assert [chunk.usage for chunk in chunks if chunk.usage] == [whole.usage]


def test_completions_are_streamed_with_their_usage(server: Running) -> None:
    client = server.client()
    how: dict[str, Any] = {**WORDS, "prompt": TEXTS[:2], "n": 2, "seed": 4}
    whole = client.completions.create(**how)
    parts, usage = [""] * 4, []
    for chunk in client.completions.create(
        stream=True, stream_options={"include_usage": True}, **how
    ):
        usage += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            parts[choice.index] += choice.text
    assert parts == [choice.text for choice in whole.choices]
    assert usage == [whole.usage]


def test_vectors_in_base64(server: Running) -> None:
    embed: Any = server.client().embeddings.create
    (coded,) = embed(model="vectors", input=TEXTS[0], encoding_format="base64").data
    (plain,) = embed(model="vectors", input=TEXTS[0], encoding_format="float").data
    raw = np.frombuffer(base64.b64decode(coded.embedding), "<f4")
    np.testing.assert_allclose(raw, plain.embedding, atol=1e-7)


def test_refusals_are_the_errors_of_the_client(server: Running) -> None:
    client = server.client()
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("nobody")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(**{**WORDS, "prompt": "the film " * 100})
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "prompt")
    folder = {"vectors": server.models.named("vectors").folder}
    with running(folder, sums=[sum_of("ws-key")], key="ws-guess") as closed:
        with pytest.raises(openai.AuthenticationError):
            closed.client().models.list()
        closed.http.headers["Authorization"] = "Bearer ws-key"
        assert openai.OpenAI(base_url=f"{closed.url}/v1", api_key="ws-key").models.list().data


def test_many_at_once_by_the_asynchronous_client(server: Running) -> None:
    async def ask() -> list[str]:
        async with httpx.AsyncClient(timeout=60) as http:
            client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none",
                                        http_client=http)  # fmt: skip

            async def stream(seed: int) -> str:
                chunks = await client.chat.completions.create(stream=True, seed=seed, **TALK)
                return "".join([c.choices[0].delta.content or "" async for c in chunks])

            return [*await asyncio.gather(*map(stream, range(8)))]

    chat = server.client().chat.completions
    alone = [chat.create(seed=n, **TALK).choices[0].message.content for n in range(8)]
    assert asyncio.run(ask()) == alone


@pytest.mark.parametrize(
    ("path", "body", "form", "params"),
    [
        ("/v1/chat/completions", TALK, ChatRequest,
         chat_create_params.CompletionCreateParamsNonStreaming),
        ("/v1/completions", WORDS, CompletionRequest,
         completion_create_params.CompletionCreateParamsNonStreaming),
        ("/v1/embeddings", {"model": "vectors", "input": "x"}, EmbeddingRequest,
         embedding_create_params.EmbeddingCreateParams),
        ("/v1/responses", {"model": "talk", "input": "x"}, ResponseRequest,
         response_create_params.ResponseCreateParamsNonStreaming),
    ],
)  # fmt: skip
def test_whatever_the_client_may_send_is_honoured_or_named(
    server: Running, path: str, body: dict[str, Any], form: Any, params: Any
) -> None:
    """waybarrios/vllm-mlx #786: fields were taken and ignored. Each field that the client knows and
    the server does not is a 400 with its name."""
    others = {*params.__annotations__} | {*get_type_hints(params)}
    others -= {*form.model_fields} | {"extra_headers", "extra_query", "extra_body", "timeout"}
    assert others or form is EmbeddingRequest
    for name in sorted(others):
        refused = server.post(path, **body, **{name: "something"})
        assert refused.status_code == 400, name
        assert refused.json()["error"]["param"] == name
