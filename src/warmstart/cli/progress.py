"""Progress of work in stages, on stderr: a bar on a terminal, one line a stage elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

REDRAW_SECONDS = 0.1


class Stages:
    """Called with (what, done, of). Close it to leave the terminal as it was."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,}/{task.total:,}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            auto_refresh=False,
        )
        self._task: Any = None
        self._what, self._drawn = "", 0.0

    def __call__(self, what: str, done: int, of: int) -> None:
        """`done` of `of` parts of the stage `what` are done."""
        fresh = what != self._what
        self._what = what
        if not self._console.is_terminal:
            if fresh:
                print(f"{what} ...", file=sys.stderr, flush=True)
            return
        now = time.monotonic()
        if not fresh and now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task(what, total=of)
        if fresh:
            self._bar.reset(self._task, description=what, total=of)
        self._bar.update(self._task, completed=done, total=of, refresh=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._task is not None:
            self._bar.stop()
