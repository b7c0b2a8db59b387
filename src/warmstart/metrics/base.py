"""What a score is made of: statistics of each row, and figures from their weighted sums.

The strings are read once, by `Measure.rows`. From then on a test set, a bootstrap resample of it
and a mixture of two systems are only different weights over the same rows, so one resampling
(`warmstart.metrics.bootstrap`) gives the intervals of every score.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scores = dict[str, Floats]
"""Name of a figure → its value for each vector of weights, [...]."""


class Measure:
    """Figures of a result from statistics of its rows; subclasses fill in `rows` and `score`, or
    `weighted` in its place where a figure needs to know all rows."""

    lower_is_better: frozenset[str] = frozenset()
    """Names of figures of which less is better; all others count upwards."""
    repeats: bool = False
    """Whether many rows have the same statistics, so that distinct rows with their counts stand for
    all: see `with_counts`."""

    def rows(self, predictions: Any, references: Any) -> Floats:
        """Statistics [n, S] of n predictions, each beside its reference."""
        raise NotImplementedError

    def score(self, sums: Floats) -> Scores:
        """Figures [...] from the sums [..., S] of the rows' statistics."""
        raise NotImplementedError

    def weighted(self, rows: Floats, weights: Floats) -> Scores:
        """Figures [...] of `rows` [n, S], where row i occurs `weights[..., i]` times."""
        return self.score(weights @ rows)

    def with_counts(self, counts: NDArray[Any]) -> Measure:
        """The measure of distinct rows, of which row i occurs `counts[i]` times in the result."""
        raise NotImplementedError

    def total(self, rows: Floats, weights: Floats | None = None) -> dict[str, float]:
        """Figures of a result from its rows [n, S], each of which counts once or `weights[i]`."""
        scores = self.weighted(rows, np.ones(len(rows)) if weights is None else weights)
        return {name: float(value) for name, value in scores.items()}

    def __call__(self, predictions: Any, references: Any) -> dict[str, float]:
        """Figures of a result."""
        return self.total(self.rows(predictions, references))

    def highest(self, name: str) -> float | None:
        """The perfect value of a figure that lies between `lowest` and it; None where there is
        none."""
        return 1.0

    def lowest(self, name: str) -> float:
        """The worst value of a figure that has a highest."""
        return 0.0

    def correct(self, rows: Floats) -> NDArray[np.bool_] | None:
        """Which rows are right [n], where each is either right or wrong; else None."""
        return None

    def bearing(self, rows: Floats) -> dict[str, int]:
        """How many rows bear on a figure, for those figures on which not all of them do."""
        return {}

    def class_units(self, rows: Floats, unit: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Of how many units each class is that a mean is over [K], where there is such a mean;
        row i belongs to unit `unit[i]`."""
        return None

    def discord(self, a: Floats, b: Floats) -> float:
        """The share of the true answers that only one of two systems gives, where there is a mean
        over classes; the statistics [n, S] are of the same rows."""
        return 0.0


def ratio(top: Any, bottom: Any) -> Floats:
    """top / bottom, and 0 where there is nothing to divide by."""
    top, bottom = np.broadcast_arrays(np.asarray(top, float), np.asarray(bottom, float))
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom > 0)


def score_error(score: float, rows: int, span: tuple[float, float] = (0.0, 1.0)) -> float:
    """About one standard error of a score that so many rows were judged by: that of a share, where
    `span` are the worst and the best score."""
    low, high = span
    share = min(max((score - low) / (high - low), 0.0), 1.0)
    return (high - low) * (share * (1.0 - share) / max(rows, 1)) ** 0.5


def softmax(logits: NDArray[Any], temperature: float = 1.0) -> Floats:
    """Probabilities [..., K] of logits divided by the temperature, in float64."""
    wide = np.asarray(logits, np.float64) / temperature
    raised = np.exp(wide - wide.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def sigmoid(logits: NDArray[Any]) -> Floats:
    """Probabilities of single logits, in float64."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, np.float64)))
