"""Train to the end: what listens to the loop. Validation, kept weights, stopping, checkpoints."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from warmstart.errors import RunError
from warmstart.models.forward import Compute
from warmstart.models.modules import ParamGroup
from warmstart.training import checkpoint
from warmstart.training.batches import Feed
from warmstart.training.log import Log
from warmstart.training.loop import Loss, Step, Weight, steps
from warmstart.training.optimizer import Optimizer
from warmstart.training.regularization.regularizer import Keeper
from warmstart.training.settings import Train

OF_EACH = ("score:", "loss:")
"""How the figures begin that several tasks in one run have, each its own."""
Score = Callable[[np.ndarray], dict[str, float]]


class Interrupted(RunError):
    """Stopped by Ctrl-C or SIGTERM, after a checkpoint."""


class Listener:
    """Somebody who wants to know; a progress bar, for instance."""

    def step(self, step: Step, total: int) -> None:
        """After every step."""

    def epoch(self, row: dict[str, Any]) -> None:
        """After every validation."""

    def note(self, text: str) -> None:
        """Of what a person should know at once."""


@dataclass
class Progress:
    """Where a run stands; with the weights and the optimizer's memory it is a checkpoint."""

    step: int = 0
    epoch: int = 0
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_score: float | None = None
    best_step: int | None = None
    best_epoch: int | None = None
    kept_epoch: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


@dataclass
class Fit:
    """One training run, from a fresh model or from its last checkpoint.

    Args:
        score: logits of the validation split → figures, `main` among them.
        settings: resolved; `epochs` and `learning_rate` are numbers.
        folder: the run's folder; checkpoints go below it.
        hidden: the weights inside the layers, for `train.optimizer = "muon"`.
        paces: what the method moves more slowly, or later (`Method.param_groups`).
        keeper: what is done against forgetting, or None.
    """

    model: nn.Module
    compute: Compute
    train: Feed
    validation: Feed
    loss: Loss
    weight: Weight
    score: Score
    main: str
    settings: Train
    seed: int
    folder: Path
    listeners: list[Listener] = field(default_factory=list[Listener])
    hidden: list[nn.Parameter] = field(default_factory=list[nn.Parameter])
    param_groups: list[ParamGroup] = field(default_factory=list[ParamGroup])
    keeper: Keeper | None = None

    def __post_init__(self) -> None:
        assert self.settings.epochs and self.settings.learning_rate
        epochs = range(self.settings.epochs)
        starts, sizes = [0], list[int]()
        for epoch in epochs:
            plan = self.train.epoch(self.seed, epoch)
            starts.append(starts[-1] + len(plan))
            sizes += [len(rows) for rows in plan]
        if self.keeper is not None:
            self.keeper.plan(sizes, self.seed)
        self.total = starts.pop()
        self.progress = Progress()
        self.optimizer = Optimizer(
            self.model,
            name=self.settings.optimizer,
            learning_rate=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            total=self.total,
            warmup=self.settings.warmup,
            schedule=self.settings.schedule,
            max_grad_norm=self.settings.max_grad_norm,
            hidden=self.hidden,
            param_groups=self.param_groups,
            epoch_starts=starts,
        )
        self._trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self._kept: dict[str, Tensor] = {}
        self._epoch_loss: list[float] = [0.0, 0.0]

    def run(self, *, resume: bool = False) -> Progress:
        """Train and leave the kept weights in the model.

        Raises `Interrupted` after Ctrl-C (a checkpoint stands), `RunError` when the loss is not a
        number or the disk is full.
        """
        if resume:
            self._load()
        log = Log(self.folder, self.total, self.progress.step)
        with log, _stop_signals() as stopped:
            self._loop(log, stopped)
        self._use_kept()
        where, epochs = self.progress, self.settings.epochs or 0
        asked = {"kept_by": self.settings.keep, "epochs": epochs}
        for row in where.history:
            row |= {"kept": row["epoch"] == where.kept_epoch, **asked}
        log.close(epochs=epochs, best_step=where.best_step, best_score=where.best_score)
        return where

    def _loop(self, log: Log, stopped: threading.Event) -> None:
        where, epochs = self.progress, self.settings.epochs or 0
        saved = time.monotonic()
        if where.epoch and self._enough():
            return
        begun = time.perf_counter()
        running = steps(
            self.train, self.compute, self.optimizer, self.loss, self.weight,
            epochs=epochs, seed=self.seed, done=where.step, keeper=self.keeper,
        )  # fmt: skip
        for step in running:
            self._count(step)
            log.step(step)
            for listener in self.listeners:
                listener.step(step, self.total)
            if step.ends_epoch:
                self._validate(step, log)
            now = time.perf_counter()
            where.seconds, begun = where.seconds + now - begun, now
            if stopped.is_set():
                self._save()
                raise Interrupted(f"stopped after step {where.step} of {self.total}")
            if step.ends_epoch and self._enough():
                return
            if time.monotonic() - saved >= self.settings.checkpoint_seconds:
                self._save()
                saved, begun = time.monotonic(), time.perf_counter()

    def _count(self, step: Step) -> None:
        where = self.progress
        loss = float(step.loss)
        if not np.isfinite(loss):
            raise RunError(
                f"the loss became {loss} at step {step.index}; "
                f"lower train.learning_rate (it is {self.settings.learning_rate})"
            )
        where.step, where.rows = step.index, where.rows + step.rows
        where.tokens += step.tokens
        self._epoch_loss[0] += loss * step.rows
        self._epoch_loss[1] += step.rows

    def _validate(self, step: Step, log: Log) -> None:
        """What an epoch came to; without validation rows the last one is kept."""
        where = self.progress
        figures = self.score(self.validation.predict()) if len(self.validation) else {}
        row: dict[str, Any] = {
            "epoch": step.epoch,
            "step": step.index,
            "train_loss": self._epoch_loss[0] / max(self._epoch_loss[1], 1),
        }
        if figures:
            row |= {"validation_loss": figures["loss"], "validation_score": figures[self.main]}
        row |= {key: value for key, value in figures.items() if key.startswith(OF_EACH)}
        self._epoch_loss = [0.0, 0.0]
        where.epoch = step.epoch
        where.history.append(row)
        named = {f"eval_{key}": value for key, value in figures.items()}
        log.write(step=step.index, epoch=step.epoch, **named)
        if figures:
            self._judge(figures[self.main], step)
        else:
            where.kept_epoch = step.epoch
        for listener in self.listeners:
            listener.epoch(row)

    def _judge(self, score: float, step: Step) -> None:
        """Whether this is the best epoch so far, and whether its weights are kept."""
        where, best = self.progress, self.progress.best_score
        if best is None or score > best:
            where.best_score, where.best_step, where.best_epoch = score, step.index, step.epoch
        if best is None or score > best - self._slack(best):
            where.kept_epoch = step.epoch
            self._remember()

    def _slack(self, best: float) -> float:
        """How far below the best a later epoch may score and still be kept.

        A validation score is itself uncertain, by about sqrt(s (1 - s) / n). Among epochs that
        this cannot tell apart the latest is taken, where the learning rate has come to rest: the
        one-standard-error rule (Breiman et al. 1984) with "later" in the place of "simpler".
        """
        if self.settings.keep == "one_se":
            judged = getattr(self.validation, "judged", len(self.validation))
            return float(np.sqrt(max(best * (1 - best), 0.0) / max(judged, 1)))
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

    @torch.no_grad()
    def _use_kept(self) -> None:
        for name, weights in self._kept.items():
            self._trained[name].copy_(weights)
        self.compute.half_done()

    def _save(self) -> None:
        where = self.progress
        tensors = {f"model.{name}": weights for name, weights in self._trained.items()}
        tensors |= {f"kept.{name}": weights for name, weights in self._kept.items()}
        tensors |= {f"optimizer.{key}": value for key, value in self.optimizer.state().items()}
        state = {**vars(where), "epoch_loss": self._epoch_loss, "total": self.total}
        checkpoint.save(self.folder / "checkpoints", where.step, tensors, state)

    @torch.no_grad()
    def _load(self) -> None:
        path = checkpoint.newest(self.folder / "checkpoints")
        if path is None:
            return
        tensors, state = checkpoint.load(path)
        if state.pop("total") != self.total:
            raise RunError(f"{path} is of another run: its number of steps differs")
        self._epoch_loss = state.pop("epoch_loss")
        self.progress = Progress(**state)
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "kept": {}, "optimizer": {}}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            parts[kind][rest] = value.to(self.compute.device)
        for name, value in parts["model"].items():
            self._trained[name].copy_(value)
        self._kept = parts["kept"]
        self.optimizer.load_state(parts["optimizer"])
        self.compute.half_done()


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set an event; a second Ctrl-C stops at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

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
