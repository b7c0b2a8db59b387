"""Train to the end: what listens to the loop. Validation, kept weights, stopping, checkpoints."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from warmstart.errors import RunError
from warmstart.files import write_json
from warmstart.metrics.base import score_error
from warmstart.models.forward import Forward
from warmstart.models.modules import ParamGroup
from warmstart.objectives.base import Objective, Position
from warmstart.training import checkpoint
from warmstart.training.batches import BatchSource
from warmstart.training.guard import PATIENCE, Guard
from warmstart.training.loop import Step, steps
from warmstart.training.optimizer import Optimizer
from warmstart.training.progress import Interrupted, Log, Progress, stop_signals
from warmstart.training.regularization.regularizer import Regularizer
from warmstart.training.settings import Train
from warmstart.training.throughput import Work
from warmstart.types import Listener

OF_EACH = ("score:", "loss:")
"""How the figures begin that several tasks in one run have, each its own."""
SHOWN = ("bits_per_byte", "perplexity", "reward")
"""Figures of a validation that are shown besides its loss and its score."""
Score = Callable[[Any], dict[str, float]]


@dataclass
class Fit:
    """One training run, from a fresh model or from its last checkpoint.

    Args:
        score: outputs for the validation split → figures, `main` among them.
        settings: resolved; what says how long, and `learning_rate`, are numbers.
        folder: the run's folder; checkpoints go below it.
        hidden: the weights inside the layers, for `train.optimizer = "muon"`.
        param_groups: what the method moves more slowly, or later (`Method.param_groups`).
        regularizer: what is done against forgetting, or None.
        span: the worst and the best that the figure `main` can be.
        sample: writes a text after each validation, or None.
        work: what is computed for a token, or None where that is not counted.
    """

    model: nn.Module
    forward: Forward
    train: BatchSource
    validation: BatchSource
    objective: Objective
    score: Score
    main: str
    settings: Train
    seed: int
    folder: Path
    listeners: list[Listener] = field(default_factory=list[Listener])
    hidden: list[nn.Parameter] = field(default_factory=list[nn.Parameter])
    param_groups: list[ParamGroup] = field(default_factory=list[ParamGroup])
    regularizer: Regularizer | None = None
    span: tuple[float, float] = (0.0, 1.0)
    sample: Callable[[], str] | None = None
    work: Work | None = None

    def __post_init__(self) -> None:
        length = self.train.length()
        if self.regularizer is not None:
            rows = [planned.rows for planned in self.train.steps(Position())]
            self.regularizer.plan(rows, self.seed)
        self.total, self.epochs = length.steps, length.epochs
        self.progress = Progress()
        self.optimizer = Optimizer(
            self.model, self.settings, self.total, hidden=self.hidden,
            param_groups=self.param_groups, epoch_starts=length.starts,
        )  # fmt: skip
        self._trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self._kept: dict[str, Tensor] = {}
        self._guard = Guard() if self.settings.guard else None
        self._sums: dict[str, list[float]] = {}
        """Of the epoch so far, of the loss and of each metric: its sum, and its weight."""

    def run(self, *, resume: bool = False) -> Progress:
        """Train and leave the kept weights in the model.

        Raises `Interrupted` after Ctrl-C (a checkpoint stands), `RunError` when the loss is not a
        number or the disk is full.
        """
        self.objective.listen(self.listeners)
        if resume:
            self._load()
        if self.settings.optimizer == "muon":
            write_json(self.folder / "optimizer.json", self.optimizer.holds)
        log = Log(self.folder, self.total, self.progress.step, self.work)
        with log.file, stop_signals() as stopped:
            self._loop(log, stopped)
        with torch.no_grad():
            for name, weights in self._kept.items():
                self._trained[name].copy_(weights)
        self.forward.refresh()
        where = self.progress
        rule = {"kept_by": self.settings.keep, "epochs": self.epochs}
        for row in where.history:
            row |= {"kept": row["epoch"] == where.kept_epoch, **rule}
        log.close(epochs=self.epochs, best_step=where.best_step, best_score=where.best_score)
        return where

    def _loop(self, log: Log, stopped: threading.Event) -> None:
        where = self.progress
        saved = time.monotonic()
        if where.epoch and self._enough():
            return
        begun = time.perf_counter()
        running = steps(
            self.train, self.forward, self.optimizer, self.objective, seed=self.seed,
            done=Position(where.step, where.passes, where.within), regularizer=self.regularizer,
            guard=self._guard,
        )  # fmt: skip
        for step in running:
            self._count(step)
            if step.skipped:
                self._skip(step, log)
            log.step(step)
            for listener in self.listeners:
                listener.step(step, self.total)
            if step.ends_epoch or step.validates:
                self._validate(step, log)
            now = time.perf_counter()
            where.seconds, begun = where.seconds + now - begun, now
            if stopped.is_set():
                self._save()
                raise Interrupted(f"stopped after step {where.step} of {self.total}")
            if step.ends_epoch and self._enough():
                return
            due = time.monotonic() - saved >= self.settings.checkpoint_seconds
            due |= self._guard is not None and self._guard.wants_checkpoint
            if due and not step.skipped:  # else there would be nothing to go back to
                self._save()
                saved, begun = time.monotonic(), time.perf_counter()

    def _skip(self, step: Step, log: Log) -> None:
        """Note a step that was left out; after several, take the weights of the last checkpoint."""
        log.write(step=step.index, epoch=step.epoch, skipped=step.skipped)
        self.progress.skipped += 1
        if self._guard is None or self._guard.in_a_row < PATIENCE:
            return
        self._guard.go_back(step.skipped, float(self.settings.learning_rate or 0.0))
        path = checkpoint.newest(self.folder / "checkpoints")
        assert path is not None
        tensors, state = checkpoint.load(path)
        self._put_back(tensors)
        log.write(step=step.index, epoch=step.epoch, rolled_back_to=state["step"])
        for listener in self.listeners:
            listener.note(f"step {step.index}: back to the weights of step {state['step']}, for "
                          f"{step.skipped}")  # fmt: skip

    def _count(self, step: Step) -> None:
        where = self.progress
        loss = float(step.loss)
        if not step.skipped and not np.isfinite(loss):
            raise RunError(
                f"the loss became {loss} at step {step.index}; "
                f"lower train.learning_rate (it is {self.settings.learning_rate})"
            )
        where.step, where.rows = step.index, where.rows + step.rows
        where.passes, where.within = step.after.epoch, step.after.within
        where.tokens += step.tokens
        if self.work is not None:
            where.operations += self.work.operations(step.tokens, float(step.weight), step.rows)
        if step.skipped:
            return
        weight = float(step.weight)
        for name, value in {"loss": loss, **step.metrics}.items():
            total, whole = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = [total + float(value) * weight, whole + weight]

    def _validate(self, step: Step, log: Log) -> None:
        """What an epoch came to; without validation rows the last one is kept."""
        where = self.progress
        epoch = step.epoch
        if not step.ends_epoch:  # the place within all epochs
            epoch = round(step.index / self.total * self.epochs, 3)
        row: dict[str, Any] = {"epoch": epoch, "step": step.index}
        row |= {f"train_{name}": value / (weight or 1.0)
                for name, (value, weight) in self._sums.items()}  # fmt: skip
        self._sums = {}
        figures: dict[str, float] = {}
        if len(self.validation):
            result = self.validation.evaluate(self.forward)
            figures = {**result.figures, **self.score(result.outputs)}
            row |= {f"validation_{name}": value for name, value in result.figures.items()}
            row |= {"validation_score": figures[self.main]}
        row |= {key: value for key, value in figures.items() if key.startswith(OF_EACH)}
        row |= {f"validation_{key}": figures[key] for key in SHOWN if key in figures}
        if self.sample is not None:
            row["sample"] = self.sample()
        where.epoch = epoch
        where.history.append(row)
        named = {f"eval_{key}": value for key, value in figures.items()}
        log.write(step=step.index, epoch=epoch, **named)
        if figures:
            score, best = figures[self.main], where.best_score
            if best is None or score > best:
                where.best_score, where.best_step, where.best_epoch = score, step.index, epoch
            if best is None or score > best - self._slack(best):
                where.kept_epoch = epoch
                self._remember()
        else:
            where.kept_epoch = epoch
        for listener in self.listeners:
            listener.epoch(row)

    def _slack(self, best: float) -> float:
        """How far below the best a later epoch may score and still be kept.

        A validation score is itself uncertain, see `score_error`. Among epochs that
        this cannot tell apart the latest is taken, where the learning rate has come to rest: the
        one-standard-error rule (Breiman et al. 1984) with "later" in the place of "simpler".
        """
        if self.settings.keep == "one_se":
            return score_error(best, self.validation.unit_count, self.span)
        return 0.0 if self.settings.keep == "best" else float("inf")

    def _enough(self) -> bool:
        where, patience = self.progress, self.settings.patience
        if not patience or where.best_epoch is None:
            return False
        return where.epoch - where.best_epoch >= patience

    @torch.no_grad()
    def _remember(self) -> None:
        for name, weights in self._trained.items():
            if name in self._kept:
                self._kept[name].copy_(weights)
            else:
                self._kept[name] = weights.detach().clone()

    def _save(self) -> None:
        where = self.progress
        tensors = {f"model.{name}": weights for name, weights in self._trained.items()}
        tensors |= {f"kept.{name}": weights for name, weights in self._kept.items()}
        tensors |= {f"optimizer.{key}": value for key, value in self.optimizer.state().items()}
        tensors |= {f"objective.{key}": value for key, value in self.objective.state().items()}
        state = {**vars(where), "sums": self._sums, "total": self.total}
        if self._guard is not None:
            state["guard"], self._guard.safe = self._guard.state(), True
        checkpoint.save(self.folder / "checkpoints", where.step, tensors, state)

    @torch.no_grad()
    def _load(self) -> None:
        path = checkpoint.newest(self.folder / "checkpoints")
        if path is None:
            return
        tensors, state = checkpoint.load(path)
        trained = {f"model.{name}" for name in self._trained} <= tensors.keys()
        if state.pop("total") != self.total or "sums" not in state or not trained:
            raise RunError(f"{path} is of another run: its steps, or what it trained, differ")
        self._sums, guarded = state.pop("sums"), state.pop("guard", None)
        if self._guard is not None and guarded is not None:
            self._guard.load_state(guarded)
        self.progress = Progress(**state)
        self._kept = self._put_back(tensors)

    @torch.no_grad()
    def _put_back(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put the weights and the optimizer's memory of a checkpoint in their places; returns the
        weights that were kept."""
        parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            parts[kind][rest] = value.to(self.forward.device)
        for name, value in parts["model"].items():
            self._trained[name].copy_(value)
        self.optimizer.load_state(parts["optimizer"])
        if parts["objective"]:
            self.objective.load_state(parts["objective"])
        self.forward.refresh()
        return parts["kept"]
