"""Several answers, seeds and log-probabilities."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from served import HELLO, Running

TALK: dict[str, Any] = {"model": "talk", "messages": HELLO, "max_tokens": 12}


def test_several_answers_of_one_seed_differ_and_come_again(server: Running) -> None:
    """vllm-project/vllm #11898, #10852."""
    client = server.client()
    first = client.chat.completions.create(n=4, seed=7, **TALK)
    texts = [choice.message.content for choice in first.choices]
    assert len({*texts}) == 4
    again = client.chat.completions.create(n=4, seed=7, **TALK)
    assert [choice.message.content for choice in again.choices] == texts
    parts, ends = [""] * 4, dict[int, list[str]]()
    for chunk in client.chat.completions.create(n=4, seed=7, stream=True, **TALK):
        choice = chunk.choices[0]
        parts[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            ends.setdefault(choice.index, []).append(choice.finish_reason)
    assert parts == texts
    assert {index: len(reasons) for index, reasons in ends.items()} == dict.fromkeys(range(4), 1)


def test_as_many_answers_as_were_asked_for(server: Running) -> None:
    """vllm-project/vllm #52398, #52399: under load, 200 times."""

    def ask(number: int) -> int:
        body = {"model": "words", "prompt": "the film", "n": 1 + number % 4, "max_tokens": 3}
        if number % 3 == 0:
            body["temperature"] = 0
        choices = server.post("/v1/completions", **body).json()["choices"]
        assert [choice["index"] for choice in choices] == [*range(len(choices))]
        return len(choices)

    with ThreadPoolExecutor(16) as pool:
        assert [*pool.map(ask, range(200))] == [1 + number % 4 for number in range(200)]


def test_a_seed_holds_beside_others_that_have_none(server: Running) -> None:
    """vllm-project/vllm #51226."""
    client = server.client()

    def ask(seed: int | None) -> str:
        how: dict[str, Any] = {} if seed is None else {"seed": seed}
        return client.chat.completions.create(**TALK, **how).choices[0].message.content or ""

    alone = ask(11)
    with ThreadPoolExecutor(9) as pool:
        beside = [*pool.map(ask, [None] * 4 + [11] + [None] * 4)]
    assert beside[4] == alone == ask(11)
    assert len({*beside}) > 5


def test_log_probabilities_of_chat(server: Running) -> None:
    """vllm-project/vllm #3179, #5008, #4795; abetlen/llama-cpp-python #1787."""
    client = server.client()
    how: dict[str, Any] = {**TALK, "seed": 2, "logprobs": True}
    choice = client.chat.completions.create(top_logprobs=3, **how).choices[0]
    assert choice.logprobs is not None and choice.logprobs.content is not None
    content = choice.logprobs.content
    assert bytes(b for token in content for b in token.bytes or []).decode() == (
        choice.message.content
    )
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob >= token.logprob - 1e-4
        assert token.logprob <= 0
    plain = client.chat.completions.create(**how).choices[0].logprobs
    assert plain is not None and plain.content is not None
    assert all(token.top_logprobs == [] for token in plain.content)
    assert client.chat.completions.create(**{**how, "logprobs": False}).choices[0].logprobs is None
    streamed = [
        token
        for chunk in client.chat.completions.create(stream=True, top_logprobs=3, **how)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content or []
    ]
    assert [token.logprob for token in streamed] == [token.logprob for token in content]


def test_log_probabilities_of_completions(server: Running) -> None:
    """vllm-project/vllm #3179: the older form has its own shape."""
    how: dict[str, Any] = {
        "model": "words",
        "prompt": "the film",
        "max_tokens": 8,
        "temperature": 0,
    }
    choice = server.client().completions.create(logprobs=2, **how).choices[0]
    logs = choice.logprobs
    assert logs is not None and logs.tokens and logs.text_offset is not None
    assert "".join(logs.tokens) == choice.text
    assert [
        choice.text[place:].startswith(token)
        for place, token in zip(logs.text_offset, logs.tokens, strict=True)
    ] == [True] * len(logs.tokens)
    assert logs.top_logprobs is not None and logs.token_logprobs is not None
    for top, value in zip(logs.top_logprobs, logs.token_logprobs, strict=True):
        assert value == pytest.approx(max(top.values()), abs=1e-4)
    assert (
        not server.client().completions.create(logprobs=0, **how).choices[0].logprobs.top_logprobs
    )  # pyright: ignore[reportOptionalMemberAccess]


def test_a_bias_and_penalties_are_honoured(server: Running) -> None:
    """waybarrios/vllm-mlx #786: a field that is taken has to do something."""
    client = server.client()
    how: dict[str, Any] = {
        "model": "words",
        "prompt": "the film",
        "max_tokens": 8,
        "temperature": 0,
    }
    plain = client.completions.create(**how).choices[0].text
    tokenizer = server.models.named("words").writer.tokenizer
    token = tokenizer.convert_tokens_to_ids("green")
    biased = client.completions.create(logit_bias={str(token): 100}, **how).choices[0].text
    assert biased.split() == ["green"] * 8
    assert len({*plain.split()}) < 8
    varied = client.completions.create(presence_penalty=2, frequency_penalty=2, **how)
    assert len({*varied.choices[0].text.split()}) > len({*plain.split()})
    banned = tokenizer.convert_tokens_to_ids(plain.split()[0])
    without = client.completions.create(logit_bias={str(banned): -100}, **how).choices[0].text
    assert plain.split()[0] not in without.split()
