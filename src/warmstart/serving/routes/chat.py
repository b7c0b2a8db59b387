"""OpenAI's chat completions: messages → the answer of an assistant."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from warmstart.serving.errors import DOCUMENTED, invalid
from warmstart.serving.generating import (
    DONE,
    EventStream,
    Settings,
    check,
    event_of,
    gather,
    read,
    write,
)
from warmstart.serving.models import Served
from warmstart.serving.routes.completions import Spelling, WritingRequest
from warmstart.serving.routes.fields import Body, FinishReason, Usage, models_of

router = APIRouter(tags=["writers"], responses=DOCUMENTED)


class TextPart(Body):
    """A part of a message; of texts alone."""

    type: Literal["text"]
    text: str


class Message(Body):
    """Who says what."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]

    def plain(self) -> Mapping[str, str]:
        """As a chat template reads it."""
        text = self.content
        if not isinstance(text, str):
            text = "".join(part.text for part in text)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class JsonSchema(Body):
    """A schema that the answer is held to, token by token."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class PlainFormat(Body):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(Body):
    """JSON that keeps a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")]


class ChatRequest(WritingRequest):
    """A conversation to be answered."""

    idle: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "store": (False,), "tools": ([],), "functions": ([],), "tool_choice": ("none", "auto"),
        "function_call": ("none", "auto"), "parallel_tool_calls": (True, False),
        "modalities": (["text"],), "service_tier": ("auto", "default"), "metadata": ({},),
    }  # fmt: skip
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: ResponseFormat | None = None


class TopLogprob(BaseModel):
    """One of the likeliest tokens in a place."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token of the answer."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """The tokens of an answer; their bytes together are its text."""

    content: list[TokenLogprob]


class ChatMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """The answers."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


@router.post("/v1/chat/completions", response_model=ChatCompletion,
             responses={200: {"content": {"text/event-stream": {}}}})  # fmt: skip
async def chat_completions(request: Request, body: ChatRequest) -> Any:
    """The answer to a conversation, by the model's chat template, or a plain one where it has
    none."""
    models = models_of(request)
    served = models.writer(body.model, route="/v1/chat/completions", chat=True)
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("top_logprobs", "goes with logprobs: true only")
    limit, param = body.max_completion_tokens, "max_completion_tokens"
    if limit is None:
        limit, param = body.max_tokens, "max_tokens"
    settings = Settings(limit=limit, limit_param=param, top=body.top_logprobs or 0,
                        schema=schema_of(body.response_format), **body.common())  # fmt: skip
    check(models, settings)
    prompt = await read_messages(request, served, [m.plain() for m in body.messages])
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()),
            "model": served.name, "system_fingerprint": served.key}  # fmt: skip
    logs = Spelling(served) if body.logprobs else None
    if body.stream:
        return await EventStream.begun(_events(request, body, served, prompt, settings, head, logs))
    async with aclosing(write(request, served, prompt, settings)) as pieces:
        texts = await gather(pieces, settings.choices)
    return head | {
        "object": "chat.completion",
        "choices": [
            {"index": n, "message": {"role": "assistant", "content": text.text},
             "finish_reason": text.finish_reason,
             "logprobs": None if logs is None else {"content": logs.content(text.pieces)}}
            for n, text in enumerate(texts)
        ],
        "usage": Usage.of(len(prompt), sum(text.tokens for text in texts)).model_dump(),
    }  # fmt: skip


async def read_messages(
    request: Request, served: Served, messages: Sequence[Mapping[str, str]]
) -> list[int]:
    """The tokens of a conversation, opened for an answer. Raises `ApiError`."""
    writer = served.writer
    assert writer is not None
    return await read(request, served, lambda: writer.encode(messages), "messages")


def schema_of(form: PlainFormat | SchemaFormat | None) -> Mapping[str, Any] | None:
    """The schema of an answer; None for any text. Raises `ApiError`."""
    if form is None or form.type == "text":
        return None
    if isinstance(form, PlainFormat):
        return {"type": "object"}
    if form.json_schema.schema_ is None:
        raise invalid("response_format.json_schema.schema", "is missing")
    return form.json_schema.schema_


async def _events(
    request: Request, body: ChatRequest, served: Served, prompt: Sequence[int],
    settings: Settings, head: Mapping[str, Any], logs: Spelling | None,
) -> AsyncGenerator[str]:  # fmt: skip
    head, written, begun = {**head, "object": "chat.completion.chunk"}, 0, set[int]()

    def chunk(index: int, delta: Mapping[str, str], end: str | None, more: Any = None) -> str:
        choice = {"index": index, "delta": delta, "logprobs": more, "finish_reason": end}
        return event_of({**head, "choices": [choice]})

    async with aclosing(write(request, served, prompt, settings)) as pieces:
        async for piece in pieces:
            written += piece.id is not None
            if piece.choice not in begun:
                begun.add(piece.choice)
                yield chunk(piece.choice, {"role": "assistant", "content": ""}, None)
            more = None if logs is None else {"content": logs.content([piece])}
            if piece.text or (more and more["content"]):
                yield chunk(piece.choice, {"content": piece.text}, None, more)
            if piece.finish_reason:
                yield chunk(piece.choice, {}, piece.finish_reason)
    if body.tells_usage:
        usage = Usage.of(len(prompt), written).model_dump()
        yield event_of({**head, "choices": [], "usage": usage})
    yield DONE
