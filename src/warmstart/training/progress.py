"""A progress bar on the terminal: steps, rows per second, loss, validation score, time left."""

from __future__ import annotations

import sys
import time
from typing import Any

from warmstart.training.loop import Step
from warmstart.training.trainer import Listener

REDRAW_SECONDS = 0.1
LINES = 12


class ProgressBar(Listener):
    """Draws on stderr. Where that is no terminal, one plain line an epoch, at most about twelve."""

    def __init__(self, score_name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        self._score_name, self._score = score_name, ""
        self._rate, self._drawn = 0.0, 0.0
        self._task: Any = None
        self._total, self._epochs = 1, 0
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[rate]:.0f} rows/s  loss {task.fields[loss]:.3f}"),
            TextColumn("{task.fields[score]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            auto_refresh=False,
        )

    def step(self, step: Step, total: int) -> None:
        """Advance; redraws at most ten times a second."""
        self._total = total
        now = step.rows / step.seconds
        self._rate = now if not self._rate else 0.95 * self._rate + 0.05 * now
        if not self._console.is_terminal or time.monotonic() - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = time.monotonic()
        fields = {
            "completed": step.index,
            "epoch": step.epoch,
            "rate": self._rate,
            "loss": float(step.loss),
            "score": self._score,
        }
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("", total=total, **fields)
        self._bar.update(self._task, refresh=True, **fields)

    def epoch(self, row: dict[str, Any]) -> None:
        """Keep one line of every epoch."""
        self._epochs += 1
        line = f"epoch {row['epoch']}: train loss {row['train_loss']:.3f}, "
        line += "".join(f"{key.removeprefix('train_')} {value:.3f}, " for key, value in row.items()
                        if key.startswith("train_") and key != "train_loss")  # fmt: skip
        if "validation_score" in row:
            score = f"{self._score_name} {row['validation_score']:.3f}"
            self._score = f"validation {score}"
            line += f"validation loss {row['validation_loss']:.3f}, {score}, "
        line += f"{self._rate:.0f} rows/s"
        planned = round(self._total * self._epochs / row["step"])
        if self._epochs % -(-planned // LINES) and row["step"] < self._total:
            return
        if self._console.is_terminal:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """A line of its own."""
        print(f"note: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._task is not None:  # rich prints an empty line for a bar that never began
            self._bar.stop()
