"""OpenAI's embeddings: texts, or their tokens → vectors."""

from __future__ import annotations

import base64
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from warmstart.serving.answering import answer, unit, vectors
from warmstart.serving.errors import DOCUMENTED, unsupported
from warmstart.serving.routes.fields import Body, Tokens, Usage, models_of

router = APIRouter(responses=DOCUMENTED)


class EmbeddingRequest(Body):
    """Texts whose vectors are asked for; an empty one is refused."""

    model: str
    input: str | list[str] | list[int] | list[Tokens]
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = Field(default=None, ge=1)
    truncate: bool = Field(default=False, description="cut what is too long, and say which")
    user: str | None = Field(default=None, description="taken and not used")


class Embedding(BaseModel):
    """The vector of one text; base64 is that of float32, little-endian."""

    object: str = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingResponse(BaseModel):
    """The vectors, in the order of the texts."""

    object: str = "list"
    model: str
    data: list[Embedding]
    usage: Usage
    truncated: list[int]


@router.post("/v1/embeddings", tags=["encoders"])
async def embeddings(request: Request, body: EmbeddingRequest) -> EmbeddingResponse:
    """The vector of each text, of length 1."""
    served = models_of(request).predictor(body.model, route="/v1/embeddings", tasks=["embedding"])
    rows: list[Any] = [body.input] if isinstance(body.input, str) else [*body.input]
    if rows and isinstance(rows[0], int):
        rows = [rows]
    answers = await answer(request, served, rows, truncate=body.truncate)
    values = unit(vectors(answers))
    if body.dimensions not in (None, values.shape[1]):
        raise unsupported("dimensions", f"cannot be {body.dimensions}: this model gives vectors of "
                          f"{values.shape[1]} numbers")  # fmt: skip
    data = [
        Embedding(
            index=n,
            embedding=base64.b64encode(row.astype("<f4").tobytes()).decode()
            if body.encoding_format == "base64" else row.tolist(),
        )
        for n, row in enumerate(values)
    ]  # fmt: skip
    return EmbeddingResponse(model=served.name, data=data, usage=Usage.of(answers.tokens),
                             truncated=answers.truncated)  # fmt: skip
