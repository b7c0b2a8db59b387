"""Rows of a request → answers of an encoder: read in a thread, computed among others, decoded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import Request

from warmstart.data.tokens.dataset import TokenizedDataset, store_of
from warmstart.errors import WarmstartError
from warmstart.formatting import counted
from warmstart.inference.predictor import Predictor
from warmstart.serving.errors import CUTS, ApiError, failed, invalid, log_failure, too_long
from warmstart.serving.models import Models, Served
from warmstart.serving.tickets import Ticket, in_thread, watched
from warmstart.tasks.base import Examples
from warmstart.types import Prediction

POOL = ThreadPoolExecutor(64, thread_name_prefix="answers")
"""As many requests wait for the batcher at once; the others wait for a thread."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one request.

    Args:
        tokens: that the model read.
        truncated: the numbers of the rows that were cut, in order.
    """

    predictions: list[Prediction]
    tokens: int
    truncated: list[int]


async def answer(
    request: Request, served: Served, rows: Sequence[Any], *, truncate: bool, param: str = "input"
) -> Answers:
    """The answers to rows, as `Predictor.predict` takes them, in order.

    Raises `ApiError`: for too many, for one that is empty or too long (unless it may be cut), where
    the queue is full, and where it is too late.
    """
    models: Models = request.app.state.models
    check_rows(models, rows, param)
    ticket = Ticket(models.settings.queue_seconds, models.settings.run_seconds)
    async with AsyncExitStack() as stack:
        stack.enter_context(served.gate.enter())
        await stack.enter_async_context(watched(request, ticket))
        try:
            return await in_thread(POOL, ticket, _answers, models, served, ticket, rows, truncate,
                                   param)  # fmt: skip
        finally:
            if ticket.cancelled:
                models.metrics.cancelled.labels(served.name).inc()


def check_rows(models: Models, rows: Sequence[Any], param: str) -> None:
    """Raise `ApiError` for no rows, too many, and empty texts."""
    limit = models.settings.max_inputs
    if not 0 < len(rows) <= limit:
        raise invalid(param, f"has {counted(len(rows), 'text')}; send 1 to {limit:,}")
    for number, row in enumerate(rows):
        texts = row.values() if isinstance(row, dict) else [row]
        if any(isinstance(text, str) and not text.strip() for text in texts):
            raise invalid(f"{param}.{number}", "is empty; leave it out, or write something")
        if not isinstance(row, str | dict) and not row:
            raise invalid(f"{param}.{number}", "is empty; leave it out, or give tokens")


def _answers(
    models: Models, served: Served, ticket: Ticket, rows: Sequence[Any], truncate: bool, param: str
) -> Answers:
    predictor = models.batcher.over(served.name, served.predictor, ticket)
    truncated: list[int] = []
    longest = predictor.task.max_length

    def cut(row: int, tokens: int) -> None:
        if not truncate:
            raise too_long(f"{param}.{row}", longest + tokens, longest, CUTS)
        truncated.append(row)

    try:
        with served.reading:
            if isinstance(rows[0], str | dict):
                table = predictor.table(rows)
                task = predictor.task
                dataset = task.encode(table, predictor.labels, predictor.tokenizer, longest, cut)
            else:
                table = None
                dataset = _of_tokens(predictor, rows, cut)
    except ApiError:
        raise
    except WarmstartError as error:
        log_failure(error, "reading a request")
        wanted = " and ".join(predictor.task.inputs)
        raise invalid(param, f"cannot be read; each row needs {wanted}, as text") from None
    _check_size(models, dataset, param)
    examples = None
    if table is not None:
        examples = Examples(table, dataset, predictor.labels, predictor.tokenizer)
    return Answers(_computed(predictor, dataset, examples), _tokens(dataset), truncated)


def _computed(
    predictor: Predictor, dataset: TokenizedDataset, examples: Examples | None
) -> list[Prediction]:
    try:
        outputs = predictor.compute(dataset)
        if examples is None:
            return [Prediction(str(n), vector, 1.0) for n, vector in enumerate(outputs[:, 0])]
        return predictor.task.decode(outputs, examples)
    except ApiError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever an engine raises
        log_failure(error, "an answer")
        raise failed() from None


def _of_tokens(predictor: Predictor, rows: Sequence[Sequence[int]], cut: Any) -> TokenizedDataset:
    """Rows of token ids, which are taken as they are."""
    size, longest = len(predictor.tokenizer), predictor.task.max_length
    read: list[Sequence[int]] = []
    for number, row in enumerate(rows):
        if not all(0 <= token < size for token in row):
            raise invalid(f"input.{number}", f"has a token that is none of 0 to {size - 1:,}")
        if len(row) > longest:
            cut(number, len(row) - longest)
        read.append(row[:longest])
    return store_of(read, predictor.tokenizer.backend_tokenizer)


def _tokens(dataset: TokenizedDataset) -> int:
    rest = 0 if dataset.answers is None else _tokens(dataset.answers)
    return int(dataset.lengths.sum()) + rest


def _check_size(models: Models, dataset: TokenizedDataset, param: str) -> None:
    limit, tokens = models.settings.max_request_tokens, _tokens(dataset)
    if tokens > limit:
        raise ApiError(
            413, f"{param} has {tokens:,} tokens, and a request may have {limit:,}; send it in "
            "parts", code="request_too_large", param=param,
        )  # fmt: skip


def vectors(answers: Answers) -> np.ndarray:
    """The vectors [n, H] of an embedding model, float32."""
    return np.asarray([answer.value for answer in answers.predictions], np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    """Vectors of length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
