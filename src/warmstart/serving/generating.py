"""A prompt of a request → its texts as they are written, for every route that writes."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from warmstart.errors import WarmstartError
from warmstart.models.sampling import Sampling
from warmstart.serving.errors import (
    ApiError,
    failed,
    invalid,
    log_failure,
    too_long,
    unsupported,
)
from warmstart.serving.logits import Shaper
from warmstart.serving.models import Models, Served
from warmstart.serving.tickets import Ticket, in_thread, watched
from warmstart.serving.writing import Job, Pieces, Written, shapes

READING = ThreadPoolExecutor(4, thread_name_prefix="reading")
"""Where prompts become tokens."""
COLDEST = 1e-4
"""Logits divided by less leave the range of numbers; the likeliest token is taken then."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the texts of a request are written: what all routes have in common.

    Args:
        limit: tokens that each may have; None: as many as the model and the server allow.
        schema: that the text must keep, and the field that it stands in.
        top: how many of the likeliest tokens are told in each place.
    """

    limit: int | None
    limit_param: str = "max_tokens"
    choices: int = 1
    temperature: float | None = None
    top_p: float | None = None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[str, float] | None = None
    stop: Sequence[str] = ()
    seed: int | None = None
    schema: Mapping[str, Any] | None = None
    schema_param: str = "response_format"
    top: int = 0


@dataclass
class Text:
    """One of the texts, as far as it was written."""

    text: str = ""
    tokens: int = 0
    finish_reason: str | None = None
    pieces: list[Piece] = field(default_factory=list["Piece"])


@dataclass(frozen=True, slots=True)
class Piece:
    """A token of a text: its id, log-probability, what can be shown now, and the likeliest."""

    choice: int
    id: int | None
    text: str
    log_prob: float
    finish_reason: str | None
    top: Sequence[tuple[int, float]]


def check(models: Models, settings: Settings, prompts: int = 1) -> None:
    """Raise `ApiError` for more than the server allows."""
    allowed = models.settings
    if settings.limit is not None and settings.limit > allowed.max_new_tokens:
        raise invalid(settings.limit_param, f"is {settings.limit:,}; this server writes at most "
                      f"{allowed.max_new_tokens:,} tokens")  # fmt: skip
    if settings.choices > allowed.max_choices:
        raise invalid("n", f"is {settings.choices}; this server gives at most "
                      f"{allowed.max_choices} answers to a prompt")  # fmt: skip
    if "" in settings.stop:
        raise invalid("stop", "holds an empty text, at which every answer would end")
    if prompts * settings.choices > allowed.batch_rows:
        raise invalid("prompt", f"asks for {prompts * settings.choices} texts at once; at most "
                      f"{allowed.batch_rows} go")  # fmt: skip


async def read(
    request: Request, served: Served, encode: Callable[[], list[int]], param: str
) -> list[int]:
    """The tokens of a prompt, made in a thread. Raises `ApiError` for one that is too long for the
    model, or that it cannot read."""
    models: Models = request.app.state.models
    ticket = Ticket(models.settings.queue_seconds, models.settings.queue_seconds)

    def locked() -> list[int]:
        with served.reading:
            return encode()

    try:
        ids = await in_thread(READING, ticket, locked)
    except WarmstartError as error:
        log_failure(error, "reading a prompt")
        raise invalid(param, "cannot be read by this model: its chat template refuses such "
                      "messages, or it is no text that it knows") from None  # fmt: skip
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        log_failure(error, "reading a prompt")
        raise invalid(param, "cannot be read by this model") from None
    if not ids:
        raise invalid(param, "is empty; write something")
    assert served.writer is not None
    room = served.positions - 1 if served.writer.decodes else served.positions
    if len(ids) > room:
        raise too_long(param, len(ids), room)
    if len(ids) > models.settings.max_request_tokens:
        raise too_long(param, len(ids), models.settings.max_request_tokens)
    return ids


async def write(
    request: Request, served: Served, prompt: Sequence[int], settings: Settings
) -> AsyncGenerator[Piece]:
    """The tokens of the texts behind a prompt as they are written, each text's in their order, the
    last of each with its `finish_reason`. Raises `ApiError`. What is left when nobody reads on is
    not written."""
    models: Models = request.app.state.models
    ticket = Ticket(models.settings.queue_seconds, models.settings.run_seconds)
    began, first = time.perf_counter(), True
    async with AsyncExitStack() as stack:
        stack.enter_context(served.gate.enter())
        stack.callback(ticket.cancel)
        await stack.enter_async_context(watched(request, ticket))
        sampling = _sampling(models, served, prompt, settings)
        shaper = await in_thread(READING, ticket, _shaper, served, settings, sampling)
        pieces = Pieces(ticket)
        assert served.loop is not None
        served.loop.submit(Job(prompt, sampling, ticket, pieces, shaper))
        left = sampling.num_return_sequences
        async with aclosing(pieces.read()) as written:
            async for item in written:
                if first:
                    models.metrics.first_seconds.labels(served.name).observe(
                        time.perf_counter() - began
                    )
                    first = False
                yield _piece(item, ticket)
                left -= item.token.finish_reason is not None
                if not left:
                    return


async def write_all(
    request: Request, served: Served, prompts: Sequence[Sequence[int]], settings: Settings
) -> AsyncGenerator[Piece]:
    """As `write`, for several prompts at once: the texts of the first are numbered first."""
    arrived: asyncio.Queue[Piece | None] = asyncio.Queue()

    async def forward(number: int, prompt: Sequence[int]) -> None:
        async with aclosing(write(request, served, prompt, settings)) as pieces:
            async for piece in pieces:
                arrived.put_nowait(replace(piece, choice=number * settings.choices + piece.choice))

    tasks = [asyncio.create_task(forward(n, prompt)) for n, prompt in enumerate(prompts)]
    for task in tasks:
        task.add_done_callback(lambda task: arrived.put_nowait(None))
    left = len(tasks)
    try:
        while left:
            piece = await arrived.get()
            if piece is None:
                left -= 1
                for task in tasks:
                    if task.done():
                        task.result()
            else:
                yield piece
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def gather(pieces: AsyncIterator[Piece], choices: int) -> list[Text]:
    """All texts, whole."""
    texts = [Text() for _ in range(choices)]
    async for piece in pieces:
        add(texts[piece.choice], piece)
    return texts


def add(text: Text, piece: Piece) -> None:
    """Put a piece behind a text."""
    text.text += piece.text
    text.tokens += piece.id is not None
    text.finish_reason = piece.finish_reason or text.finish_reason
    text.pieces.append(piece)


def _piece(item: Written, ticket: Ticket) -> Piece:
    token = item.token
    if token.finish_reason == "cancelled":
        raise ticket.reason() if ticket.is_over else failed()
    return Piece(item.choice, token.id, token.text, token.log_prob, token.finish_reason, item.top)


def _sampling(
    models: Models, served: Served, prompt: Sequence[int], settings: Settings
) -> Sampling:
    """The settings of the loop."""
    room = models.settings.max_new_tokens
    if served.writer is not None and served.writer.decodes:
        room = min(room, served.positions - len(prompt))
    temperature = 1.0 if settings.temperature is None else settings.temperature
    temperature = temperature if temperature >= COLDEST else 0.0
    several = settings.choices > 1 and temperature == 0  # the likeliest, as often as it is wanted
    seed = secrets.randbits(32) if settings.seed is None else settings.seed % 2**32
    try:
        return Sampling(
            max_new_tokens=min(settings.limit or room, room),
            temperature=1.0 if several else temperature,
            top_k=1 if several else settings.top_k,
            top_p=1.0 if settings.top_p is None else settings.top_p,
            min_p=settings.min_p,
            repetition_penalty=settings.repetition_penalty,
            num_return_sequences=settings.choices,
            stop=tuple(settings.stop),
            seed=seed,
        )
    except ValueError as error:
        log_failure(error, "the settings of a request")
        raise invalid("temperature", "and the settings beside it do not go together") from None


def _shaper(served: Served, settings: Settings, sampling: Sampling) -> Shaper | None:
    assert served.writer is not None
    bias = _bias(served, settings.logit_bias or {})
    grammar: Sequence[Any] = ()
    if settings.schema is not None:
        grammar = served.grammars.matchers(
            settings.schema, sampling.num_return_sequences, settings.schema_param
        )
    penalties = settings.presence_penalty, settings.frequency_penalty
    if not (grammar or bias or settings.top or any(penalties)):
        return None
    if not shapes(served.writer):
        param = settings.schema_param if grammar else "logit_bias" if bias else "logprobs"
        param = param if grammar or bias or settings.top else "presence_penalty"
        raise unsupported(
            param, "is honoured by engine torch alone; serve with it, or leave it out"
        )
    return Shaper(grammar, *penalties, bias, settings.top, sampling.temperature or 1.0)


def _bias(served: Served, table: Mapping[str, float]) -> dict[int, float]:
    size = len(served.predictor.tokenizer)
    for key, value in table.items():
        if not (key.isascii() and key.isdecimal() and int(key) < size) or not -100 <= value <= 100:
            raise invalid("logit_bias", f"takes tokens 0 to {size - 1:,}, each with -100 to 100")
    return {int(key): value for key, value in table.items()}


class EventStream(Response):
    """Server-sent events; an error after the first is an event, and the stream ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    @classmethod
    async def begun(cls, events: AsyncGenerator[str]) -> EventStream:
        """With its first event at hand: what fails before it is an answer with a status."""
        first = await anext(events)

        async def all_of_them() -> AsyncGenerator[str]:
            async with aclosing(events):
                yield first
                async for event in events:
                    yield event

        return cls(all_of_them())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code,
                    "headers": self.raw_headers})  # fmt: skip
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    await send(_part(event))
        except ApiError as error:
            if error.status != 499:
                await send(_part(event_of(error.body())))
        except Exception as error:  # noqa: BLE001 - the last who hears of it
            log_failure(error, "a stream")
            await send(_part(event_of(failed().body())))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def event_of(value: Any, name: str | None = None) -> str:
    """A server-sent event with JSON."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"


DONE = "data: [DONE]\n\n"


def _part(event: str) -> dict[str, Any]:
    return {"type": "http.response.body", "body": event.encode(), "more_body": True}
