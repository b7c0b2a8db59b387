"""Progress on stderr: of work in stages, and of the steps of each run."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from warmstart.pipelines.compare.run import RunListener
from warmstart.training.progress import ProgressBar

if TYPE_CHECKING:
    from warmstart.training.loop import Step

REDRAW_SECONDS = 0.1


class Stages:
    """A context, called with (what, done, of): a bar on a terminal, one line a stage elsewhere."""

    def __init__(self) -> None:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._task is not None:
            self._bar.stop()


class Bars(RunListener):
    """A context: a progress bar for each run; of several, a line before each that names it."""

    def __init__(self) -> None:
        self._bar = ProgressBar("score")

    def begin(self, name: str, number: int, of: int) -> None:
        self._bar.close()
        self._bar = ProgressBar("score")
        Console(stderr=True, highlight=False).print(f"{escape(name)} ({number} of {of})")

    def step(self, step: Step, total: int) -> None:
        self._bar.step(step, total)

    def epoch(self, row: dict[str, Any]) -> None:
        self._bar.epoch(row)

    def note(self, text: str) -> None:
        self._bar.note(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
