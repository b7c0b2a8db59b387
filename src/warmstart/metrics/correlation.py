"""Scores of a number per row: Pearson and Spearman correlation, MSE, MAE, R²."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, Measure, Scores, ratio

FLAT = 1e-12  # a variance, relative to one, that is rounding
X, Y = 1, 2  # columns of the standardized predictions and references


class Agreement(Measure):
    """Correlations and errors of predicted numbers [n] against true ones [n].

    A correlation with something constant is 0 here (scipy: nan). R² is as scikit-learn has it: of
    constant references 1 if all predictions are right, else 0. Statistics [n, 12]: 1; predictions
    and references standardized, x and y; x², y², xy; squared and absolute error; the centred
    reference and its square; rank of prediction and reference.

    Ranks do not add up. `weighted` ranks each resample anew, exactly, ties sharing their mean rank.
    """

    lower_is_better = frozenset({"mse", "mae"})

    def rows(
        self,
        predictions: Sequence[float] | NDArray[Any],
        references: Sequence[float] | NDArray[Any],
    ) -> Floats:
        predicted, true = np.asarray(predictions, float), np.asarray(references, float)
        if predicted.shape != true.shape or predicted.ndim != 1:
            raise ValueError(f"predictions {predicted.shape} and references {true.shape} differ")
        x, y, error = _standardized(predicted), _standardized(true), predicted - true
        centred = true - (true.mean() if len(true) else 0.0)
        columns = (np.ones(len(true)), x, y, x * x, y * y, x * y, error**2, np.abs(error))
        ranks = (_codes(predicted), _codes(true))
        return np.stack([*columns, centred, centred**2, *ranks], axis=1).astype(np.float64)

    def score(self, sums: Floats) -> Scores:
        """All figures but Spearman's, which no sums give."""
        n, x, y, xx, yy, xy, squared, absolute, centred, spread = np.moveaxis(sums[..., :10], -1, 0)
        total = spread - ratio(centred**2, n)
        flat = total <= FLAT * np.maximum(spread, 1e-300)
        r2 = np.where(flat, np.where(squared == 0, 1.0, 0.0), 1.0 - ratio(squared, total))
        return {
            "pearson": _correlation(n, x, y, xx, yy, xy),
            "mse": ratio(squared, n),
            "mae": ratio(absolute, n),
            "r2": r2,
        }

    def weighted(self, rows: Floats, weights: Floats) -> Scores:
        scores = self.score(weights @ rows)
        each = np.atleast_2d(weights)
        spearman = weighted_correlation(
            weighted_ranks(rows[:, -2], each), weighted_ranks(rows[:, -1], each), each
        )
        return {**scores, "spearman": spearman.reshape(weights.shape[:-1])}

    def highest(self, name: str) -> float | None:
        return None


def weighted_ranks(values: Floats, weights: Floats) -> Floats:
    """Mean ranks [draws, n] of values [n], each of which occurs `weights[draw, n]` times."""
    _, code = np.unique(values, return_inverse=True)
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    if not len(starts):
        return np.zeros_like(weights)
    of_value = np.add.reduceat(weights[:, order], starts, axis=1)
    rank = np.cumsum(of_value, axis=1) - (of_value - 1) / 2
    return rank[:, code.reshape(-1)]


def weighted_correlation(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Pearson's correlation [draws] of x and y [draws, n]; row i occurs weights[draw, i] times."""
    n = weights.sum(-1, keepdims=True)
    x = x - ratio((weights * x).sum(-1, keepdims=True), n)
    y = y - ratio((weights * y).sum(-1, keepdims=True), n)
    spread = np.sqrt((weights * x * x).sum(-1) * (weights * y * y).sum(-1))
    return np.clip(ratio((weights * x * y).sum(-1), spread), -1.0, 1.0)


def _correlation(n: Floats, x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    """Pearson's correlation from sums; 0 where either side does not vary."""
    left, right = xx - ratio(x * x, n), yy - ratio(y * y, n)
    varies = (left > FLAT * n) & (right > FLAT * n)
    spread = np.where(varies, np.sqrt(np.maximum(left * right, 0.0)), 0.0)
    return np.clip(ratio(xy - ratio(x * y, n), spread), -1.0, 1.0)


def _standardized(values: Floats) -> Floats:
    """Mean 0, variance 1; zeros where the values do not vary."""
    if not len(values) or np.ptp(values) <= FLAT * np.abs(values).max():
        return np.zeros(len(values))
    return (values - values.mean()) / values.std()


def _codes(values: Floats) -> Floats:
    """The values as 0, 1, 2 … in order: what a rank can see of them."""
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.float64)
