"""The contract of a baseline."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from warmstart.tasks.base import Examples


class Baseline:
    """Predictions without the model.

    Args:
        task: whose rows are predicted.
        rows: the most training rows that a costly baseline may learn from.
        seed: which ones they are, if there are more.
    """

    name: ClassVar[str]
    """What it is called in metrics.json."""
    title: str
    """What it is called in sentences."""

    def __init__(self, task: Any, rows: int, seed: int) -> None:
        self.task, self.rows, self.seed = task, rows, seed
        self.notes: list[str] = []
        """What is to be known of it."""

    def fit(self, train: Examples, validation: Examples | None = None) -> Self | None:
        """The baseline, fitted on train; strengths are chosen on validation. None where these rows
        teach it nothing."""
        return self

    def predict(self, rows: Examples) -> Any:
        """Predictions for the rows, in the form that `TaskResult.score` of the task takes."""
        raise NotImplementedError

    def sample(self, train: Examples, classes: NDArray[Any] | None = None) -> NDArray[np.int64]:
        """At most `self.rows` numbers of training rows, in order, with at least one of each of the
        `classes` [n]; a note says so where there are more."""
        count = len(train)
        if count <= self.rows:
            return np.arange(count)
        order = np.random.default_rng(self.seed).permutation(count)
        y = np.zeros(count, np.int64) if classes is None else classes
        _, first = np.unique(y[order], return_index=True)
        rest = np.delete(order, first)[: max(0, self.rows - len(first))]
        chosen = np.sort(np.concatenate([order[first], rest]))
        self.notes.append(f"It was trained on {len(chosen):,} of the {count:,} training rows.")
        return chosen


class Untuned(Baseline):
    """The base itself, whose outputs on the test rows were kept before training."""

    name = "untuned"
    title = "the base, untuned"

    def __init__(self, outputs: Any) -> None:
        super().__init__(None, 0, 0)
        self.outputs = outputs

    def predict(self, rows: Examples) -> Any:
        return self.outputs


class BaseRate(Untuned):
    """The same answer for every token: how often it is true of the test rows, which is more than a
    model could know."""

    name = "base_rate"
    title = "the share of replaced tokens alone"
