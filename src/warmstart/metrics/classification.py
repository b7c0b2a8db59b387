"""Precision, recall, F1 and what is made of them, for one result or a thousand resamples.

Accuracy, F1 and Matthews correlation need no more of a confusion matrix than its diagonal and its
two margins. A `Tally` holds these three as arrays of shape [..., k], so every score works on one
test set ([k] in, a number out) and on all bootstrap resamples at once ([draws, k] in, [draws] out).
Entities, labels of words and sets of labels are counted with the same three: `CountMeasure`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, Measure, Scores, ratio

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
    return ratio(t.right.sum(-1), t.actual.sum(-1))


def precision(t: Tally) -> Floats:
    """Per class [..., k]: of the rows predicted as it, the share that is of it. 0 where none."""
    return ratio(t.right, t.predicted)


def recall(t: Tally) -> Floats:
    """Per class [..., k]: of the rows that are of it, the share predicted so. 0 where none."""
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


METRICS: dict[str, Callable[[Tally], Floats]] = {
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


class ClassMeasure(Measure):
    """Accuracy, F1 and Matthews correlation of single labels of `k` classes.

    Predictions and references: class numbers [n]. Statistics [n, 2]: the true class, the predicted
    one. `labels`, where given, name the k classes, and their own precision, recall and F1 are
    figures too: `f1:LABEL`.
    """

    repeats = True

    def __init__(
        self, k: int, labels: Sequence[str] = (), counts: NDArray[Any] | None = None
    ) -> None:
        self.k, self.labels, self.counts = k, tuple(labels), counts

    def rows(self, predictions: NDArray[Any], references: NDArray[Any]) -> Floats:
        return np.stack([references, predictions], axis=1).astype(np.float64)

    def with_counts(self, counts: NDArray[Any]) -> ClassMeasure:
        return ClassMeasure(self.k, self.labels, counts)

    def weighted(self, rows: Floats, weights: Floats) -> Scores:
        eye = np.eye(self.k)
        actual, predicted = (eye[column.astype(np.int64)] for column in rows.T)
        right = actual * predicted
        counts = np.ones(len(rows)) if self.counts is None else self.counts.astype(np.float64)
        whole = Tally(counts @ right, counts @ predicted, counts @ actual)
        t = Tally(weights @ right, weights @ predicted, weights @ actual, whole)
        scores = {name: metric(t) for name, metric in METRICS.items()}
        return {**scores, **_of_each_class(self.labels, f1(t), precision(t), recall(t))}

    def bearing(self, rows: Floats) -> dict[str, int]:
        t = tally(rows[:, 0], rows[:, 1], self.k)
        return _bearing(self.labels, t.predicted + t.actual - t.right, t.predicted, t.actual)

    def lowest(self, name: str) -> float:
        return -1.0 if name == "matthews_correlation" else 0.0

    def correct(self, rows: Floats) -> NDArray[np.bool_]:
        return rows[:, 0] == rows[:, 1]

    def class_units(self, rows: Floats, unit: Ints) -> Ints:
        return _units_of(rows[:, 0].astype(np.int64), unit)

    def discord(self, a: Floats, b: Floats) -> float:
        return float((self.correct(a) != self.correct(b)).mean())


class CountMeasure(Measure):
    """Micro and macro figures and those of each label, from counts of every label.

    The first 3 K statistics of a row are how often each label is right, predicted and true.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)

    def weighted(self, rows: Floats, weights: Floats) -> Scores:
        return self.of_sums(weights @ rows, rows.sum(0))

    def of_sums(self, sums: Floats, whole: Floats) -> Scores:
        """Figures [...] from sums [..., 3 K or more]; `whole` are those of all rows, of which a
        resample keeps what it does not say (`f1`, `Tally.judged`)."""
        t = Tally(*_thirds(sums, self.labels), Tally(*_thirds(whole, self.labels)))
        right, predicted, actual = (part.sum(-1) for part in (t.right, t.predicted, t.actual))
        return {
            "f1_micro": ratio(2 * right, predicted + actual),
            "precision_micro": ratio(right, predicted),
            "recall_micro": ratio(right, actual),
            "f1_macro": f1_macro(t),
            **_of_each_class(self.labels, f1(t), precision(t), recall(t)),
        }

    def bearing(self, rows: Floats) -> dict[str, int]:
        _, predicted, actual = (part > 0 for part in _thirds(rows, self.labels))
        either = predicted | actual
        return _bearing(self.labels, either.sum(0), predicted.sum(0), actual.sum(0))

    def class_units(self, rows: Floats, unit: Ints) -> Ints:
        row, label = np.nonzero(_thirds(rows, self.labels)[2])
        return _units_of(label, unit[row])

    def discord(self, a: Floats, b: Floats) -> float:
        (ours, _, actual), (theirs, _, _) = (_thirds(rows, self.labels) for rows in (a, b))
        return float(ratio(np.abs(ours - theirs).sum(), actual.sum()))


def _units_of(classes: Ints, unit: Ints) -> Ints:
    """The number of units in which each class stands, of those that stand in any [K]."""
    pairs = np.unique(np.stack([classes, unit], 1), axis=0)
    return np.unique(pairs[:, 0], return_counts=True)[1]


def _of_each_class(
    names: Sequence[str], f1: NDArray[Any], precision: NDArray[Any], recall: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Three figures [..., K] of the classes, by name."""
    columns = {"f1": f1, "precision": precision, "recall": recall}
    return {
        f"{figure}:{name}": values[..., i]
        for i, name in enumerate(names)
        for figure, values in columns.items()
    }


def _bearing(names: Sequence[str], *counts: NDArray[Any]) -> dict[str, int]:
    """How many rows [K] bear on the F1, precision and recall of each class."""
    return {name: int(count) for name, count in _of_each_class(names, *counts).items()}


def _thirds(counts: Floats, labels: Sequence[str]) -> tuple[Floats, Floats, Floats]:
    """The right, the predicted and the actual, each [..., K], of counts [..., 3 K or more]."""
    right, predicted, actual = np.split(counts[..., : 3 * len(labels)], 3, axis=-1)
    return right, predicted, actual
