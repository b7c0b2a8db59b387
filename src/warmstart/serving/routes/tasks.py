"""The tasks that OpenAI has no path for, answered by encoders."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from warmstart.serving.answering import Answers, answer, check_rows, unit, vectors
from warmstart.serving.errors import DOCUMENTED, invalid
from warmstart.serving.models import ROUTES, Served
from warmstart.serving.routes.fields import Body, Usage, models_of

router = APIRouter(tags=["encoders"], responses=DOCUMENTED)
Row = str | dict[str, str]
TRUNCATE = Field(default=False, description="cut what is too long, and say which rows")


class TextsRequest(Body):
    """Rows to be answered: texts or, of a model with several inputs, objects with each of them
    (`GET /v1/models` says which)."""

    model: str
    input: Row | list[Row]
    truncate: bool = TRUNCATE


class Class(BaseModel):
    """The label of one row, or its labels, and the probability of every label."""

    index: int
    label: str | None
    labels: list[str] | None
    confidence: float
    scores: dict[str, float]


class Span(BaseModel):
    """An entity, or a word with its tag; `start` and `end` count characters."""

    label: str
    text: str
    start: int
    end: int
    score: float


class Tagged(BaseModel):
    """What was marked in one row."""

    index: int
    spans: list[Span]
    confidence: float


class Number(BaseModel):
    """The number of one row."""

    index: int
    value: float


class Listing(BaseModel):
    """What all answers have."""

    object: str = "list"
    model: str
    usage: Usage
    truncated: list[int]


class Classes(Listing):
    """In the order of the rows."""

    data: list[Class]


class Tags(Listing):
    """In the order of the rows."""

    data: list[Tagged]


class Numbers(Listing):
    """In the order of the rows."""

    data: list[Number]


@router.post("/v1/classify")
async def classify(request: Request, body: TextsRequest) -> Classes:
    """The label of each row, or its labels."""
    answers, served = await _answer(request, body, "/v1/classify")
    data = [
        Class(
            index=n,
            label=answer.value if isinstance(answer.value, str) else None,
            labels=None if isinstance(answer.value, str) else answer.value,
            confidence=answer.confidence,
            scores=dict(answer.scores),
        )
        for n, answer in enumerate(answers.predictions)
    ]
    return Classes(data=data, **_shared(answers, served))


@router.post("/v1/tag")
async def tag(request: Request, body: TextsRequest) -> Tags:
    """The entities in each row, or its words with their tags."""
    answers, served = await _answer(request, body, "/v1/tag")
    data = [
        Tagged(
            index=n,
            spans=[
                Span(label=span.get("type", span.get("tag")), text=span["text"],
                     start=span["start"], end=span["end"], score=span["score"])
                for span in answer.value
            ],
            confidence=answer.confidence,
        )
        for n, answer in enumerate(answers.predictions)
    ]  # fmt: skip
    return Tags(data=data, **_shared(answers, served))


@router.post("/v1/score")
async def score(request: Request, body: TextsRequest) -> Numbers:
    """The number of each row: of a regression, or the reward of an answer to a prompt."""
    answers, served = await _answer(request, body, "/v1/score")
    data = [Number(index=n, value=answer.value) for n, answer in enumerate(answers.predictions)]
    return Numbers(data=data, **_shared(answers, served))


class Question(BaseModel):
    """A question on a passage."""

    question: str
    context: str


class AnswerRequest(Body):
    """Questions to be answered by words of a passage."""

    model: str
    input: Question | list[Question]
    truncate: bool = TRUNCATE


class Answer(BaseModel):
    """Words of the passage and where they begin; an empty text says that it does not answer."""

    index: int
    text: str
    start: int | None
    confidence: float


class AnswersBody(Listing):
    """In the order of the questions."""

    data: list[Answer]


@router.post("/v1/answer")
async def answer_questions(request: Request, body: AnswerRequest) -> AnswersBody:
    """The words of each passage that answer its question."""
    served = models_of(request).predictor(body.model, route="/v1/answer", tasks=["extractive_qa"])
    questions = body.input if isinstance(body.input, list) else [body.input]
    rows = [question.model_dump() for question in questions]
    answers = await answer(request, served, rows, truncate=body.truncate)
    data = [
        Answer(index=n, text=row.value, start=getattr(row, "start", None),
               confidence=row.confidence)
        for n, row in enumerate(answers.predictions)
    ]  # fmt: skip
    return AnswersBody(data=data, **_shared(answers, served))


class RerankRequest(Body):
    """Documents to be ordered by how well they go with a query."""

    model: str
    query: str
    documents: Annotated[list[str], Field(min_length=1)]
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool = False
    truncate: bool = TRUNCATE


class Document(BaseModel):
    """A document."""

    text: str


class Ranked(BaseModel):
    """A document's place: its number in the request, and how well it goes with the query."""

    index: int
    relevance_score: float
    document: Document | None


class Ranking(BaseModel):
    """The documents, best first."""

    object: str = "list"
    model: str
    results: list[Ranked]
    usage: Usage
    truncated: list[int]


@router.post("/v1/rerank")
async def rerank(request: Request, body: RerankRequest) -> Ranking:
    """By the cosine of an embedding model, or the number that a model of two texts gives; of one
    that gives labels the probability of its last."""
    served = models_of(request).predictor(body.model, route="/v1/rerank")
    check_rows(models_of(request), body.documents, "documents")
    check_rows(models_of(request), [body.query], "query")
    inputs = served.predictor.task.inputs
    if served.task == "embedding":
        rows: list[Any] = [*body.documents, body.query]
        answers = await answer(request, served, rows, truncate=body.truncate, param="documents")
        values = unit(vectors(answers))
        scores = values[:-1] @ values[-1]
        truncated = [row for row in answers.truncated if row < len(body.documents)]
    elif len(inputs) == 2 and served.task != "extractive_qa":
        rows = [dict(zip(inputs, (body.query, text), strict=True)) for text in body.documents]
        answers = await answer(request, served, rows, truncate=body.truncate, param="documents")
        last = served.predictor.labels[-1:]
        scores = np.array([row.scores[last[0]] if row.scores else row.value
                           for row in answers.predictions])  # fmt: skip
        truncated = answers.truncated
    else:
        raise invalid("model", "gives no measure of how two texts go together")
    order = np.argsort(-scores, kind="stable")[: body.top_n]
    results = [
        Ranked(index=n, relevance_score=float(scores[n]),
               document=Document(text=body.documents[n]) if body.return_documents else None)
        for n in order.tolist()
    ]  # fmt: skip
    return Ranking(model=served.name, results=results, usage=Usage.of(answers.tokens),
                   truncated=truncated)  # fmt: skip


async def _answer(request: Request, body: TextsRequest, route: str) -> tuple[Answers, Served]:
    tasks = [task for task, path in ROUTES.items() if path == route]
    served = models_of(request).predictor(body.model, route=route, tasks=tasks)
    rows = body.input if isinstance(body.input, list) else [body.input]
    inputs = set(served.predictor.task.inputs)
    for number, row in enumerate(rows):
        if (set(row) != inputs) if isinstance(row, dict) else (len(inputs) > 1):
            raise invalid(f"input.{number}", f"has to be an object with {' and '.join(inputs)}")
    return await answer(request, served, rows, truncate=body.truncate), served


def _shared(answers: Answers, served: Served) -> dict[str, Any]:
    return {"model": served.name, "usage": Usage.of(answers.tokens),
            "truncated": answers.truncated}  # fmt: skip
