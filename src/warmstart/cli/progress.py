"""Progress on stderr: of work in stages, and of the steps of each run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from warmstart.cli.output.tables import tell
from warmstart.formatting import duration, harmless
from warmstart.types import Listener

if TYPE_CHECKING:
    from warmstart.training.loop import Step

REDRAW_SECONDS = 0.1
LONG = 60
"""Seconds of training from which is said how long the rest will take."""
LINES = 12  # of epochs, where stderr is no terminal


class _Bar:
    """A context: a bar on stderr, drawn at most ten times a second, where that is a terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar, self._drawn = Progress(), 0.0
        self.task: Any = None

    def begin(self, *columns: Any) -> None:
        """Show these columns from here on."""
        self.close()
        self.bar = Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True,
                            auto_refresh=False)  # fmt: skip
        self.task = None

    def draw(self, total: int, *, fresh: bool = False, **fields: Any) -> None:
        """Show these fields, `fresh` ones at once."""
        now = time.monotonic()
        if not self.console.is_terminal or (not fresh and now - self._drawn < REDRAW_SECONDS):
            return
        self._drawn = now
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task("", total=total, **fields)
        if fresh:
            self.bar.reset(self.task, total=total)
        self.bar.update(self.task, total=total, refresh=True, **fields)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.task is not None:  # rich prints an empty line for a bar that never began
            self.bar.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Stages(_Bar):
    """A context, called with (what, done, of): a bar on a terminal, one line a stage elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        counts = TextColumn("{task.completed:,}/{task.total:,}")
        self.begin(TextColumn("{task.description}"), BarColumn(), counts)
        self._what = ""

    def __call__(self, what: str, done: int, of: int) -> None:
        """`done` of `of` parts of the stage `what` are done."""
        fresh, self._what = what != self._what, what
        if fresh and not self.console.is_terminal:
            tell(f"{what} ...")
        self.draw(of, fresh=fresh, description=escape(harmless(what)), completed=done)


class Bars(_Bar, Listener):
    """A context: a progress bar for each run; of several, a line before each that names it.

    Where stderr is no terminal, one plain line an epoch, at most about twelve.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reset()

    def _reset(self) -> None:
        self.begin(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[rate]}  loss {task.fields[loss]:.3f}"),
            TextColumn("{task.fields[score]}"),
        )
        self._score, self._rate, self._total, self._epochs = "", 0.0, 1, 0
        self._tokens = self._seconds = 0.0
        self._steps = 0

    def begin_run(self, name: str, number: int, of: int) -> None:
        self._reset()
        Console(stderr=True, highlight=False).print(f"{escape(harmless(name))} ({number} of {of})")

    def step(self, step: Step, total: int) -> None:
        self._total = total
        new = 0.05 if self._rate else 1.0
        self._rate += new * (step.rows / step.seconds - self._rate)
        self._tokens += new * (step.tokens / step.seconds - self._tokens)
        self._seconds, self._steps = self._seconds + step.seconds, self._steps + 1
        rate = f"{self._rate:.0f} rows/s"
        rate += f"  {self._tokens:,.0f} tokens/s" if step.tokens else ""
        self.draw(total, completed=step.index, epoch=step.epoch, rate=rate,
                  loss=float(step.loss), score=self._score)  # fmt: skip

    def epoch(self, row: dict[str, Any]) -> None:
        """Keep one line of every epoch."""
        self._epochs += 1
        rewarded = "train_reward" in row  # such a loss is near 0, whatever is learned
        line = f"epoch {row['epoch']}: "
        if "train_loss" in row:  # else each step was left out
            line += f"{'policy' if rewarded else 'train'} loss {row['train_loss']:.3f}, "
        line += "".join(f"{key.removeprefix('train_')} {value:.3f}, " for key, value in row.items()
                        if key.startswith("train_") and key != "train_loss")  # fmt: skip
        if "validation_score" in row:
            score = f"score {row['validation_score']:.3f}"
            if (fit := row.get("validation_bits_per_byte")) is not None:
                score = f"{fit:.3f} bits per byte"
            elif (fit := row.get("validation_perplexity")) is not None:
                score = f"perplexity {fit:.1f}"
            if (reward := row.get("validation_reward")) is not None:
                score = f"mean reward {reward:.3f}, {score}"
            self._score = f"validation {score}"
            loss = row.get("validation_loss")
            line += "validation " + ("" if loss is None else f"loss {loss:.3f}, ") + f"{score}, "
        line += f"{self._rate:.0f} rows/s"
        if self._tokens:
            line += f", {self._tokens:,.0f} tokens/s"
        if row["step"] < self._total and self._seconds > LONG:
            left = (self._total - row["step"]) * self._seconds / self._steps
            line += f", about {duration(left)} left"
        planned = round(self._total * self._epochs / row["step"])
        if self._epochs % -(-planned // LINES) and row["step"] < self._total:
            return
        if self.console.is_terminal:
            self.bar.console.print(line, highlight=False)
        else:
            tell(line)

    def note(self, text: str) -> None:
        tell(f"note: {text}")

    def stage(self, what: str, done: int, of: int) -> None:
        """Of something that is measured: one line each."""
        tell(f"{what} ...")
