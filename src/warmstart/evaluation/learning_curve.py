"""What more labels would be worth: recall against the number of labels, on frozen features.

A quick head (logistic regression) is trained on growing parts of the rows and judged on rows that
it has not seen. Its errors fall as a + b n^-c (Cortes et al. 1993; Hestness et al. 2017); the curve
is read further than the data reach, and only as far as resampling the rows agrees with itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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
AGREED = 0.75  # share of the resamples that must find a number
REPEATS = ((2_000, 5), (8_000, 3), (1 << 62, 2))  # up to so many rows, so many subsets a fold


class Measured(NamedTuple):
    """Shares of rows found, from all repeats: value and resamples, by size."""

    recall: Floats  # [sizes, K]
    recalls: Floats  # [draws, sizes, K]
    f1: Floats
    f1s: Floats


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
    nothing: dict[str, Any] = {"sizes": [], "macro_f1": [], "classes": [], "needs": []}
    if k < 2:
        return {**nothing, "skipped": "fewer than two classes"}
    asked = sorted({int(size) for size in sizes or default_sizes(most, k) if 0 < size <= most})
    if not asked:
        return {**nothing, "skipped": "too few rows"}
    x, repeats = scaled(features), next(times for most, times in REPEATS if len(y) <= most)
    answers = np.stack([_answers(x, y, asked, seed * 5 + r) for r in range(repeats)])
    measured = _measured(answers, y, k, seed)
    names = [str(c) if labels is None else labels[c] for c in classes.tolist()]
    share = np.array(asked) / len(y)
    found: list[dict[str, Any]] = []
    for c, name in enumerate(names):
        own = {"label": name, "rows": int(rows[c]), "labels": (share * rows[c]).round().tolist()}
        own["recall"] = _with_bounds(measured.recall[:, c], measured.recalls[:, :, c], int(rows[c]))
        own["f1"] = _with_bounds(measured.f1[:, c], measured.f1s[:, :, c], int(rows[c]))
        curve = measured.recall[:, c], measured.recalls[:, :, c]
        found.append({**own, **_more(*curve, share * rows[c], int(rows[c]), POINTS / 100)})
    macro = _with_bounds(measured.f1.mean(1), measured.f1s.mean(2), len(y))
    needs = [
        {"label": own["label"], "rows": own["rows"], "recall": own["expected"],
         "more": own["more"], "gain": POINTS}
        for own in sorted(found, key=lambda own: own["more"] or 0) if own["more"]
    ]  # fmt: skip
    return {"sizes": asked, "points": POINTS, "macro_f1": macro, "classes": found, "needs": needs}


def default_sizes(most: int, classes: int) -> list[int]:
    """Six sizes up to `most`, each about as many times the one before."""
    first = max(most / HALVINGS, 3.0 * classes, 10.0)
    return np.geomspace(min(first, most), most, STEPS).round().astype(int).tolist()


def _answers(x: np.ndarray, y: np.ndarray, sizes: Sequence[int], seed: int) -> np.ndarray:
    """The class [sizes, n] that a head trained on so many other rows gives to each row."""
    classes = int(y.max()) + 1
    fold = fold_of(y, np.arange(len(y)), FOLDS, seed)
    found = np.empty((len(sizes), len(y)), np.int64)
    for out in range(FOLDS):
        held = np.flatnonzero(fold == out)
        pool = _in_proportion(y, np.flatnonzero(fold != out), [seed, out])
        for i, size in enumerate(sizes):
            use = pool[:size]
            found[i, held] = probabilities(x[use], y[use], x[held], classes, C).argmax(1)
    return found


def _in_proportion(y: np.ndarray, rows: np.ndarray, seed: list[int]) -> np.ndarray:
    """The rows in an order of which every beginning holds the classes in their proportion."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(rows)
    place = np.empty(len(rows))
    for c in np.unique(y[rows]):
        own = np.flatnonzero(y[rows] == c)
        place[own] = (np.arange(len(own)) + rng.random()) / len(own)
    return rows[np.argsort(place, kind="stable")]


def _measured(answers: np.ndarray, y: np.ndarray, k: int, seed: int) -> Measured:
    """Recall and F1 by size, as they are and resampled: each draw has its rows, the same at all
    sizes, and its subsets. `answers` [repeats, sizes, n]."""
    rng, repeats = np.random.default_rng([seed, 0xC0]), len(answers)
    rows = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=DRAWS)
    rows = np.vstack([np.ones(len(y)), rows]).astype(np.float32)
    subsets = rng.multinomial(repeats, np.full(repeats, 1 / repeats), size=DRAWS)
    subsets = np.vstack([np.ones(repeats), subsets]) / repeats
    eye = np.eye(k, dtype=np.float32)
    actual = rows @ eye[y]
    recall, f1 = np.zeros((2, len(rows), answers.shape[1], k))
    for share, repeat in zip(subsets.T[:, :, None], answers, strict=True):
        for i, said in enumerate(repeat):
            right, answered = rows @ (eye[y] * (said == y)[:, None]), rows @ eye[said]
            recall[:, i] += share * right / np.maximum(actual, 1)
            f1[:, i] += share * 2 * right / np.maximum(actual + answered, 1)
    return Measured(recall[0], recall[1:], f1[0], f1[1:])


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
    nothing: dict[str, Any] = {"more": None, "more_low": None, "more_high": None}
    expected = {"expected": round(float(1 - now[0]), 4)}
    if rows < FEWEST_ROWS:
        return {**expected, **nothing, "why": f"fewer than {FEWEST_ROWS} rows are too few to say"}
    if 1 - now[0] >= ALMOST_ALL:
        return {**expected, **nothing, "why": "nearly all are found already"}
    left = now - gain - floor
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wanted = np.where(left > 0, (height / np.maximum(left, 1e-12)) ** (1 / power), np.inf)
    more = np.where(wanted <= FURTHEST * rows, wanted - rows, np.inf)
    rising = draws[:, -1] - draws[:, len(labels) // 2]
    if np.quantile(rising, 0.1) <= 0:
        return {**expected, **nothing, "why": "the curve is flat, as far as the rows can tell"}
    agreed = np.isfinite(more).mean()
    if agreed < AGREED:
        why = "not within ten times the labels" if agreed < 1 - AGREED else \
            "the curve does not say: too few rows, or too small a gain"  # fmt: skip
        return {**expected, **nothing, "why": why}
    low, middle, high = np.quantile(more, [0.1, 0.5, 0.9], method="nearest")
    high = None if not np.isfinite(high) else _round(high)
    return {**expected, "more": _round(middle), "more_low": _round(low), "more_high": high,
            "why": None}  # fmt: skip


def _fit(errors: Floats, labels: Floats) -> tuple[Floats, Floats, Floats]:
    """Least squares of a + b n^-c with a, b >= 0 for each row of errors [m, sizes]: a, b, c [m].

    Larger sizes count more (by their root): their errors matter for what lies beyond.
    """
    weight = np.sqrt(labels / labels.sum())
    weight = weight / weight.sum()
    best = np.full(len(errors), np.inf)
    found = np.zeros((3, len(errors)))
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
        found = np.where(better, np.stack([floor, slope, np.full(len(errors), power)]), found)
    return found[0], found[1], found[2]


def _round(number: float) -> int:
    """Two figures: a reading beyond the data is not more exact."""
    size = 10 ** max(0, int(np.floor(np.log10(max(number, 1)))) - 1)
    return int(max(1, round(number / size)) * size)
