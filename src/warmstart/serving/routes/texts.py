"""Texts that a model makes of texts, and texts that are found: summaries, translations, search."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from warmstart.serving.answering import POOL, check_rows
from warmstart.serving.errors import CUTS, DOCUMENTED, too_long
from warmstart.serving.generating import Settings, check, gather, read, write_all
from warmstart.serving.routes.fields import Body, FinishReason, Usage, models_of
from warmstart.serving.tickets import Ticket, in_thread

router = APIRouter(responses=DOCUMENTED)


class SourcesRequest(Body):
    """Texts to be summarised or translated; by the likeliest words unless a temperature is
    given."""

    model: str
    input: str | Annotated[list[str], Field(min_length=1)]
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    truncate: bool = Field(default=False, description="cut what is too long, and say which texts")


class Made(BaseModel):
    """What became of one text."""

    index: int
    text: str
    finish_reason: FinishReason


class MadeList(BaseModel):
    """In the order of the texts."""

    object: str = "list"
    model: str
    data: list[Made]
    usage: Usage
    truncated: list[int]


@router.post("/v1/summarize", tags=["writers"])
async def summarize(request: Request, body: SourcesRequest) -> MadeList:
    """A summary of each text, as the model was trained to write it."""
    return await _made(request, body, "/v1/summarize")


@router.post("/v1/translate", tags=["writers"])
async def translate(request: Request, body: SourcesRequest) -> MadeList:
    """A translation of each text, in the language that the model was trained for."""
    return await _made(request, body, "/v1/translate")


async def _made(request: Request, body: SourcesRequest, route: str) -> MadeList:
    models = models_of(request)
    served = models.writer(body.model, route=route)
    writer = served.writer
    assert writer is not None
    truncated: list[int] = []

    def ids_of(number: int, text: str) -> list[int]:
        lost: list[int] = []
        ids = writer.encode(text, on_cut=lost.append)
        if lost and not body.truncate:
            raise too_long(f"input.{number}", len(ids) + sum(lost), len(ids), CUTS)
        truncated.extend([number] if lost else [])
        return ids

    texts = [body.input] if isinstance(body.input, str) else body.input
    settings = Settings(limit=body.max_tokens, temperature=body.temperature, seed=body.seed)
    check(models, settings, len(texts))
    check_rows(models, texts, "input")
    prompts = [
        await read(request, served, partial(ids_of, n, text), f"input.{n}")
        for n, text in enumerate(texts)
    ]
    async with aclosing(write_all(request, served, prompts, settings)) as pieces:
        written = await gather(pieces, len(prompts))
    data: list[Any] = [
        {"index": n, "text": text.text.strip(), "finish_reason": text.finish_reason}
        for n, text in enumerate(written)
    ]
    usage = Usage.of(sum(map(len, prompts)), sum(text.tokens for text in written))
    return MadeList(model=served.name, data=[Made(**row) for row in data], usage=usage,
                    truncated=truncated)  # fmt: skip


class SearchRequest(Body):
    """A question to an index of texts."""

    index: str
    query: Annotated[str, Field(min_length=1)]
    top: int = Field(default=10, ge=1, le=1000)


class Hit(BaseModel):
    """A text, its cosine with the query, and where it stood."""

    text: str
    similarity: float
    file: str
    line: int


class Hits(BaseModel):
    """The nearest texts, best first."""

    object: str = "list"
    data: list[Hit]


@router.post("/v1/search", tags=["encoders"])
async def search(request: Request, body: SearchRequest) -> Hits:
    """The texts of an index that are nearest in meaning."""
    models = models_of(request)
    ticket = Ticket(models.settings.queue_seconds, models.settings.run_seconds)
    hits = await in_thread(POOL, ticket, models.search, body.index, body.query, body.top)
    return Hits(data=[Hit(text=hit.text, similarity=hit.similarity, file=hit.file, line=hit.line)
                      for hit in hits])  # fmt: skip
