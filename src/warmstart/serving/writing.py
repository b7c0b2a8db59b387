"""Texts that are written: requests of one model beside each other, token by token.

`TextLoop` is what routes speak to. `StaticLoop` fills it with the loop of `models.sampling`: it
takes what waits up to a budget of rows and tokens, writes these texts together, a row leaves when
its text has ended or its client has gone, and those that came meanwhile join between two such
batches. An engine with continuous batching fills it with a loop of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from warmstart.inference.writer import Writer
from warmstart.models.sampling import Sampling, Token
from warmstart.serving.errors import ApiError, failed, log_failure
from warmstart.serving.logits import Shaper
from warmstart.serving.metrics import Metrics
from warmstart.serving.settings import Serving
from warmstart.serving.tickets import Ticket


@dataclass(frozen=True, slots=True)
class Written:
    """A token of one of the texts that a job asks for; of `top` the likeliest in its place."""

    choice: int
    token: Token
    top: Sequence[tuple[int, float]] = ()


class Pieces:
    """What a thread writes, as the loop of the network reads it."""

    def __init__(self, ticket: Ticket) -> None:
        self._loop, self._ready = asyncio.get_running_loop(), asyncio.Event()
        self._items: deque[Written | ApiError] = deque()
        self._ticket, self._rung = ticket, False
        ticket.on_change.append(self._ring)

    def put(self, item: Written | ApiError) -> None:
        """From any thread."""
        self._items.append(item)
        self._ring()

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._loop.call_soon_threadsafe(self._ready.set)

    async def read(self) -> AsyncIterator[Written]:
        """Until nobody asks any more. Raises `ApiError`, also where the ticket is over."""
        while True:
            self._rung = False
            while self._items:
                item = self._items.popleft()
                if isinstance(item, ApiError):
                    raise item
                yield item
            if self._ticket.is_over:
                raise self._ticket.reason()
            if not self._rung:
                try:
                    await asyncio.wait_for(self._ready.wait(), self._ticket.seconds_left + 0.01)
                except TimeoutError:
                    continue
            self._ready.clear()


@dataclass(eq=False)
class Job:
    """Texts behind one prompt, `sampling.num_return_sequences` of them.

    Args:
        shaper: changes the logits of its rows, or keeps the likeliest; None: neither.
        pieces: where what is written goes.
    """

    prompt: Sequence[int]
    sampling: Sampling
    ticket: Ticket
    pieces: Pieces
    shaper: Shaper | None = None
    sent: int = 0

    @property
    def rows(self) -> int:
        return self.sampling.num_return_sequences

    @property
    def tokens(self) -> int:
        """That it may come to."""
        return self.rows * (len(self.prompt) + self.sampling.max_new_tokens)


class TextLoop(Protocol):
    """Writes the texts of many requests with one model."""

    def submit(self, job: Job) -> None:
        """Have a job done when its turn comes; what it gives, errors too, goes to its pieces."""
        ...

    def close(self) -> None:
        """End when nothing waits any more."""
        ...


class StaticLoop:
    """A thread that writes batch after batch with the loop of `models.sampling`."""

    def __init__(self, name: str, writer: Writer, settings: Serving, metrics: Metrics) -> None:
        self._name, self._writer, self._settings = name, writer, settings
        self._ends = writer.ends() | writer.ends(raw=True)
        self._written = metrics.written_tokens.labels(name)
        self._read = metrics.read_tokens.labels(name)
        self._writing = metrics.writing.labels(name)
        self._waiting: deque[Job] = deque()
        self._changed, self._ended = threading.Condition(), False
        threading.Thread(target=self._work, name=f"writer {name}", daemon=True).start()

    def submit(self, job: Job) -> None:
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _work(self) -> None:
        while jobs := self._take():
            try:
                self._write(jobs)
            except Exception as error:  # noqa: BLE001 - nobody else may suffer for it
                for job in jobs:
                    if len(jobs) > 1 and not job.sent:
                        self._alone(job)
                    else:
                        _fail(job, error)
            self._writing.set(0)

    def _alone(self, job: Job) -> None:
        """Write the texts of a job by themselves, after a batch with it has failed."""
        try:
            self._write([job])
        except Exception as error:  # noqa: BLE001 - whatever the model raises is this job's
            _fail(job, error)

    def _take(self) -> list[Job]:
        """The jobs that come first, up to the budget; empty at the end."""
        with self._changed:
            while True:
                self._waiting = deque(job for job in self._waiting if not _is_over(job))
                if self._waiting or self._ended:
                    break
                self._changed.wait()
            jobs: list[Job] = []
            rows, tokens = self._settings.batch_rows, self._settings.batch_tokens
            while self._waiting:
                job = self._waiting[0]
                if jobs and (job.rows > rows or job.tokens > tokens):
                    break
                rows, tokens = rows - job.rows, tokens - job.tokens
                jobs.append(self._waiting.popleft())
        for job in jobs:
            job.ticket.begin()
        return jobs

    def _write(self, jobs: Sequence[Job]) -> None:
        owners = [(job, choice) for job in jobs for choice in range(job.rows)]
        self._read.inc(sum(len(job.prompt) for job in jobs))
        self._writing.set(len(owners))
        shaped = any(job.shaper is not None for job in jobs)

        def tell(token: Token) -> None:
            job, choice = owners[token.row]
            top: Sequence[tuple[int, float]] = ()
            if token.id is not None:
                self._written.inc()
                if job.shaper is not None:
                    top = job.shaper.take(choice, token.id)
            job.sent += 1
            job.pieces.put(Written(choice, token, top))
            if token.finish_reason is not None:
                self._writing.dec()

        def shape(numbers: Sequence[int], logits: Any) -> Any:
            for place, number in enumerate(numbers):
                job, choice = owners[number]
                if job.shaper is not None:
                    job.shaper.shape(choice, logits, place)
            return logits

        self._writer.write(
            [job.prompt for job in jobs], [job.sampling for job in jobs], ends=self._ends,
            on_token=tell, cancelled=lambda row: owners[row][0].ticket.is_over,
            shape=shape if shaped else None,
        )  # fmt: skip


def _is_over(job: Job) -> bool:
    if job.ticket.is_over:
        job.pieces.put(job.ticket.reason())
    return job.ticket.is_over


def _fail(job: Job, error: Exception) -> None:
    """What a client is told of an error of the model; what it is stands in the log."""
    if isinstance(error, ApiError):
        job.pieces.put(error)
        return
    log_failure(error, "a text")
    job.pieces.put(failed())
