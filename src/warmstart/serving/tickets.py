"""A request on its way: admitted, waiting, running, done; or its client has gone.

Whatever takes time stands in a thread of its own. The loop that answers the network waits for it,
looks whether the client is still there and keeps the deadlines, so that /healthz never waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

from fastapi import Request

from warmstart.serving.errors import ApiError
from warmstart.serving.metrics import Metrics

Value = TypeVar("Value")


class Gone(ApiError):
    """The client has gone, and nobody hears the answer."""

    def __init__(self) -> None:
        super().__init__(499, "the client has gone", code="client_gone")


class Ticket:
    """What is known of one request. Its methods may be called from any thread.

    Args:
        queue_seconds: that it may wait until it is begun.
        run_seconds: that it may take from then on.
    """

    def __init__(self, queue_seconds: float, run_seconds: float) -> None:
        self._queue_seconds, self._run_seconds = queue_seconds, run_seconds
        self._until = time.monotonic() + queue_seconds
        self._begun = False
        self.cancelled = False
        self.on_change: list[Callable[[], None]] = []
        """Called when it is begun or cancelled, to wake whoever waits for it."""

    def begin(self) -> None:
        """Its turn has come."""
        if not self._begun:
            self._begun = True
            self._until = time.monotonic() + self._run_seconds
            self._tell()

    def cancel(self) -> None:
        """Its client has gone."""
        self.cancelled = True
        self._tell()

    def _tell(self) -> None:
        for call in self.on_change:
            call()

    @property
    def seconds_left(self) -> float:
        """Until it is too late."""
        return max(0.0, self._until - time.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.cancelled or time.monotonic() >= self._until

    def reason(self) -> ApiError:
        """Why it is over, as the client is told."""
        if self.cancelled:
            return Gone()
        if self._begun:
            return ApiError(
                504, f"the answer was not ready in {self._run_seconds:g} seconds; ask for less",
                code="run_timeout",
            )  # fmt: skip
        return ApiError(
            503, f"no turn came in {self._queue_seconds:g} seconds; try again later",
            code="queue_timeout", retry_after=max(1, round(self._queue_seconds / 4)),
        )  # fmt: skip


class Gate:
    """How many requests of a model are in the house; more than `limit` are not let in."""

    def __init__(self, name: str, limit: int, metrics: Metrics) -> None:
        self._name, self._limit, self._metrics, self.inside = name, limit, metrics, 0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Raise `ApiError` (429) where there is no room."""
        if self.inside >= self._limit:
            raise ApiError(
                429, f"{self._limit} requests of this model are waiting already; try again later",
                code="too_many_requests", retry_after=1,
            )  # fmt: skip
        self.inside += 1
        self._metrics.inside.labels(self._name).set(self.inside)
        try:
            yield
        finally:
            self.inside -= 1
            self._metrics.inside.labels(self._name).set(self.inside)


class Turns:
    """Lets a few requests begin in each round of the loop: when a thousand come at once, whoever
    asks whether the server lives waits for those few."""

    EACH = 2

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._begun = 0

    async def wait(self) -> None:
        """Until its turn has come: at once where few come."""
        loop = asyncio.get_running_loop()
        if not self._begun:
            loop.call_soon(self._next, loop)
        self._begun += 1
        if self._begun > self.EACH:
            self._waiting.append(loop.create_future())
            await self._waiting[-1]

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begun = min(self.EACH, len(self._waiting))
        for _ in range(self._begun):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
        if self._begun:
            loop.call_soon(self._next, loop)


@asynccontextmanager
async def watched(request: Request, ticket: Ticket) -> AsyncIterator[None]:
    """Cancel the ticket when the client goes; its body has been read."""

    async def listen() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        ticket.cancel()

    listening = asyncio.create_task(listen())
    try:
        yield
    finally:
        listening.cancel()


async def in_thread(
    pool: ThreadPoolExecutor, ticket: Ticket, function: Callable[..., Value], *args: Any
) -> Value:
    """What a function gives that computes in a thread. Raises what it raises, and `ApiError` as
    soon as the ticket is over; the function is to look at the ticket too, and ends by itself."""

    def call() -> Value:
        if ticket.is_over:
            raise ticket.reason()
        return function(*args)

    loop = asyncio.get_running_loop()
    work = loop.run_in_executor(pool, call)
    changed = asyncio.Event()

    def tell() -> None:
        loop.call_soon_threadsafe(changed.set)

    ticket.on_change.append(tell)
    work.add_done_callback(lambda done: changed.set())
    while not work.done():
        if ticket.is_over:
            work.cancel()
            work.add_done_callback(_forget)
            raise ticket.reason()
        changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(ticket.seconds_left + 0.01):
                await changed.wait()
    return work.result()


def _forget(work: asyncio.Future[Any]) -> None:
    """Nobody hears what it raised."""
    if not work.cancelled():
        work.exception()
