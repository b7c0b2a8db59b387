"""Scores of any number of labels per text: micro, macro and sample F1, exact rows, ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, Measure, Scores, ratio
from warmstart.metrics.counts import class_bearing, class_scores

BLOCK = 4_000_000  # comparisons of two labels' scores held at once


class Labels(Measure):
    """F1 and ranking of label scores [n, K] against true labels [n, K] (0 or 1).

    A label is predicted where its score reaches its threshold. `f1_samples` is the mean of the
    rows' own F1; a row without labels, of which none is predicted, is right (scikit-learn:
    zero_division=1). `subset_accuracy`: rows without any fault. `ranking_precision`: label ranking
    average precision, which no threshold changes. Statistics [n, 3 K + 4]: right, predicted and
    actual per label, then 1, sample F1, exact and ranking precision of the row.
    """

    def __init__(self, labels: Sequence[str], thresholds: float | NDArray[Any] = 0.5) -> None:
        self.labels = tuple(labels)
        self.thresholds = np.broadcast_to(np.asarray(thresholds, float), (len(self.labels),))

    def rows(
        self, predictions: Sequence[Any] | NDArray[Any], references: Sequence[Any] | NDArray[Any]
    ) -> Floats:
        scores, truth = np.asarray(predictions, float), np.asarray(references).astype(bool)
        if scores.shape != truth.shape or scores.shape[1:] != (len(self.labels),):
            raise ValueError(f"scores {scores.shape} and true labels {truth.shape} do not fit")
        given = scores >= self.thresholds
        right = given & truth
        named = given.sum(1) + truth.sum(1)
        own_f1 = np.where(named == 0, 1.0, ratio(2 * right.sum(1), named))
        exact = (given == truth).all(1)
        whole = np.stack([np.ones(len(truth)), own_f1, exact, ranking_precision(scores, truth)], 1)
        return np.concatenate([right, given, truth, whole], axis=1).astype(np.float64)

    def weighted(self, rows: Floats, weights: Floats) -> Scores:
        sums = weights @ rows
        count, own_f1, exact, ranking = np.moveaxis(sums[..., -4:], -1, 0)
        return {
            **class_scores(sums, self.labels, rows.sum(0)),
            "f1_samples": ratio(own_f1, count),
            "subset_accuracy": ratio(exact, count),
            "ranking_precision": ratio(ranking, count),
        }

    def bearing(self, rows: Floats) -> dict[str, int]:
        return class_bearing(rows, self.labels)


def ranking_precision(scores: Floats, truth: NDArray[np.bool_]) -> Floats:
    """Label ranking average precision of each row [n]: scores and truth [n, K].

    For each true label, the share of true ones among the labels scored at least as high; the mean
    over the row's true labels. 1 for a row with no true label or with all.
    """
    n, k = scores.shape
    found = np.ones(n)
    step = max(1, BLOCK // max(1, k * k))
    for start in range(0, n, step):
        score, true = scores[start : start + step], truth[start : start + step]
        above = score[:, None, :] >= score[:, :, None]  # [row, label, other]
        hits = ratio((above & true[:, None, :]).sum(2), above.sum(2))
        count = true.sum(1)
        mean = ratio((hits * true).sum(1), count)
        found[start : start + step] = np.where((count == 0) | (count == k), 1.0, mean)
    return found
