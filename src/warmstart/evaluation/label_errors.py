"""Labels that do not go with their text: confident learning on out-of-fold probabilities.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
as in `cleanlab`. Every row is judged by models that have seen neither it nor a copy of it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from warmstart.errors import DataError

REPEATS, REPEATED_ROWS = 3, 5_000
NEIGHBOURS = 20
FEWEST = 3  # different texts of a class, below which nobody can say what is odd in it
BLOCK = 1_000


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
