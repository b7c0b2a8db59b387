"""Which of two answers is the better: how often a model says what people said.

A score is whatever a model, a reward model or a rule gives an answer: its log-probability, a
number, its length. Only the two scores of one prompt are ever compared, so that any rising function
of a score gives the same accuracy. The mean gap has the unit of the scores, and says nothing
between models whose scores have different ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, Measure, Scores, ratio

TITLES = {"accuracy": "Pair accuracy", "ties": "Ties"}


class PairAccuracy(Measure):
    """The share of pairs whose chosen answer has the higher score; a tie counts half, so that a
    model that says nothing has 0.5.

    Statistics of a pair: right (1, ½ or 0), tie, gap of the scores, 1. `others` names further
    scores of the same pairs, whose accuracy is `accuracy_NAME`; each is one column more.
    """

    lower_is_better = frozenset({"ties"})

    def __init__(self, *others: str) -> None:
        self.others = others

    def rows(self, predictions: Any, references: Any = None) -> Floats:
        """Statistics [n, 4 + others] of scores [n, 2], or [n, 2, 1 + others], the chosen answer
        first. Where other scores are wanted and there are none, as of a rule, they are the first.
        """
        scores = np.asarray(predictions, np.float64).reshape(len(predictions), 2, -1)
        gaps = scores[:, 0] - scores[:, 1]
        right = (np.sign(gaps) + 1) / 2
        first = [right[:, 0], gaps[:, 0] == 0, gaps[:, 0], np.ones(len(gaps))]
        others = [right[:, min(k + 1, right.shape[1] - 1)] for k in range(len(self.others))]
        return np.stack([*first, *others], 1).astype(np.float64)

    def score(self, sums: Floats) -> Scores:
        count = sums[..., 3]
        figures = {"accuracy": ratio(sums[..., 0], count), "ties": ratio(sums[..., 1], count)}
        for k, name in enumerate(self.others):
            figures[f"accuracy_{name}"] = ratio(sums[..., 4 + k], count)
        with np.errstate(invalid="ignore", divide="ignore"):
            figures["gap"] = np.where(count > 0, sums[..., 2] / np.maximum(count, 1e-12), 0.0)
        return figures

    def highest(self, name: str) -> float | None:
        """Of shares 1; a gap has no best value, for a model may be surer still."""
        return None if name == "gap" else 1.0

    def correct(self, rows: Floats) -> NDArray[np.bool_] | None:
        """The pairs whose chosen answer is ahead; a tie is not right."""
        return rows[:, 0] > 0.5
