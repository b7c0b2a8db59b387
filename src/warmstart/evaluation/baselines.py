"""What a model must beat: always the commonest class, and TF-IDF with logistic regression.

TF-IDF counts words and word pairs, and pieces of words (2 to 5 characters), which stand up to typos
and to languages without spaces. The regression is one against the rest, fitted in the dual
(liblinear: Fan et al. 2008): as good here as the multinomial one, quicker, and without its memory.
Its cost is bounded: rows are sampled, long texts cut, the pieces of words left out where texts are
long or classes many. What was left out is said in `notes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.classification import f1_macro, tally
from warmstart.metrics.tfidf import Features, Texts, blocks, picked, regression

STRENGTHS = (4.0, 32.0)  # C, the inverse of the L2 penalty; the validation rows choose
CHOICE_WORK = 15_000_000  # characters x classes: more, and only the first strength is tried


@dataclass(frozen=True, slots=True)
class Baseline:
    """One baseline's answers: probabilities [n, k] float32 on the test and validation rows."""

    name: str
    title: str
    test: NDArray[np.float32]
    validation: NDArray[np.float32]
    notes: tuple[str, ...] = ()


def majority(train_y: NDArray[Any], k: int, test_rows: int, validation_rows: int) -> Baseline:
    """The share of each class in the training rows, whatever the text."""
    share = (np.bincount(train_y, minlength=k) / max(1, len(train_y))).astype(np.float32)
    test, validation = np.tile(share, (test_rows, 1)), np.tile(share, (validation_rows, 1))
    return Baseline("majority", "always the commonest class", test, validation)


def tfidf(
    train: Texts,
    train_y: NDArray[Any],
    test: Texts,
    validation: Texts,
    validation_y: NDArray[Any],
    k: int,
    rows: int = 20_000,
    seed: int = 0,
) -> Baseline | None:
    """TF-IDF + logistic regression, or None where the training texts hold no words or one class."""
    chosen, notes = sample_rows(train_y, rows, seed)
    texts, y = picked(train, chosen), train_y[chosen]
    if len(np.unique(y)) < 2:
        return None
    features = Features(k)
    matrix = features.fit(texts)
    if matrix is None:
        return None
    model = fit(matrix, y, features, validation, validation_y, seed)
    return Baseline(
        "tfidf",
        "TF-IDF + logistic regression",
        answers(model, features, test, k),
        answers(model, features, validation, k),
        (*notes, *features.notes),
    )


def fit(
    matrix: Any, y: NDArray[Any], features: Features, texts: Texts, truth: NDArray[Any], seed: int
) -> Any:
    """The regression whose strength gives the best macro-F1 on the validation rows."""
    k = features.k
    choice = STRENGTHS if len(truth) and features.size * k <= CHOICE_WORK else STRENGTHS[:1]
    models = [regression(matrix, y, strength, seed) for strength in choice]
    if len(models) == 1:
        return models[0]
    guesses = [answers(model, features, texts, k).argmax(axis=1) for model in models]
    scores = [float(f1_macro(tally(truth, guess, k))) for guess in guesses]
    return models[int(np.argmax(scores))]


def answers(model: Any, features: Features, texts: Texts, k: int) -> NDArray[np.float32]:
    """Probabilities [n, k]; 0 for a class that the training rows did not hold."""
    result = np.zeros((len(texts), k), dtype=np.float32)
    start = 0
    for block in blocks(texts):
        found = model.predict_proba(features.transform(block))
        result[start : start + len(block), model.classes_] = found
        start += len(block)
    return result


def sample_rows(y: NDArray[Any], rows: int, seed: int) -> tuple[NDArray[np.int64], list[str]]:
    """At most `rows` row numbers, in order, with at least one of each class; and what to say."""
    if len(y) <= rows:
        return np.arange(len(y)), []
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    _, first = np.unique(y[order], return_index=True)
    rest = np.delete(order, first)[: max(0, rows - len(first))]
    chosen = np.sort(np.concatenate([order[first], rest]))
    return chosen, [f"It was trained on {len(chosen):,} of the {len(y):,} training rows."]
