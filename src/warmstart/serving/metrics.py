"""What a server counts, for Prometheus. No text and no name that a client made up is a label."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from warmstart.serving import errors

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one server."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def name(word: str) -> str:
            return f"warmstart_{word}"

        self.requests = Counter(name("requests"), "Answers by route and status",
                                ["route", "status"], registry=registry)  # fmt: skip
        self.seconds = Histogram(name("request_seconds"), "From the request to the whole answer",
                                 ["route"], buckets=SECONDS, registry=registry)  # fmt: skip
        self.first_seconds = Histogram(name("first_token_seconds"), "To the first token of a text",
                                       ["model"], buckets=SECONDS, registry=registry)  # fmt: skip
        self.inside = Gauge(name("requests_inside"), "Requests that wait or are computed",
                            ["model"], registry=registry)  # fmt: skip
        self.batch_rows = Histogram(name("batch_rows"), "Rows of a batch that is computed",
                                    ["model"], buckets=SIZES, registry=registry)  # fmt: skip
        self.read_tokens = Counter(name("read_tokens"), "Tokens read", ["model"],
                                   registry=registry)  # fmt: skip
        self.written_tokens = Counter(name("written_tokens"), "Tokens written", ["model"],
                                      registry=registry)  # fmt: skip
        self.writing = Gauge(name("texts_being_written"), "Texts in the batch that is written",
                             ["model"], registry=registry)  # fmt: skip
        self.cancelled = Counter(name("cancelled"), "Requests whose client has gone", ["model"],
                                 registry=registry)  # fmt: skip
        self.reloads = Counter(name("reloads"), "Adapters loaded anew", ["model", "outcome"],
                               registry=registry)  # fmt: skip

    def text(self) -> bytes:
        """As Prometheus reads them."""
        return generate_latest(self._registry)


class Counted:
    """Counts every answer, with the path as the routes spell it; outermost, so that whatever breaks
    is an answer in OpenAI's form."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        except Exception as error:  # noqa: BLE001 - the last who hears of it
            errors.log_failure(error, "a request")
            if not status:
                await errors.failed().response()(scope, receive, seen)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)
