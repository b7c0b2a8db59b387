"""`warmstart.tune` with a clock on the same stretch of work as the Trainer's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import warmstart
from _common import load, peak_mb, process_seconds
from warmstart.training import trainer as fit
from warmstart.training.loop import Step
from warmstart.types import Listener


class Clock(Listener):
    """Sums the wall time of the epochs, from before the first batch is planned until after the
    last step was counted, logged and told to the listeners; validation lies outside.

    The loop's generator is wrapped to learn when the first epoch begins: planning the batches and
    drawing the dropout pool happen before the first step and belong to the training.
    """

    def __init__(self) -> None:
        self.seconds, self.begun, self.rows = 0.0, 0.0, 0
        self._steps = fit.steps

    def __enter__(self) -> Clock:
        def begun(*args: Any, **keys: Any) -> Iterator[Step]:
            self.begun = time.perf_counter()
            yield from self._steps(*args, **keys)

        fit.steps = begun
        return self

    def __exit__(self, *error: object) -> None:
        fit.steps = self._steps

    def step(self, step: Step, total: int) -> None:
        self.rows += step.rows
        if step.ends_epoch:
            self.seconds += time.perf_counter() - self.begun

    def epoch(self, row: dict[str, Any]) -> None:
        self.begun = time.perf_counter()


def as_the_trainer(request: dict[str, Any]) -> dict[str, Any]:
    """What makes `warmstart.tune` do as the Trainer does."""
    return {
        "seed": request["seed"],
        "out": str(Path(request["folder"]) / "run"),
        "task.max_length": request["max_length"],
        "train.epochs": request["epochs"],
        "train.batch_size": request["batch_size"],
        "train.learning_rate": request["learning_rate"],
        "train.weight_decay": request["weight_decay"],
        "train.max_grad_norm": 1.0,
        "train.schedule": "linear",
        "train.warmup": 0.0,
        "train.precision": request["precision"],
        "train.device": "cpu",
        "train.patience": 0,
        "train.keep": "last",
        "train.checkpoint_seconds": 1e9,
        "evaluate.baselines": False,
    }


def train(request: dict[str, Any]) -> dict[str, Any]:
    """Tune with the whole run folder (report, proof, card); then score the saved folder."""
    data = Path(request["data"])
    keys = {**as_the_trainer(request), "evaluate.baselines": request["baselines"]}
    with Clock() as clock:
        run = warmstart.tune(data, method="full", listeners=[clock], **keys)
    seconds, peak = process_seconds(), peak_mb()
    from _trainer import plain_scores

    splits, _ = load(data)
    # a train row whose text is also in test is left out by warmstart, and said in its ledger
    expected = run.facts["rows"]["train"] * request["epochs"]
    assert clock.rows == expected, f"trained on {clock.rows} rows instead of {expected}"
    return {
        "seconds": clock.seconds,
        "rows_per_second": clock.rows / clock.seconds,
        "process_seconds": seconds,
        "peak_mb": peak,
        "rows": clock.rows,
        **plain_scores(run.model, splits["test"], request),
    }
