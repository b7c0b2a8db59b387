"""From which score on a label is given: one threshold per label, tuned on validation rows.

The threshold with the best F1 on few positive rows is mostly chance (Fan & Lin 2007). So each
label's own best threshold is drawn towards the one that serves all labels together, in log-odds,
and the fewer positive rows it has, the more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, ratio

GRID = 200
LEAST = 1e-7  # probabilities stay this far from 0 and 1


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


def log_odds(probabilities: NDArray[Any]) -> Floats:
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
    given = np.arange(1, len(odds) + 1)[:, None]
    below = np.concatenate([ranked[1:], ranked[-1:] - 1.0])  # the last cut gives it to every row
    f1 = np.where(ranked > below, 2 * right / (given + truth.sum(0)), -1.0)
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
        given = _at_least(odds[:, label], grid)
        right = _at_least(odds[truth[:, label], label], grid)
        total += ratio(2 * right, given + truth[:, label].sum())
    best = np.flatnonzero(total == total.max())
    return float(grid[best[len(best) // 2]])


def _at_least(values: Floats, grid: Floats) -> NDArray[np.int64]:
    """How many of the values reach each point of the grid."""
    return len(values) - np.searchsorted(np.sort(values), grid, side="left")
