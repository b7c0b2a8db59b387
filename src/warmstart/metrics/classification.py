"""Scores of single-label classification, from tallies, for one result or a thousand resamples.

Accuracy, F1 and Matthews correlation need no more of a confusion matrix than its diagonal and its
two margins. A `Tally` holds these three as arrays of shape [..., k], so every score works on one
test set ([k] in, a number out) and on all bootstrap resamples at once ([draws, k] in, [draws] out).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, ratio

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tally:
    """Row counts per class, each [..., k]: rightly predicted, predicted as, and truly of it.

    `whole`: of resamples, the tally [k] of the rows that they are drawn from.
    """

    right: Floats
    predicted: Floats
    actual: Floats
    whole: Tally | None = None

    @property
    def judged(self) -> NDArray[np.bool_]:
        """The classes [..., k] that a mean is over: those of which there are true rows, in
        resamples the same ones for all."""
        return (self if self.whole is None else self.whole).actual > 0


def confusion_matrix(y: NDArray[Any], predicted: NDArray[Any], k: int) -> Ints:
    """Row counts [k, k]: the true class goes down, the predicted class across."""
    cells = np.asarray(y, dtype=np.int64) * k + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=k * k).reshape(k, k)


def tally(y: NDArray[Any], predicted: NDArray[Any], k: int) -> Tally:
    """The tally of one result: `y` and `predicted` are class numbers [n], 0 to k - 1."""
    matrix = confusion_matrix(y, predicted, k).astype(np.float64)
    return Tally(np.diagonal(matrix).copy(), matrix.sum(0), matrix.sum(1))


def accuracy(t: Tally) -> Floats:
    """Share of rows that are right."""
    return ratio(t.right.sum(-1), t.actual.sum(-1))


def precision(t: Tally) -> Floats:
    """Per class [..., k]: of the rows predicted as it, the share that is of it. 0 where none."""
    return ratio(t.right, t.predicted)


def recall(t: Tally) -> Floats:
    """Per class [..., k]: of the rows that are of it, the share that was found. 0 where none."""
    return ratio(t.right, t.actual)


def f1(t: Tally) -> Floats:
    """Per class [..., k]: 2 right / (predicted + actual), the harmonic mean of the two above.

    A resample that happens to hold no row of a class says nothing of it: there the class keeps
    the F1 that it has in the whole set.
    """
    own = ratio(2 * t.right, t.predicted + t.actual)
    return own if t.whole is None else np.where(t.actual > 0, own, f1(t.whole))


def f1_macro(t: Tally) -> Floats:
    """Mean F1 of the classes that are judged (`Tally.judged`); each class counts alike.

    A row that is wrongly given another class counts against its own class.
    """
    return ratio((f1(t) * t.judged).sum(-1), t.judged.sum(-1))


def f1_weighted(t: Tally) -> Floats:
    """Mean F1, each class counted by its number of true rows."""
    return ratio((f1(t) * t.actual).sum(-1), t.actual.sum(-1))


def matthews_correlation(t: Tally) -> Floats:
    """Matthews correlation for k classes, -1 to 1, 0 for guessing (Gorodkin 2004, R_K)."""
    rows = t.actual.sum(-1)
    covariance = t.right.sum(-1) * rows - (t.predicted * t.actual).sum(-1)
    spread_predicted = rows**2 - (t.predicted**2).sum(-1)
    spread_actual = rows**2 - (t.actual**2).sum(-1)
    return ratio(covariance, np.sqrt(spread_predicted * spread_actual))


Metric = Callable[[Tally], Floats]

METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1_macro": f1_macro,
    "f1_weighted": f1_weighted,
    "matthews_correlation": matthews_correlation,
}

TITLES = {
    "accuracy": "accuracy",
    "f1_macro": "macro-F1",
    "f1_weighted": "weighted F1",
    "matthews_correlation": "Matthews correlation",
}
