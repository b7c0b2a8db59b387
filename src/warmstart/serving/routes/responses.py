"""OpenAI's responses, as far as they are texts that are not stored."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from warmstart.serving.errors import DOCUMENTED
from warmstart.serving.generating import (
    EventStream,
    Settings,
    Text,
    add,
    check,
    event_of,
    gather,
    write,
)
from warmstart.serving.models import Served
from warmstart.serving.routes.chat import read_messages
from warmstart.serving.routes.fields import Body, models_of

router = APIRouter(tags=["writers"], responses=DOCUMENTED)


class InputText(Body):
    """A text that is said, or was said by the assistant before."""

    idle: ClassVar[Mapping[str, tuple[Any, ...]]] = {"annotations": ([],), "logprobs": ([],)}
    type: Literal["input_text", "output_text"]
    text: str


class InputMessage(Body):
    """Who says what."""

    idle: ClassVar[Mapping[str, tuple[Any, ...]]] = {"status": ("completed",)}
    type: Literal["message"] = "message"
    id: str | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[InputText], Field(min_length=1)]

    def plain(self) -> Mapping[str, str]:
        """As a chat template reads it."""
        text = self.content
        if not isinstance(text, str):
            text = "".join(part.text for part in text)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class PlainFormat(Body):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(Body):
    """JSON that keeps a schema."""

    type: Literal["json_schema"]
    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextSettings(Body):
    """The form of the answer."""

    idle: ClassVar[Mapping[str, tuple[Any, ...]]] = {"verbosity": ("medium",)}
    format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None


class ResponseRequest(Body):
    """What is to be answered; nothing is kept of it."""

    idle: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "tools": ([],), "tool_choice": ("none", "auto"), "parallel_tool_calls": (True, False),
        "background": (False,), "truncation": ("disabled",), "metadata": ({},), "include": ([],),
        "service_tier": ("auto", "default"), "top_logprobs": (0,),
    }  # fmt: skip
    model: str
    input: str | Annotated[list[InputMessage], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=1.0, ge=0, le=2)
    top_p: float | None = Field(default=1.0, gt=0, le=1)
    text: TextSettings | None = None
    store: Literal[False] | None = None
    stream: bool | None = False
    user: str | None = Field(default=None, description="taken and not used")

    def messages(self) -> list[Mapping[str, str]]:
        """The conversation."""
        head = [{"role": "system", "content": self.instructions}] if self.instructions else []
        if isinstance(self.input, str):
            return [*head, {"role": "user", "content": self.input}]
        return [*head, *(message.plain() for message in self.input)]


class ResponseUsage(BaseModel):
    """Tokens that were read and written."""

    input_tokens: int
    input_tokens_details: dict[str, int] = {"cached_tokens": 0}
    output_tokens: int
    output_tokens_details: dict[str, int] = {"reasoning_tokens": 0}
    total_tokens: int


class ResponseBody(BaseModel):
    """The answer."""

    id: str
    object: str = "response"
    created_at: int
    status: Literal["completed", "incomplete", "in_progress"]
    model: str
    output: list[dict[str, Any]]
    usage: ResponseUsage | None
    incomplete_details: dict[str, str] | None = None
    error: None = None
    instructions: str | None = None
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = False
    tool_choice: str = "none"
    tools: list[dict[str, Any]] = []
    temperature: float
    top_p: float
    max_output_tokens: int | None
    previous_response_id: None = None
    store: bool = False
    text: dict[str, Any]
    truncation: str = "disabled"


@router.post("/v1/responses", response_model=ResponseBody,
             responses={200: {"content": {"text/event-stream": {}}}})  # fmt: skip
async def responses(request: Request, body: ResponseRequest) -> Any:
    """The answer to a text or a conversation."""
    models = models_of(request)
    served = models.writer(body.model, route="/v1/responses", chat=True)
    settings = Settings(
        limit=body.max_output_tokens, limit_param="max_output_tokens",
        temperature=body.temperature, top_p=body.top_p, schema=_schema_of(body.text),
        schema_param="text.format",
    )  # fmt: skip
    check(models, settings)
    prompt = await read_messages(request, served, body.messages())
    answer = _Answer(served.name, body)
    if body.stream:
        return await EventStream.begun(_events(request, served, prompt, settings, answer))
    async with aclosing(write(request, served, prompt, settings)) as pieces:
        (text,) = await gather(pieces, 1)
    return answer.whole(text, len(prompt))


def _schema_of(text: TextSettings | None) -> Mapping[str, Any] | None:
    form = None if text is None else text.format
    if isinstance(form, SchemaFormat):
        return form.schema_
    return {"type": "object"} if form is not None and form.type == "json_object" else None


class _Answer:
    """A response and the message in it, while it is made and when it is done."""

    def __init__(self, model: str, body: ResponseRequest) -> None:
        form = body.text.format if body.text and body.text.format else PlainFormat(type="text")
        self.message_id = f"msg_{uuid.uuid4().hex}"
        self._facts = {
            "id": f"resp_{uuid.uuid4().hex}", "created_at": int(time.time()), "model": model,
            "instructions": body.instructions, "max_output_tokens": body.max_output_tokens,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "text": {"format": form.model_dump(by_alias=True, exclude_none=True)},
        }  # fmt: skip

    def begun(self) -> Mapping[str, Any]:
        """Before anything is written."""
        return ResponseBody(status="in_progress", output=[], usage=None,
                            **self._facts).model_dump()  # fmt: skip

    def part(self, text: str) -> dict[str, Any]:
        """The text as a part of the message."""
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def message(self, status: str, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The message."""
        return {"id": self.message_id, "type": "message", "role": "assistant", "status": status,
                "content": [*parts]}  # fmt: skip

    def whole(self, text: Text, read: int) -> Mapping[str, Any]:
        """When it is written."""
        cut = text.finish_reason == "length"
        status = "incomplete" if cut else "completed"
        usage = ResponseUsage(input_tokens=read, output_tokens=text.tokens,
                              total_tokens=read + text.tokens)  # fmt: skip
        return ResponseBody(
            status=status, output=[self.message(status, [self.part(text.text)])], usage=usage,
            incomplete_details={"reason": "max_output_tokens"} if cut else None, **self._facts,
        ).model_dump()  # fmt: skip


async def _events(
    request: Request, served: Served, prompt: Sequence[int], settings: Settings, answer: _Answer
) -> AsyncGenerator[str]:
    number, text = 0, Text()
    place = {"item_id": answer.message_id, "output_index": 0, "content_index": 0}

    def event(kind: str, **more: Any) -> str:
        nonlocal number
        number += 1
        return event_of({"type": f"response.{kind}", "sequence_number": number - 1, **more},
                        f"response.{kind}")  # fmt: skip

    async with aclosing(write(request, served, prompt, settings)) as pieces:
        async for piece in pieces:
            if not text.pieces:
                yield event("created", response=answer.begun())
                yield event("in_progress", response=answer.begun())
                yield event("output_item.added", output_index=0,
                            item=answer.message("in_progress", []))  # fmt: skip
                yield event("content_part.added", **place, part=answer.part(""))
            add(text, piece)
            if piece.text:
                yield event("output_text.delta", **place, delta=piece.text, logprobs=[])
    whole = answer.whole(text, len(prompt))
    yield event("output_text.done", **place, text=text.text, logprobs=[])
    yield event("content_part.done", **place, part=answer.part(text.text))
    yield event("output_item.done", output_index=0, item=whole["output"][0])
    yield event(str(whole["status"]), response=whole)
