"""Texts that are written: requests of one model beside each other, token by token.

`TextLoop` is what routes speak to. `StaticLoop` fills it with the loop of `models.sampling`: it
takes what waits up to a budget of rows and tokens, writes these texts together, a row leaves when
its text has ended or its client has gone, and those that came meanwhile join between two such
batches. With `ContinuousLoop` they join at every step, where the engine can do that.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
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

    async def read(self) -> AsyncGenerator[Written]:
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


class _Threaded:
    """A queue of jobs, and the thread that writes them."""

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
        raise NotImplementedError

    def _take(self, rows: int, tokens: int, *, waits: bool = True) -> list[Job]:
        """The jobs that come first, up to a budget. Empty where there is none: at the end, or at
        once where it does not wait."""
        with self._changed:
            while True:
                self._waiting = deque(job for job in self._waiting if not _is_over(job))
                if self._waiting or self._ended or not waits:
                    break
                self._changed.wait()
            jobs: list[Job] = []
            while self._waiting:
                job = self._waiting[0]
                if (jobs or not waits) and (job.rows > rows or job.tokens > tokens):
                    break
                rows, tokens = rows - job.rows, tokens - job.tokens
                jobs.append(self._waiting.popleft())
        for job in jobs:
            job.ticket.begin()
            self._read.inc(len(job.prompt))
        return jobs

    def _tell(self, job: Job, choice: int, token: Token) -> None:
        """Hand a token on."""
        top: Sequence[tuple[int, float]] = ()
        if token.id is not None:
            self._written.inc()
            if job.shaper is not None:
                top = job.shaper.take(choice, token.id)
        job.sent += 1
        job.pieces.put(Written(choice, token, top))
        if token.finish_reason is not None:
            self._writing.dec()


class StaticLoop(_Threaded):
    """Writes batch after batch with the loop of `models.sampling`."""

    def _work(self) -> None:
        budget = self._settings.batch_rows, self._settings.batch_tokens
        while jobs := self._take(*budget):
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

    def _write(self, jobs: Sequence[Job]) -> None:
        owners = [(job, choice) for job in jobs for choice in range(job.rows)]
        self._writing.set(len(owners))

        def shape(numbers: Sequence[int], logits: Any) -> Any:
            for place, number in enumerate(numbers):
                job, choice = owners[number]
                if job.shaper is not None:
                    job.shaper.shape(choice, logits, place)
            return logits

        how: dict[str, Any] = {}
        if any(job.shaper is not None for job in jobs):
            how["shape"] = shape
        self._writer.write(
            [job.prompt for job in jobs], [job.sampling for job in jobs], ends=self._ends,
            on_token=lambda token: self._tell(*owners[token.row], token),
            cancelled=lambda row: owners[row][0].ticket.is_over, **how,
        )  # fmt: skip


class ContinuousLoop(_Threaded):
    """Writes with an engine in which texts join and leave at every step (`Runner.batcher`).

    Args:
        reopen: opens the model again after its library has failed.
    """

    def __init__(
        self, name: str, writer: Writer, settings: Serving, metrics: Metrics,
        reopen: Callable[[], Writer],
    ) -> None:  # fmt: skip
        self._reopen = reopen
        self._live: dict[int, tuple[Job, int]] = {}
        super().__init__(name, writer, settings, metrics)

    def _work(self) -> None:
        batcher = self._batcher()
        while self._join(batcher):
            try:
                for number, (job, _) in self._live.items():
                    if job.ticket.is_over:
                        batcher.cancel(number)
                for token in batcher.step():
                    place = self._live[token.row]
                    if token.finish_reason is not None:
                        del self._live[token.row]
                    self._tell(*place, token)
            except Exception as error:  # noqa: BLE001 - whatever the library raises
                for job in {id(job): job for job, _ in self._live.values()}.values():
                    _fail(job, error)
                self._live.clear()
                self._writer = self._reopen()
                batcher = self._batcher()
            self._writing.set(len(self._live))

    def _batcher(self) -> Any:
        return self._writer.predictor.runner.batcher(self._writer.tokenizer, self._ends)

    def _join(self, batcher: Any) -> bool:
        """Have the texts begun for which there is room; whether any is being written, and False at
        the end."""
        while True:
            rows = self._settings.batch_rows - len(self._live)
            tokens = sum(job.tokens for job, choice in self._live.values() if not choice)
            left = self._settings.batch_tokens - tokens
            jobs = self._take(rows, left, waits=not self._live)
            if not jobs and not self._live:
                return False
            for job in jobs:
                try:
                    numbers = batcher.add(job.prompt, job.sampling)
                    self._live |= {n: (job, choice) for choice, n in enumerate(numbers)}
                except Exception as error:  # noqa: BLE001 - whatever the library raises
                    _fail(job, error)
            if self._live:
                return True


def loop_of(
    name: str, writer: Writer, settings: Serving, metrics: Metrics, reopen: Callable[[], Writer]
) -> TextLoop:
    """The loop that a writer's engine allows."""
    runner = writer.predictor.runner
    if runner.batcher(writer.tokenizer) is not None:
        return ContinuousLoop(name, writer, settings, metrics, reopen)
    return StaticLoop(name, writer, settings, metrics)


def shapes(writer: Writer) -> bool:
    """Whether logits may be changed before a token is chosen: with torch."""
    return hasattr(writer.predictor.runner, "forward")


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
