"""OpenAI's completions: texts, or tokens, that a model goes on with."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from warmstart.serving.errors import DOCUMENTED, invalid
from warmstart.serving.generating import (
    DONE,
    EventStream,
    Piece,
    Settings,
    check,
    event_of,
    gather,
    read,
    write_all,
)
from warmstart.serving.models import Served
from warmstart.serving.routes.fields import (
    Body,
    FinishReason,
    Stop,
    StreamOptions,
    Tokens,
    Usage,
    models_of,
)

router = APIRouter(tags=["writers"], responses=DOCUMENTED)


class WritingRequest(Body):
    """The settings that all routes which write have in common; those of OpenAI, and `top_k`,
    `min_p` and `repetition_penalty` as in `warmstart generate`."""

    model: str
    n: int | None = Field(default=1, ge=1)
    temperature: float | None = Field(default=1.0, ge=0, le=2)
    top_p: float | None = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, lt=2**31)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, ge=0.01, le=100)
    presence_penalty: float | None = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=0.0, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    stop: Stop = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, description="taken and not used")

    def common(self) -> dict[str, Any]:
        """These as `Settings` takes them. Raises `ApiError`."""
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options", "goes with stream: true only")
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return {
            "choices": self.n or 1, "temperature": self.temperature, "top_p": self.top_p,
            "top_k": self.top_k, "min_p": self.min_p, "stop": stop, "seed": self.seed,
            "repetition_penalty": self.repetition_penalty, "logit_bias": self.logit_bias,
            "presence_penalty": self.presence_penalty or 0.0,
            "frequency_penalty": self.frequency_penalty or 0.0,
        }  # fmt: skip

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class CompletionRequest(WritingRequest):
    """Prompts that are given to the model as they are, without a chat template."""

    idle: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "echo": (False,), "best_of": (1,), "suffix": ("",)
    }  # fmt: skip
    prompt: str | list[str] | list[int] | list[Tokens]
    max_tokens: int | None = Field(default=16, ge=1)
    logprobs: int | None = Field(default=None, ge=0, le=20)


class CompletionLogprobs(BaseModel):
    """The tokens of a text, in OpenAI's older form."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One text."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class Completion(BaseModel):
    """The texts: those of the first prompt first."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage


@router.post("/v1/completions", response_model=Completion,
             responses={200: {"content": {"text/event-stream": {}}}})  # fmt: skip
async def completions(request: Request, body: CompletionRequest) -> Any:
    """What a model goes on with behind each prompt."""
    models = models_of(request)
    served = models.writer(body.model, route="/v1/completions")
    settings = Settings(limit=body.max_tokens, top=_top(body.logprobs), **body.common())
    prompts = prompts_of(body.prompt)
    check(models, settings, len(prompts))
    ids = [await read(request, served, _encoder(served, p), f"prompt.{n}" if len(prompts) > 1
                      else "prompt") for n, p in enumerate(prompts)]  # fmt: skip
    head = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion",
            "created": int(time.time()), "model": served.name,
            "system_fingerprint": served.key}  # fmt: skip
    logs = None if body.logprobs is None else Spelling(served)
    if body.stream:
        return await EventStream.begun(_events(request, body, served, ids, settings, head, logs))
    async with aclosing(write_all(request, served, ids, settings)) as pieces:
        texts = await gather(pieces, len(ids) * settings.choices)
    usage = Usage.of(sum(map(len, ids)), sum(text.tokens for text in texts))
    return head | {
        "choices": [
            {"index": n, "text": text.text, "finish_reason": text.finish_reason,
             "logprobs": None if logs is None else logs.listed(text.pieces, body.logprobs, 0)}
            for n, text in enumerate(texts)
        ],
        "usage": usage.model_dump(),
    }  # fmt: skip


def prompts_of(prompt: str | list[Any]) -> list[Any]:
    """Each a text, or a list of tokens. Raises `ApiError` where there is none."""
    if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)):
        return [prompt]
    if not prompt:
        raise invalid("prompt", "is empty; write something")
    return prompt


def _top(logprobs: int | None) -> int:
    return logprobs or 0


def _encoder(served: Served, prompt: str | Sequence[int]) -> Any:
    writer = served.writer
    assert writer is not None
    if isinstance(prompt, str):
        return lambda: writer.encode(prompt, raw=True)
    size = len(writer.tokenizer)
    if not all(0 <= token < size for token in prompt):
        raise invalid("prompt", f"has a token that is none of 0 to {size - 1:,}")
    return lambda: list(prompt)


async def _events(
    request: Request, body: CompletionRequest, served: Served, prompts: Sequence[Sequence[int]],
    settings: Settings, head: Mapping[str, Any], logs: Spelling | None,
) -> AsyncGenerator[str]:  # fmt: skip
    written, offsets = 0, [0] * (len(prompts) * settings.choices)
    async with aclosing(write_all(request, served, prompts, settings)) as pieces:
        async for piece in pieces:
            written += piece.id is not None
            listed = None
            if logs is not None:
                listed = logs.listed([piece], body.logprobs, offsets[piece.choice])
            elif not (piece.text or piece.finish_reason):
                continue
            offsets[piece.choice] += len(piece.text)
            choice = {"index": piece.choice, "text": piece.text,
                      "finish_reason": piece.finish_reason, "logprobs": listed}  # fmt: skip
            yield event_of({**head, "choices": [choice]})
    if body.tells_usage:
        usage = Usage.of(sum(map(len, prompts)), written)
        yield event_of({**head, "choices": [], "usage": usage.model_dump()})
    yield DONE


class Spelling:
    """How the tokens of a model are told in log-probabilities.

    A token is told as the text that it made visible, so that all of them together are the text; one
    that ends a text without being seen is left out.
    """

    def __init__(self, served: Served) -> None:
        self._tokenizer = served.predictor.tokenizer

    def of(self, token: int) -> str:
        """A token by itself."""
        return self._tokenizer.decode([token], clean_up_tokenization_spaces=False)

    def seen(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The tokens of a text."""
        special = {*self._tokenizer.all_special_ids}
        return [piece for piece in pieces if piece.id is not None and
                (piece.text or piece.id not in special)]  # fmt: skip

    def listed(
        self, pieces: Sequence[Piece], top: int | None, offset: int
    ) -> Mapping[str, list[Any]]:
        """In the form of completions; `text_offset` counts characters from the text's beginning."""
        seen, offsets = self.seen(pieces), list[int]()
        for piece in seen:
            offsets.append(offset)
            offset += len(piece.text)
        return {
            "tokens": [piece.text for piece in seen],
            "token_logprobs": [piece.log_prob for piece in seen],
            "top_logprobs": [
                {self.of(token): value for token, value in piece.top} for piece in seen
            ] if top else [],
            "text_offset": offsets,
        }  # fmt: skip

    def content(self, pieces: Sequence[Piece]) -> list[Mapping[str, Any]]:
        """In the form of chat."""
        return [
            {"token": piece.text, "logprob": piece.log_prob, "bytes": [*piece.text.encode()],
             "top_logprobs": [
                 {"token": (word := self.of(token)), "logprob": value, "bytes": [*word.encode()]}
                 for token, value in piece.top]}
            for piece in self.seen(pieces)
        ]  # fmt: skip
