"""Dynamic batching: rows of many requests computed together, by the one thread that computes.

The seam is the engine's `Runner`: each request asks a `Predictor` of its own whose runner hands its
batches over to the queue and waits. What stands above (encoding, windows, decoding) does not know
of it, and what stands below is any engine. Nothing is waited for at low load: when the thread is
free, it takes what is there, up to the engine's tokens in a batch.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass, field, replace

import numpy as np

from warmstart.data.tokens.batching import ordered, width
from warmstart.inference.engine import Runner, TokenBatch
from warmstart.inference.predictor import Predictor
from warmstart.serving.errors import log_failure
from warmstart.serving.metrics import Metrics
from warmstart.serving.tickets import Ticket


@dataclass(eq=False)
class _Rows:
    """The batch of one request, and where its outputs go."""

    name: str
    runner: Runner
    batch: TokenBatch
    pad_id: int
    ticket: Ticket
    answer: Future[np.ndarray] = field(default_factory=Future)
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = int(self.batch.lengths.sum())  # what fails here fails its own request alone


class Batcher:
    """The thread that computes the rows of all encoders, whoever came first."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._waiting: deque[_Rows] = deque()
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._work, name="batcher", daemon=True).start()

    def over(self, name: str, predictor: Predictor, ticket: Ticket) -> Predictor:
        """The predictor for one request, whose rows are computed among those of others."""
        return replace(predictor, runner=_Queued(self, name, predictor, ticket))

    def compute(self, rows: _Rows) -> np.ndarray:
        """The outputs of some rows, when their turn has come. Raises `ApiError` where it is over,
        and what the engine raises."""
        with self._changed:
            self._waiting.append(rows)
            self._changed.notify()
        while True:
            try:
                return rows.answer.result(timeout=max(0.05, rows.ticket.seconds_left))
            except Late:
                if rows.ticket.is_over:
                    raise rows.ticket.reason() from None

    def close(self) -> None:
        """End the thread when nothing waits any more."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _work(self) -> None:
        while together := self._take():
            try:
                self._run(together)
            except Exception as error:  # noqa: BLE001 - nobody else may suffer for it
                log_failure(error, "a batch")
                for rows in together:
                    if not rows.answer.done():
                        self._alone(rows)

    def _take(self) -> list[_Rows]:
        """What waits for the model of whoever came first, up to a batch; empty at the end."""
        with self._changed:
            while True:
                self._waiting = deque(rows for rows in self._waiting if not self._is_over(rows))
                if self._waiting:
                    break
                if self._ended:
                    return []
                self._changed.wait()
            runner, together, left = self._waiting[0].runner, [], deque[_Rows]()
            room = runner.batch_tokens
            for rows in self._waiting:
                if rows.runner is runner and (not together or rows.tokens <= room):
                    together.append(rows)
                    room -= rows.tokens
                else:
                    left.append(rows)
            self._waiting = left
        for rows in together:
            rows.ticket.begin()
        return together

    def _is_over(self, rows: _Rows) -> bool:
        if rows.ticket.is_over:
            rows.answer.set_exception(rows.ticket.reason())
        return rows.ticket.is_over

    def _run(self, together: list[_Rows]) -> None:
        """Compute rows of several requests in batches of about equal length."""
        first = together[0]
        lengths = np.concatenate([rows.batch.lengths for rows in together])
        whose = [(n, row) for n, rows in enumerate(together) for row in range(len(rows.batch.ids))]
        outputs: list[list[np.ndarray]] = [[np.empty(0)] * len(rows.batch.ids) for rows in together]
        longest = max(1, int(lengths.max(initial=1)))
        for places in ordered(lengths, first.runner.batch_tokens):
            own = [whose[place] for place in places]
            columns = width(max(1, int(lengths[places].max())), longest)
            batch = _joined([(together[n].batch, row) for n, row in own], columns, first.pad_id)
            self._metrics.batch_rows.labels(first.name).observe(len(own))
            for (n, row), values in zip(own, first.runner.run(batch), strict=True):
                outputs[n][row] = values
        for rows, values in zip(together, outputs, strict=True):
            self._metrics.read_tokens.labels(rows.name).inc(rows.tokens)
            rows.answer.set_result(_stacked(values, rows.batch))

    def _alone(self, rows: _Rows) -> None:
        """Compute a request by itself, after a batch with it has failed."""
        try:
            self._run([rows])
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is this request's
            rows.answer.set_exception(error)


class _Queued(Runner):
    """The runner of a predictor for one request."""

    def __init__(self, batcher: Batcher, name: str, predictor: Predictor, ticket: Ticket) -> None:
        self._batcher, self._name, self._ticket = batcher, name, ticket
        self._runner, self._pad_id = predictor.runner, predictor.tokenizer.pad_token_id
        self.batch_tokens = self._runner.batch_tokens

    def run(self, batch: TokenBatch) -> np.ndarray:
        rows = _Rows(self._name, self._runner, batch, self._pad_id, self._ticket)
        return self._batcher.compute(rows)


def _joined(rows: list[tuple[TokenBatch, int]], columns: int, pad_id: int) -> TokenBatch:
    """Rows of several batches as one."""
    ids = np.full((len(rows), columns), pad_id, np.int64)
    typed = any(batch.types is not None for batch, _ in rows)
    types = np.zeros_like(ids) if typed else None
    lengths = np.array([batch.lengths[row] for batch, row in rows], np.int64)
    for place, ((batch, row), length) in enumerate(zip(rows, lengths, strict=True)):
        ids[place, :length] = batch.ids[row, :length]
        if types is not None and batch.types is not None:
            types[place, :length] = batch.types[row, :length]
    return TokenBatch(ids, lengths, types)


def _stacked(values: list[np.ndarray], batch: TokenBatch) -> np.ndarray:
    """The outputs of rows that were computed in batches of other widths."""
    if not values or values[0].ndim == 1:
        return np.stack(values) if values else np.empty((0, 0), np.float32)
    stacked = np.zeros((*batch.ids.shape, values[0].shape[-1]), values[0].dtype)
    for row, (value, length) in enumerate(zip(values, batch.lengths, strict=True)):
        stacked[row, :length] = value[:length]
    return stacked
