"""Scores of any number of labels per text: micro, macro and sample F1, exact rows, ranking.

And from which probability on a label is given. The threshold with the best F1 on few positive rows
is mostly chance (Fan & Lin 2007). So each label's own best threshold is drawn towards the one that
serves all labels together, in log-odds, and the fewer positive rows it has, the more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, Scores, ratio
from warmstart.metrics.classification import CountMeasure

BLOCK = 4_000_000  # comparisons of two labels' scores held at once
GRID = 200  # thresholds that are tried for all labels together
LEAST = 1e-7  # probabilities stay this far from 0 and 1


class Labels(CountMeasure):
    """F1 and ranking of label scores [n, K] against true labels [n, K] (0 or 1).

    A label is predicted where its score reaches its threshold. `f1_samples` is the mean of the
    rows' own F1; a row without labels, of which none is predicted, is right (scikit-learn:
    zero_division=1). `subset_accuracy`: rows without any fault. `ranking_precision`: label ranking
    average precision, which no threshold changes. Statistics [n, 3 K + 4]: right, predicted and
    actual per label, then 1, sample F1, exact and ranking precision of the row.
    """

    def __init__(self, labels: Sequence[str], thresholds: float | NDArray[Any] = 0.5) -> None:
        super().__init__(labels)
        self.thresholds = np.broadcast_to(np.asarray(thresholds, float), (len(self.labels),))

    def rows(
        self, predictions: Sequence[Any] | NDArray[Any], references: Sequence[Any] | NDArray[Any]
    ) -> Floats:
        scores, truth = np.asarray(predictions, float), np.asarray(references).astype(bool)
        if scores.shape != truth.shape or scores.shape[1:] != (len(self.labels),):
            raise ValueError(f"scores {scores.shape} and true labels {truth.shape} do not fit")
        predicted = scores >= self.thresholds
        right = predicted & truth
        named = predicted.sum(1) + truth.sum(1)
        own_f1 = np.where(named == 0, 1.0, ratio(2 * right.sum(1), named))
        exact = (predicted == truth).all(1)
        whole = np.stack([np.ones(len(truth)), own_f1, exact, ranking_precision(scores, truth)], 1)
        return np.concatenate([right, predicted, truth, whole], axis=1).astype(np.float64)

    def weighted(self, rows: Floats, weights: Floats) -> Scores:
        sums = weights @ rows
        count, own_f1, exact, ranking = np.moveaxis(sums[..., -4:], -1, 0)
        return {
            **self.of_sums(sums, rows.sum(0)),
            "f1_samples": ratio(own_f1, count),
            "subset_accuracy": ratio(exact, count),
            "ranking_precision": ratio(ranking, count),
        }


def ranking_precision(scores: Floats, truth: NDArray[np.bool_]) -> Floats:
    """Label ranking average precision of each row [n]: scores and truth [n, K].

    For each true label, the share of true ones among the labels scored at least as high; the mean
    over the row's true labels. 1 for a row with no true label or with all.
    """
    n, k = scores.shape
    precision = np.ones(n)
    step = max(1, BLOCK // max(1, k * k))
    for start in range(0, n, step):
        score, true = scores[start : start + step], truth[start : start + step]
        above = score[:, None, :] >= score[:, :, None]  # [row, label, other]
        hits = ratio((above & true[:, None, :]).sum(2), above.sum(2))
        count = true.sum(1)
        mean = ratio((hits * true).sum(1), count)
        precision[start : start + step] = np.where((count == 0) | (count == k), 1.0, mean)
    return precision


def tuned_thresholds(
    probabilities: NDArray[Any], truth: NDArray[Any], prior: float = 30.0
) -> Floats:
    """Thresholds [K] for high F1 of each label, from validation rows [n, K].

    A label with as many positive rows as `prior` lies halfway between its own best threshold and
    the common one; without any, on the common one. `prior` 0 trusts every label's own.
    """
    odds, true = log_odds(probabilities), np.asarray(truth).astype(bool)
    positives = true.sum(0).astype(float)
    if not positives.any():
        return np.full(true.shape[1], 0.5)
    trust = ratio(positives, positives + prior)
    cuts = trust * best_cuts(odds, true) + (1.0 - trust) * common_cut(odds, true)
    return 1.0 / (1.0 + np.exp(-cuts))


def log_odds(probabilities: NDArray[Any] | float) -> Floats:
    """log(p / (1 - p)), finite."""
    p = np.clip(np.asarray(probabilities, float), LEAST, 1.0 - LEAST)
    return np.log(p) - np.log1p(-p)


def best_cuts(odds: Floats, truth: NDArray[np.bool_]) -> Floats:
    """For each label [K] the cut with the best F1, midway between two neighbouring scores.

    Of equal F1 the higher cut, which gives the label less often. 0 for a label that never occurs.
    """
    order = np.argsort(-odds, axis=0, kind="stable")
    ranked = np.take_along_axis(odds, order, axis=0)
    right = np.cumsum(np.take_along_axis(truth, order, axis=0), axis=0)
    predicted = np.arange(1, len(odds) + 1)[:, None]
    below = np.concatenate([ranked[1:], ranked[-1:] - 1.0])  # the last cut gives it to every row
    f1 = np.where(ranked > below, 2 * right / (predicted + truth.sum(0)), -1.0)
    best = f1.argmax(0)[None]
    cut = (np.take_along_axis(ranked, best, 0) + np.take_along_axis(below, best, 0))[0] / 2
    return np.where(truth.any(0), cut, 0.0)


def common_cut(odds: Floats, truth: NDArray[np.bool_]) -> float:
    """The one cut with the best macro-F1, over the labels that occur in the truth; of several such
    cuts the one in the middle."""
    occurs = np.flatnonzero(truth.any(0))
    grid = np.linspace(odds.min(), odds.max(), GRID)
    total = np.zeros(GRID)
    for label in occurs:
        predicted = _at_least(odds[:, label], grid)
        right = _at_least(odds[truth[:, label], label], grid)
        total += ratio(2 * right, predicted + truth[:, label].sum())
    best = np.flatnonzero(total == total.max())
    return float(grid[best[len(best) // 2]])


def _at_least(values: Floats, grid: Floats) -> NDArray[np.int64]:
    """How many of the values reach each point of the grid."""
    return len(values) - np.searchsorted(np.sort(values), grid, side="left")
