"""The server: from its start to an end at which nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from types import FrameType

import pyarrow as pa
import uvicorn
from fastapi import FastAPI

from warmstart.errors import RunError
from warmstart.inference.engine import Engine
from warmstart.serving.app import create_app
from warmstart.serving.auth import known_sums
from warmstart.serving.metrics import Metrics
from warmstart.serving.models import Models, Searches
from warmstart.serving.settings import Serving
from warmstart.training.memory import small_heap

SWITCH = 0.001
"""Seconds after which a thread lets another go on, so that the network never waits long."""


class Server(uvicorn.Server):
    """uvicorn that drains.

    SIGTERM: /readyz says 503 at once, requests are still taken for `drain_seconds` (a load balancer
    has to see it first), then what was accepted is finished. SIGINT skips the pause. A second
    signal ends it at once.
    """

    def __init__(self, app: FastAPI, settings: Serving) -> None:
        config = uvicorn.Config(
            app, host=settings.host, port=settings.port, log_level="warning", access_log=False,
            server_header=False, lifespan="off", timeout_keep_alive=30,
            h11_max_incomplete_event_size=65_536,
        )  # fmt: skip
        super().__init__(config)
        self._app, self._settings = app, settings

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """What a signal does."""
        if self._app.state.draining:
            self.should_exit = self.force_exit = True
            return
        self._app.state.draining = True
        pause = self._settings.drain_seconds if sig == signal.SIGTERM else 0.0
        asyncio.get_running_loop().call_soon_threadsafe(self._end_after, pause)

    def _end_after(self, seconds: float) -> None:
        def end() -> None:
            self.should_exit = True

        asyncio.get_running_loop().call_later(seconds, end)


def serve(
    sources: Mapping[str, str],
    settings: Serving,
    engine: Engine | None = None,
    indexes: Mapping[str, Searches] | None = None,
    on_start: Callable[[str, Models], None] | None = None,
    *,
    dry_run: bool = False,
) -> None:
    """Open models and answer until a signal ends it.

    Args:
        sources: name → run, model folder, adapter, or base.
        on_start: is told the address when it listens, and the models.
        dry_run: end then, and answer nobody.

    Raises `WarmstartError` for what cannot be opened, and where the address is not free.
    """
    sums = known_sums(settings)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # requests stand beside each other
    small_heap()  # a heap for each of the many threads would keep what each once needed
    with closing(_listen(settings)) as listening:
        models = Models(sources, settings, Metrics(), engine, indexes)
        try:
            app = create_app(models, sums)
            sys.setswitchinterval(SWITCH)
            pa.array([""])  # loads pandas, for which the first request would wait
            gc.collect()
            gc.freeze()  # or it would be looked through again and again, and liveness wait for it
            port = listening.getsockname()[1]
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            if on_start is not None:
                on_start(f"http://{host}:{port}", models)
            if not dry_run:
                Server(app, settings).run(sockets=[listening])
        finally:
            models.close()


def _listen(settings: Serving) -> socket.socket:
    """The socket, taken before models are loaded. Raises `RunError`."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise RunError(
            f"cannot listen at {settings.host}, port {settings.port}: {error.strerror or error}; "
            "take another --port (0: any that is free)"
        ) from None
    return listening
