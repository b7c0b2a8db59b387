"""Texts by a hosted model, through the same `Writer` that saved models have.

There are no token ids here: a conversation is known by its number, which stands where the ids of a
prompt do, and the host reads it by its own chat template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from warmstart import part as parts
from warmstart.errors import RecipeError
from warmstart.inference.engine import Engine, Runner
from warmstart.inference.host import Host
from warmstart.inference.openai import OpenAI
from warmstart.inference.predictor import Predictor
from warmstart.inference.replies import Reply
from warmstart.models.sampling import Completion, Finish, Sampling, Token

END = -1
"""What stands for the token that ends a turn."""
UNKNOWN = ("top_k", "min_p", "repetition_penalty", "num_beams", "max_length")
"""Settings for which OpenAI's form has no field."""
Cancelled = Callable[[int], bool]


class Conversations:
    """Stands where a chat template does: what it renders is the number of a conversation."""

    name, end = "own", END

    def __init__(self) -> None:
        self.known: list[Sequence[Mapping[str, Any]]] = []

    def render(self, messages: Sequence[Mapping[str, Any]], **_: Any) -> list[int]:
        """Remember a conversation."""
        self.known.append([{"role": m["role"], "content": m["content"]} for m in messages])
        return [len(self.known) - 1]


class NoTokenizer:
    """Stands where a tokenizer does."""

    def __getattr__(self, name: str) -> Any:
        raise RecipeError(
            "a hosted model reads messages, and its tokens are not known here; leave --raw out"
        )


class WritingRunner(Runner):
    """Writes by asking the host."""

    def __init__(self, host: Host, conversations: Conversations) -> None:
        self.host, self.conversations = host, conversations

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling],
        *,
        on_token: Callable[[Token], None] | None = None,
        cancelled: Cancelled | None = None,
        **_: Any,
    ) -> list[Completion]:
        own = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
        row = 0
        calls: list[Callable[[], Completion]] = []
        for prompt, (ids, settings) in enumerate(zip(prompts, own, strict=True)):
            fields = _fields(settings)
            messages = self.conversations.known[ids[0]]
            for number in range(settings.num_return_sequences):
                seeded = {**fields, "seed": settings.seed + number}
                call = partial(self._text, prompt, row, messages, settings, seeded)
                calls.append(partial(call, on_token, cancelled))
                row += 1
        self.host.announce("the prompts")
        if on_token is not None:  # as they come, one after the other
            return [call() for call in calls]
        return self.host.all(calls)

    def _text(
        self, prompt: int, row: int, messages: Any, sampling: Sampling, fields: Mapping[str, Any],
        on_token: Callable[[Token], None] | None, cancelled: Cancelled | None,
    ) -> Completion:  # fmt: skip
        if on_token is None:
            reply = self.host.ask(messages, sampling.max_new_tokens, logprobs=True, **fields)
        else:
            reply = self._streamed(row, messages, sampling, fields, on_token, cancelled)
        logged = np.array([value for _, value in reply.tokens], np.float32)
        known = reply.finish if reply.finish in ("length", "cancelled") else "stop"
        ids = list(range(reply.written or len(logged)))
        return Completion(prompt, ids, logged, cast("Finish", known), reply.text)

    def _streamed(
        self, row: int, messages: Any, sampling: Sampling, fields: Mapping[str, Any],
        on_token: Callable[[Token], None], cancelled: Cancelled | None,
    ) -> Reply:  # fmt: skip
        texts, finish, written = list[str](), "stop", 0
        chunks = self.host.stream(messages, sampling.max_new_tokens, **fields)
        for chunk in chunks:
            if getattr(chunk, "usage", None):
                written = int(chunk.usage.completion_tokens)
            for choice in chunk.choices[:1]:
                text = choice.delta.content or ""
                finish = choice.finish_reason or finish
                if text:
                    texts.append(text)
                    on_token(Token(row, None, 0.0, text, None))
            if cancelled is not None and cancelled(row):
                finish = "cancelled"
                chunks.close()  # pyright: ignore[reportAttributeAccessIssue]
                break
        known = cast("Finish", finish if finish in ("length", "cancelled") else "stop")
        on_token(Token(row, None, 0.0, "", known))
        return Reply("".join(texts), finish, written=written or len(texts))


class WritingPredictor(Predictor):
    """What a `Writer` asks."""

    def notes(self) -> list[str]:
        runner: Any = self.runner
        return runner.host.summary()


def open_writing(name: str, engine: Engine | None) -> tuple[Predictor, Any]:
    """What a `Writer` of a hosted model asks, and what stands for its chat template.

    Raises `RecipeError` and `RunError`.
    """
    own = engine if isinstance(engine, OpenAI) else OpenAI()
    conversations = Conversations()
    runner = WritingRunner(Host(own, name), conversations)
    task: Any = parts.make("task", "text2text")
    return WritingPredictor(task, NoTokenizer(), [], runner), conversations


def _fields(sampling: Sampling) -> Mapping[str, Any]:
    """Settings as OpenAI calls them. Raises `RecipeError` for one that it does not have."""
    usual = Sampling()
    changed = [name for name in UNKNOWN if getattr(sampling, name) != getattr(usual, name)]
    if changed:
        raise RecipeError(
            f"{changed[0]} is no setting that a hosted model takes; leave it out (it takes "
            "max_new_tokens, temperature, top_p, num_return_sequences, stop and seed)"
        )
    fields: dict[str, Any] = {"temperature": sampling.temperature}
    fields |= {"top_p": sampling.top_p} if sampling.top_p < 1 else {}
    return fields | ({"stop": list(sampling.stop)} if sampling.stop else {})
