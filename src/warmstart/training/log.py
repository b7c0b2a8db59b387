"""The log of a run: one JSON line per logged step, and `trainer_state.json` for its readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from warmstart.files import write_json
from warmstart.training.loop import Step

LINES = 1000


class Log:
    """Appends to `log.jsonl`; a resumed run forgets the lines after its checkpoint.

    Args:
        folder: the run's folder.
        total: steps of the whole run; about a thousand of them are logged.
        done: steps that the checkpoint has.
    """

    def __init__(self, folder: Path, total: int, done: int) -> None:
        self.path, self.state_path = folder / "log.jsonl", folder / "trainer_state.json"
        self.total, self.every = total, max(1, total // LINES)
        kept = [line for line in self.lines() if done and line["step"] <= done]
        self._file = self.path.open("w", encoding="utf-8", buffering=1)
        for line in kept:
            self._file.write(json.dumps(line) + "\n")

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def step(self, step: Step) -> None:
        """Log a step, if it is one of those that are."""
        if step.index % self.every and not step.ends_epoch:
            return
        self.write(
            step=step.index,
            epoch=step.epoch,
            loss=round(float(step.loss), 6),
            **{name: round(float(value), 6) for name, value in step.metrics.items()},
            grad_norm=round(float(step.grad_norm), 6),
            learning_rate=step.learning_rate,
            rows_per_second=round(step.rows / step.seconds, 1),
            **({"tokens": step.tokens} if step.tokens else {}),
        )

    def write(self, **facts: Any) -> None:
        """Log anything else; `step` is among the facts."""
        self._file.write(json.dumps(facts) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """All lines so far; a last line that was cut off by a crash is left out."""
        lines: list[dict[str, Any]] = []
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    continue
        return lines

    def close(self, *, epochs: int, best_step: int | None, best_score: float | None) -> None:
        """Write `trainer_state.json` as transformers' Trainer does."""
        self._file.close()
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
