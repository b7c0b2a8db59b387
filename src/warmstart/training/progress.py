"""Where a run stands, what is written of it as it goes, and what stops it."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warmstart.errors import RunError
from warmstart.files import read_text, write_json
from warmstart.training.loop import Step
from warmstart.training.throughput import Work

LOGGED = 1000  # steps, about


@dataclass
class Progress:
    """Where a run stands; with the weights and the optimizer's memory it is a checkpoint.

    `epoch` epochs have been validated; `passes` over the rows are over, and `within` steps of the
    one that is not have been made (see `Position`).
    """

    step: int = 0
    epoch: float = 0
    passes: int = 0
    within: int = 0
    rows: int = 0
    tokens: int = 0
    skipped: int = 0
    operations: float = 0.0
    """Floating-point operations of the model, where they are counted; see `Work`."""
    seconds: float = 0.0
    best_score: float | None = None
    best_step: int | None = None
    best_epoch: float | None = None
    kept_epoch: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class Log:
    """Appends to `log.jsonl`; a resumed run forgets the lines after its checkpoint.

    Args:
        folder: the run's folder.
        total: steps of the whole run; about a thousand of them are logged.
        done: steps that the checkpoint has.
        work: what is computed for a token, where it is known.
    """

    def __init__(self, folder: Path, total: int, done: int, work: Work | None = None) -> None:
        self.work = work
        self.path, self.state_path = folder / "log.jsonl", folder / "trainer_state.json"
        self.total, self.every = total, max(1, total // LOGGED)
        kept = [line for line in self.lines() if done and line["step"] <= done]
        self.file = self.path.open("w", encoding="utf-8", buffering=1)
        for line in kept:
            self.write(**line)

    def step(self, step: Step) -> None:
        """Log a step, if it is one of those that are."""
        if step.index % self.every and not (step.ends_epoch or step.validates):
            return
        shares: dict[str, float] = {}
        if self.work is not None:
            done = step.tokens, float(step.weight), step.rows, step.seconds
            shares["peak_share"] = round(self.work.share(*done), 4)
        self.write(
            step=step.index,
            epoch=step.epoch,
            loss=round(float(step.loss), 6),
            **{name: round(float(value), 6) for name, value in step.metrics.items()},
            grad_norm=round(float(step.grad_norm), 6),
            learning_rate=step.learning_rate,
            rows_per_second=round(step.rows / step.seconds, 1),
            **({"tokens": step.tokens} if step.tokens else {}),
            **({"tokens_per_second": round(step.tokens / step.seconds)} if step.tokens else {}),
            **shares,
        )

    def write(self, **facts: Any) -> None:
        """Log anything else; `step` is among the facts. Raises `RunError` where the folder of the
        run is gone, for nothing of it would be kept."""
        if not self.path.exists():
            raise RunError(
                f"{self.path.parent} was removed while the run worked in it; begin a new run"
            )
        self.file.write(json.dumps(facts) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """All lines so far; a last line that was cut off by a crash is left out."""
        lines: list[dict[str, Any]] = []
        if self.path.exists():
            for line in read_text(self.path).splitlines():
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    continue
        return lines

    def close(self, *, epochs: int, best_step: int | None, best_score: float | None) -> None:
        """Write `trainer_state.json` as transformers' Trainer does."""
        self.file.close()
        history = self.lines()
        last = history[-1] if history else {"step": 0, "epoch": 0}
        state = {
            "best_metric": best_score,
            "best_global_step": best_step,
            "epoch": float(last["epoch"]),
            "global_step": last["step"],
            "max_steps": self.total,
            "num_train_epochs": epochs,
            "is_local_process_zero": True,
            "is_world_process_zero": True,
            "log_history": history,
        }
        write_json(self.state_path, state)


class Interrupted(RunError):
    """Stopped by Ctrl-C, SIGTERM or SIGHUP, after a checkpoint."""


SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)]  # fmt: skip


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM and a terminal that closes do what Ctrl-C does, so that the run says how it ended."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before: dict[Any, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {s: h for s in SIGNALS if (h := signal.getsignal(s)) is signal.SIG_DFL}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Ctrl-C, SIGTERM and a terminal that closes set an event; a second one stops at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {s: signal.getsignal(s) for s in SIGNALS}
    hangup = getattr(signal, "SIGHUP", None)
    if before.get(hangup) is signal.SIG_IGN:  # as nohup has it: the run outlives its terminal
        del before[hangup]

    def stop(number: int, frame: Any) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
