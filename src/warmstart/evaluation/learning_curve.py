"""What more labels would be worth: recall against the number of labels, on frozen features.

A quick head (logistic regression) is trained on growing parts of the rows and judged on rows that
it has not seen. Its errors fall as a + b n^-c (Cortes et al. 1993; Hestness et al. 2017); the curve
is read further than the data reach, and only as far as resampling the rows agrees with itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.evaluation.label_errors import fold_of, probabilities, scaled

Floats = NDArray[np.float64]

FOLDS = 5
STEPS, HALVINGS = 6, 16.0  # sizes, and how many times smaller the first is than the last
DRAWS, LEVEL = 200, 0.95
C = 10.0
POWERS = np.linspace(0.1, 1.5, 15)
FURTHEST = 10.0  # times the labels that there are: no curve is read beyond
FEWEST_ROWS = 20
ALMOST_ALL = 0.97
POINTS = 5  # of recall, worth asking for
AGREED = 0.75  # share of the resamples that must give a number
REPEATS = ((2_000, 5), (8_000, 3), (1 << 62, 2))  # up to so many rows, so many subsets a fold


def learning_curve(
    features: np.ndarray,
    targets: np.ndarray,
    seed: int,
    sizes: Sequence[int] | None = None,
    *,
    labels: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Recall of each class, its F1 and the macro-F1 against the number of labels, JSON-able.

    Every row is judged at every size by heads that have not seen it: 5 folds, two to five times
    over with other subsets. Intervals at 95 % from resampling the rows and the subsets.

    Args:
        features: [n, H], of any scale.
        targets: [n] class numbers; copies should have been left out.
        sizes: training rows, ascending; unset: six, up to all that a fold leaves.
        labels: the names of the class numbers.

    Returns `sizes`, `macro_f1` (one {"value", "low", "high"} a size), `classes` and `needs`. Each
    of `classes` has `label`, `rows`, `labels` (of the class, by size), `recall`, `f1`, `expected`
    (the recall with all rows, by the curve), `more` with `more_low` and `more_high` (labels of this
    class for `POINTS` more of recall, the others growing alike; None where the curve does not say)
    and `why` there is no number. `needs` are the classes with a number, the fewest labels first.
    """
    classes, y = np.unique(np.asarray(targets, np.int64), return_inverse=True)
    k, rows = len(classes), np.bincount(y)
    most = len(y) - -(-len(y) // FOLDS)
    empty: dict[str, Any] = {"sizes": [], "macro_f1": [], "classes": [], "needs": []}
    if k < 2:
        return {**empty, "skipped": "fewer than two classes"}
    sizes = sorted({int(size) for size in sizes or default_sizes(most, k) if 0 < size <= most})
    if not sizes:
        return {**empty, "skipped": "too few rows"}
    x, repeats = scaled(features), next(times for most, times in REPEATS if len(y) <= most)
    predictions = np.stack([_predictions(x, y, sizes, seed * 5 + r) for r in range(repeats)])
    recalls, f1s = _scores(predictions, y, k, seed)
    share = np.array(sizes) / len(y)
    curves: list[dict[str, Any]] = []
    for c, (number, n) in enumerate(zip(classes.tolist(), rows.tolist(), strict=True)):
        recall = recalls[0, :, c], recalls[1:, :, c]
        curves.append({
            "label": str(number) if labels is None else labels[number],
            "rows": n,
            "labels": (share * n).round().tolist(),
            "recall": _with_bounds(*recall, n),
            "f1": _with_bounds(f1s[0, :, c], f1s[1:, :, c], n),
            **_more(*recall, share * n, n, POINTS / 100),
        })  # fmt: skip
    macro = _with_bounds(f1s[0].mean(1), f1s[1:].mean(2), len(y))
    needs = [
        {"label": curve["label"], "rows": curve["rows"], "recall": curve["expected"],
         "more": curve["more"], "gain": POINTS}
        for curve in sorted(curves, key=lambda curve: curve["more"] or 0) if curve["more"]
    ]  # fmt: skip
    return {"sizes": sizes, "points": POINTS, "macro_f1": macro, "classes": curves, "needs": needs}


def default_sizes(most: int, classes: int) -> list[int]:
    """Six sizes up to `most`, each about as many times the one before."""
    first = max(most / HALVINGS, 3.0 * classes, 10.0)
    return np.geomspace(min(first, most), most, STEPS).round().astype(int).tolist()


def _predictions(x: np.ndarray, y: np.ndarray, sizes: Sequence[int], seed: int) -> np.ndarray:
    """The class [sizes, n] that a head trained on so many other rows predicts for each row."""
    classes = int(y.max()) + 1
    fold = fold_of(y, np.arange(len(y)), FOLDS, seed)
    predicted = np.empty((len(sizes), len(y)), np.int64)
    for number in range(FOLDS):
        held = np.flatnonzero(fold == number)
        pool = _in_proportion(y, np.flatnonzero(fold != number), [seed, number])
        for i, size in enumerate(sizes):
            rows = pool[:size]
            p = probabilities(x[rows], y[rows], x[held], classes, C)
            predicted[i, held] = p.argmax(1)
    return predicted


def _in_proportion(y: np.ndarray, rows: np.ndarray, seed: list[int]) -> np.ndarray:
    """The rows in an order of which every beginning holds the classes in their proportion."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(rows)
    place = np.empty(len(rows))
    for c in np.unique(y[rows]):
        members = np.flatnonzero(y[rows] == c)
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return rows[np.argsort(place, kind="stable")]


def _scores(predictions: np.ndarray, y: np.ndarray, k: int, seed: int) -> tuple[Floats, Floats]:
    """Recall and F1 [1 + draws, sizes, K], as they are and then resampled: each draw has its rows,
    the same at all sizes, and its subsets. `predictions` [repeats, sizes, n]."""
    rng, repeats = np.random.default_rng([seed, 0xC0]), len(predictions)
    rows = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=DRAWS)
    rows = np.vstack([np.ones(len(y)), rows]).astype(np.float32)
    subsets = rng.multinomial(repeats, np.full(repeats, 1 / repeats), size=DRAWS)
    subsets = np.vstack([np.ones(repeats), subsets]) / repeats
    eye = np.eye(k, dtype=np.float32)
    actual = rows @ eye[y]
    recall, f1 = np.zeros((2, len(rows), predictions.shape[1], k))
    for share, repeat in zip(subsets.T[:, :, None], predictions, strict=True):
        for i, predicted in enumerate(repeat):
            right = rows @ (eye[y] * (predicted == y)[:, None])
            recall[:, i] += share * right / np.maximum(actual, 1)
            f1[:, i] += share * 2 * right / np.maximum(actual + rows @ eye[predicted], 1)
    return recall, f1


def _with_bounds(values: Floats, draws: Floats, rows: int) -> list[dict[str, float]]:
    """Value, low and high by size. At 0 and at 1 resampling claims certainty: there the bound is
    the exact one for `rows` cases without one exception (Clopper and Pearson 1934)."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    least = tail ** (1 / max(rows, 1))
    low = np.where(values >= 1, np.minimum(low, least), low)
    high = np.where(values <= 0, np.maximum(high, 1 - least), high)
    rounded = (np.round(np.stack([values, low, high], 1), 4)).tolist()
    return [{"value": v, "low": a, "high": b} for v, a, b in rounded]


def _more(recall: Floats, draws: Floats, labels: Floats, rows: int, gain: float) -> dict[str, Any]:
    """How many more labels of a class its curve asks for, or why it does not say."""
    errors = 1 - np.vstack([recall, draws])
    floor, height, power = _fit(errors, labels)
    now = floor + height * rows**-power
    result: dict[str, Any] = {"expected": round(float(1 - now[0]), 4)}
    result |= {"more": None, "more_low": None, "more_high": None, "why": None}
    if rows < FEWEST_ROWS:
        return result | {"why": f"fewer than {FEWEST_ROWS} rows are too few to say"}
    if 1 - now[0] >= ALMOST_ALL:
        return result | {"why": "nearly all are found already"}
    left = now - gain - floor
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wanted = np.where(left > 0, (height / np.maximum(left, 1e-12)) ** (1 / power), np.inf)
    more = np.where(wanted <= FURTHEST * rows, wanted - rows, np.inf)
    rising = draws[:, -1] - draws[:, len(labels) // 2]
    if np.quantile(rising, 0.1) <= 0:
        return result | {"why": "the curve is flat, as far as the rows can tell"}
    finite = np.isfinite(more).mean()
    if finite < 1 - AGREED:
        return result | {"why": "not within ten times the labels"}
    if finite < AGREED:
        return result | {"why": "the curve does not say: too few rows, or too small a gain"}
    low, middle, high = np.quantile(more, [0.1, 0.5, 0.9], method="nearest")
    high = None if not np.isfinite(high) else _round(high)
    return result | {"more": _round(middle), "more_low": _round(low), "more_high": high}


def _fit(errors: Floats, labels: Floats) -> tuple[Floats, Floats, Floats]:
    """Least squares of a + b n^-c with a, b >= 0 for each row of errors [m, sizes]: a, b, c [m].

    Larger sizes count more (by their root): their errors matter for what lies beyond.
    """
    weight = np.sqrt(labels / labels.sum())
    weight = weight / weight.sum()
    best = np.full(len(errors), np.inf)
    fit = np.zeros((3, len(errors)))  # floor, height, power
    for power in POWERS:
        x = np.maximum(labels, 1e-9) ** -power
        mean_x, mean_e = weight @ x, errors @ weight
        spread = weight @ (x - mean_x) ** 2
        slope = ((errors - mean_e[:, None]) * (x - mean_x)) @ weight / max(spread, 1e-30)
        slope = np.maximum(slope, 0.0)
        floor = mean_e - slope * mean_x
        through = (errors * x) @ weight / max(weight @ x**2, 1e-30)
        slope, floor = np.where(floor < 0, through, slope), np.maximum(floor, 0.0)
        loss = ((errors - floor[:, None] - slope[:, None] * x) ** 2) @ weight
        better = loss < best
        best = np.where(better, loss, best)
        fit = np.where(better, np.stack([floor, slope, np.full(len(errors), power)]), fit)
    return fit[0], fit[1], fit[2]


def _round(number: float) -> int:
    """Two figures: a reading beyond the data is not more exact."""
    size = 10 ** max(0, int(np.floor(np.log10(max(number, 1)))) - 1)
    return int(max(1, round(number / size)) * size)
