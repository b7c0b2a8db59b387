"""Labels judged on frozen features: which do not go with their text, and what more would be worth.

Which: confident learning on out-of-fold probabilities (Northcutt, Jiang and Chuang 2021, "Confident
Learning: Estimating Uncertainty in Dataset Labels", as in `cleanlab`). Every row is judged by
models that have seen neither it nor a copy of it.

What more: a quick head (logistic regression) is trained on growing parts of the rows and judged on
rows that it has not seen. Its errors fall as a + b n^-c (Cortes et al. 1993; Hestness et al. 2017);
the curve is read further than the data reach, and only as far as resampling the rows agrees with
itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from warmstart.errors import DataError

Floats = NDArray[np.float64]
REPEATS, REPEATED_ROWS = 3, 5_000
NEIGHBOURS = 20
FEWEST = 3  # different texts of a class, below which nobody can say what is odd in it
BLOCK = 1_000
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
SUBSETS = ((2_000, 5), (8_000, 3), (1 << 62, 2))  # up to so many rows, so many subsets a fold


@dataclass(frozen=True, slots=True, eq=False)
class LabelErrors:
    """Rows whose label is in doubt, the most suspicious first; all arrays but the last two [m].

    `estimated` is how many labels are wrong by the confident joint, a count and not these rows;
    `accuracy` how often the models predict the label: how far they can be trusted with the rest.
    """

    rows: np.ndarray  # int64
    labels: np.ndarray  # int64, the class that each has
    suggested: np.ndarray  # int64, the class that the models predict
    confidence: np.ndarray  # the probability of the label, 0 to 1; the rows are in this order
    score: np.ndarray  # by how much the suggested class is more probable, 0 to 1
    estimated: int
    accuracy: float
    ranked: np.ndarray  # every row [n], the most suspicious first; `rows` is a part of it
    out_of_fold: np.ndarray  # the probabilities [n, K] of all classes for all rows


def find_label_errors(
    features: np.ndarray,
    targets: np.ndarray,
    seed: int,
    folds: int = 5,
    groups: np.ndarray | None = None,
) -> LabelErrors:
    """The rows that confident learning takes for mislabelled (pruned by class and by noise rate).

    The probabilities are the mean of two judges who fail in different ways: logistic regression
    (cross-validated, up to 5,000 rows three times over) and the vote of the 20 nearest texts.

    Args:
        features: [n, H], of any scale; see `training.frozen_features`.
        targets: [n] class numbers.
        groups: [n] numbers, equal for copies, which never judge each other.

    Raises `DataError` for fewer than two classes.
    """
    from cleanlab.count import num_label_issues
    from cleanlab.filter import find_label_issues

    classes, y = np.unique(np.asarray(targets, np.int64), return_inverse=True)
    if len(classes) < 2:
        raise DataError("labels can be judged from two classes on; these rows have one")
    groups = np.arange(len(y)) if groups is None else np.asarray(groups)
    x, rows = scaled(features), np.arange(len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class that is rare; it is left out below
        p = _regression(x, y, groups, seed, folds) + _neighbours(x, y, groups, len(classes))
        p /= 2
        suspicious = find_label_issues(y, p, filter_by="both", n_jobs=1)
        estimated = int(num_label_issues(y, p))
    texts = np.bincount(y[np.unique(groups, return_index=True)[1]], minlength=len(classes))
    rare = (texts < FEWEST)[y]
    confidence, best = p[rows, y], p.argmax(1)
    ranked = np.lexsort((confidence, rare))
    rows = ranked[(suspicious & ~rare)[ranked]]
    out_of_fold = np.zeros((len(y), int(classes.max()) + 1), np.float32)
    out_of_fold[:, classes] = p
    return LabelErrors(
        rows=rows,
        labels=classes[y[rows]],
        suggested=classes[best[rows]],
        confidence=confidence[rows],
        score=p[rows, best[rows]] - confidence[rows],
        estimated=estimated,
        accuracy=float((best == y).mean()),
        ranked=ranked,
        out_of_fold=out_of_fold,
    )


def scaled(features: np.ndarray) -> np.ndarray:
    """Features around their mean and of length 1, float32, so that one setting fits any base."""
    x = np.asarray(features, np.float32)
    x = x - x.mean(0)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def fold_of(y: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold [n] of each row: groups stay whole, classes are dealt out evenly."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    order = np.random.default_rng([seed, 0xF01D]).permutation(len(first))
    order = order[np.argsort(y[first][order], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % folds
    return fold[member]


def probabilities(
    x: np.ndarray, y: np.ndarray, new: np.ndarray, classes: int, c: float
) -> np.ndarray:
    """Of `new` [m, H], by logistic regression on x [n, H], y [n]: [m, classes]."""
    from sklearn.linear_model import LogisticRegression

    p, known = np.zeros((len(new), classes)), np.unique(y)
    if len(known) < 2:
        p[:, known] = 1.0
        return p
    # products this small are slower on several threads, and far slower on a busy machine
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # 300 steps are enough for a judge
        p[:, known] = LogisticRegression(C=c, max_iter=300).fit(x, y).predict_proba(new)
    return p


def _regression(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int, folds: int
) -> np.ndarray:
    classes = int(y.max()) + 1
    repeats = REPEATS if len(y) <= REPEATED_ROWS else 1
    p = np.zeros((len(y), classes))
    for repeat in range(repeats):
        fold = fold_of(y, groups, folds, seed * REPEATS + repeat)
        for number in np.unique(fold):
            held, rest = fold == number, fold != number
            p[held] += probabilities(x[rest], y[rest], x[held], classes, c=1.0)
    return p / repeats


def _neighbours(x: np.ndarray, y: np.ndarray, groups: np.ndarray, classes: int) -> np.ndarray:
    """The vote of the nearest texts, weighted by the square of their cosine; the class sizes have
    one vote more."""
    k = min(NEIGHBOURS, len(y) - 1)
    prior = np.bincount(y, minlength=classes) / len(y)
    p = np.empty((len(y), classes))
    for start in range(0, len(y), BLOCK):
        part = slice(start, start + BLOCK)
        cosine = np.maximum(x[part] @ x.T, 0.0)
        cosine[groups[part, None] == groups[None, :]] = 0.0
        near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        weight = np.take_along_axis(cosine, near, 1).astype(np.float64) ** 2
        weight *= k / np.maximum(weight.sum(1, keepdims=True), 1e-12)
        votes = np.zeros((len(near), classes))
        np.add.at(votes, (np.arange(len(near))[:, None], y[near]), weight)
        p[part] = votes + prior
    return p / p.sum(1, keepdims=True)


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
    x, repeats = scaled(features), next(times for most, times in SUBSETS if len(y) <= most)
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
    left = now - gain - floor
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wanted = np.where(left > 0, (height / np.maximum(left, 1e-12)) ** (1 / power), np.inf)
    more = np.where(wanted <= FURTHEST * rows, wanted - rows, np.inf)
    rising, finite = draws[:, -1] - draws[:, len(labels) // 2], np.isfinite(more).mean()
    reasons = {
        f"fewer than {FEWEST_ROWS} rows are too few to say": rows < FEWEST_ROWS,
        "nearly all are found already": 1 - now[0] >= ALMOST_ALL,
        "the curve is flat, as far as the rows can tell": np.quantile(rising, 0.1) <= 0,
        "not within ten times the labels": finite < 1 - AGREED,
        "the curve does not say: too few rows, or too small a gain": finite < AGREED,
    }
    why = next((reason for reason, holds in reasons.items() if holds), None)
    result: dict[str, Any] = {"expected": round(float(1 - now[0]), 4)}
    result |= {"more": None, "more_low": None, "more_high": None, "why": why}
    if why is not None:
        return result
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
