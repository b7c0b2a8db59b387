"""What is streamed is what is answered whole: usage, errors, stop texts, whole characters."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from served import HELLO, Running, slowed
from warmstart.models.sampling.completion import Text

TALK: dict[str, Any] = {"model": "talk", "messages": HELLO, "max_tokens": 24, "seed": 3}


def events(server: Running, path: str = "/v1/chat/completions", **body: Any) -> list[Any]:
    """The data of each event as it came over the wire; `[DONE]` as a text."""
    lines = server.post(path, stream=True, **body).text.split("\n\n")
    texts = [line.removeprefix("data: ") for line in lines if line]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def test_usage_comes_once_and_last(server: Running) -> None:
    """vllm-project/vllm #6083, #7299, #6371."""
    chunks = events(server, stream_options={"include_usage": True}, **TALK)
    assert chunks[-1] == "[DONE]"
    with_usage = [chunk for chunk in chunks[:-1] if "usage" in chunk]
    assert with_usage == [chunks[-2]]
    assert chunks[-2]["choices"] == []
    usage = chunks[-2]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage == server.post("/v1/chat/completions", **TALK).json()["usage"]


@pytest.mark.parametrize("options", [{}, {"include_usage": False}, None])
def test_no_usage_unless_it_was_asked_for(server: Running, options: Any) -> None:
    """vllm-project/vllm #7262, #36379."""
    chunks = events(server, **TALK, **({} if options is None else {"stream_options": options}))
    assert not any("usage" in chunk for chunk in chunks[:-1])


def test_a_naive_client_reads_the_last_chunk_too(server: Running) -> None:
    """BerriAI/litellm #25389, #25410."""
    whole = server.client().chat.completions.create(**TALK).choices[0].message.content
    chunks = events(server, stream_options={"include_usage": True}, **TALK)
    naive = [chunk["choices"][0] for chunk in chunks[:-1] if chunk["choices"]]
    assert "".join(choice["delta"].get("content", "") for choice in naive) == whole
    stream = server.client().chat.completions.create(
        stream=True, stream_options={"include_usage": True}, **TALK
    )
    parts = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(parts) == whole


def test_a_stop_text_is_never_seen(server: Running) -> None:
    """vllm-project/vllm #45636, #44620: stop texts over several tokens, inside a character, and
    one that begins another."""
    how: dict[str, Any] = {"model": "words", "prompt": "the film", "max_tokens": 12, "seed": 5}
    client = server.client()
    text = client.completions.create(**how).choices[0].text
    assert len(text.split()) > 4
    two, three = text[3:9], text[3:16]
    for stop in (two, three, [three, two], [two, text[3:5]], text[4:5]):
        whole = client.completions.create(stop=stop, **how).choices[0]
        first = min(text.find(word) for word in ([stop] if isinstance(stop, str) else stop))
        assert whole.text == text[:first]
        assert whole.finish_reason == "stop"
        stream = client.completions.create(stop=stop, stream=True, **how)
        assert "".join(chunk.choices[0].text for chunk in stream) == whole.text


def test_a_stop_text_inside_a_character(server: Running) -> None:
    """vllm-project/vllm #45636: of a tokenizer of bytes every character has several tokens."""
    tokenizer = server.models.named("talk").writer.tokenizer
    ids = tokenizer("a😀bčc", add_special_tokens=False)["input_ids"]
    for stop in ("😀", "č", "b"):
        text = Text(tokenizer, [], (stop,))
        parts = [text.add(token) for token in ids]
        assert "".join([*parts, text.end()]) == "a😀bčc".partition(stop)[0]


@settings(max_examples=60, deadline=None)
@given(words=st.text(st.sampled_from("a é😀字Č\n👩‍👩‍👧"), max_size=20))
def test_only_whole_characters_are_streamed(server: Running, words: str) -> None:
    """waybarrios/vllm-mlx #109, abetlen/llama-cpp-python #372, Blaizzy/mlx-vlm #1771."""
    tokenizer = server.models.named("talk").writer.tokenizer
    text = Text(tokenizer, [], ())
    parts = [text.add(token) for token in tokenizer(words, add_special_tokens=False)["input_ids"]]
    parts.append(text.end())
    assert "".join(parts) == words
    assert "\ufffd" not in "".join(parts)


@pytest.mark.parametrize("bad", [{"n": 0}, {"max_tokens": -1}, {"temperature": float(3)}])
def test_what_is_wrong_is_said_before_the_first_byte(server: Running, bad: Any) -> None:
    """EricLBuehler/mistral.rs #1874."""
    refused = server.post("/v1/chat/completions", stream=True, **{**TALK, **bad})
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/json"


def test_a_failure_in_the_middle_is_an_event_and_the_end(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """huggingface/transformers #38443; EricLBuehler/mistral.rs #1874."""
    loop = server.models.named("talk").loop
    whole = loop._writer

    class Breaking:
        def write(self, prompts: Any, sampling: Any, **how: Any) -> Any:
            tell, count = how.pop("on_token"), [0]

            def some(token: Any) -> None:
                count[0] += 1
                if count[0] > 5:
                    raise RuntimeError("the secret of the machine")
                tell(token)

            return whole.write(prompts, sampling, on_token=some, **how)

    monkeypatch.setattr(loop, "_writer", Breaking())
    url, lines = f"{server.url}/v1/chat/completions", list[tuple[float, str]]()
    with server.http.stream("POST", url, json={**TALK, "stream": True}) as answer:
        lines += [(time.monotonic(), line) for line in answer.iter_lines() if line]
    assert time.monotonic() - lines[-1][0] < 1
    chunks = [json.loads(line.removeprefix("data: ")) for _, line in lines]
    assert chunks[-1]["error"]["type"] == "server_error"
    assert "secret" not in json.dumps(chunks)
    with pytest.raises(openai.APIError):
        for _ in server.client().chat.completions.create(stream=True, **TALK):
            pass
    monkeypatch.undo()
    assert server.client().chat.completions.create(**TALK).choices[0].finish_reason


def test_32_streams_at_once_are_each_their_own(server: Running) -> None:
    """huggingface/transformers #40479."""
    client = server.client()

    def ask(number: int, stream: bool) -> str:
        how: dict[str, Any] = {"model": "words", "prompt": f"the {number % 7} film was good",
                               "max_tokens": 4 + number % 9, "temperature": 0}  # fmt: skip
        if not stream:
            return client.completions.create(**how).choices[0].text
        chunks = client.completions.create(stream=True, **how)
        return "".join(chunk.choices[0].text for chunk in chunks)

    alone = [ask(number, False) for number in range(32)]
    with ThreadPoolExecutor(32) as pool:
        assert [*pool.map(ask, range(32), [True] * 32)] == alone


def test_the_first_token_comes_before_the_last_is_written(server: Running) -> None:
    """A stream is no answer in one piece."""
    seen: list[float] = []
    with slowed(server.models, "talk", 0.02), httpx.Client() as client:
        body = {**TALK, "stream": True}
        with client.stream("POST", f"{server.url}/v1/chat/completions", json=body) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    seen.append(time.monotonic())
    assert seen[-1] - seen[0] > 0.2
    assert threading.active_count() < 300
