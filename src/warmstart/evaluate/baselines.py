"""What a model must beat: always the commonest class, and TF-IDF with logistic regression.

TF-IDF counts words and word pairs, and pieces of words (2 to 5 characters), which stand up to typos
and to languages without spaces. The regression is one against the rest, fitted in the dual
(liblinear: Fan et al. 2008): as good here as the multinomial one, quicker, and without its memory.
Its cost is bounded: rows are sampled, long texts cut, the pieces of words left out where texts are
long or classes many. What was left out is said in `notes`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import hstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from warmstart.evaluate.metrics import f1_macro, tally

Texts = Sequence[str] | pa.ChunkedArray | pa.Array

STRENGTHS = (4.0, 32.0)  # C, the inverse of the L2 penalty; the validation rows choose
FEATURES = 20_000  # per kind: words, pieces of words
TEXT_CHARACTERS = 2_000  # of each text
PIECE_CHARACTERS = 2_500_000  # of all texts: more, and the pieces of words are left out
PIECE_WORK = 60_000_000  # characters x classes: more, and the pieces of words are left out
CHOICE_WORK = 15_000_000  # characters x classes: more, and only the first strength is tried
BLOCK = 2_048  # rows answered at once


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


class Features:
    """Text to a sparse row of TF-IDF weights; fitted on the training texts alone."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.size = 0  # characters of the training texts
        self.kinds: list[Any] = []
        self.notes: list[str] = []

    def plans(self, texts: list[str]) -> list[dict[str, Any]]:
        """What to count in these texts."""
        self.size = sum(map(len, texts))
        words: dict[str, Any] = {"ngram_range": (1, 2)}
        if self.size > PIECE_CHARACTERS or self.size * self.k > PIECE_WORK:
            self.notes.append("It counted whole words only, to stay quick on this much text.")
            return [words]
        return [words, {"ngram_range": (2, 5), "analyzer": "char_wb"}]

    def fit(self, texts: list[str]) -> Any:
        """The training matrix [n, features], or None where no text holds anything to count."""
        rare = 2 if len(texts) >= 1_000 else 1
        shared: dict[str, Any] = {"sublinear_tf": True, "max_features": FEATURES}
        shared["dtype"] = np.float32
        found: list[Any] = []
        for plan in self.plans(texts):
            kind: Any = TfidfVectorizer(**plan, **shared, min_df=rare)
            try:
                found.append(kind.fit_transform(texts))
            except ValueError:  # an empty vocabulary: no words, or none that occurs twice
                continue
            self.kinds.append(kind)
        return hstack(found).tocsr() if found else None

    def transform(self, texts: list[str]) -> Any:
        """The matrix [n, features] of new texts."""
        return hstack([kind.transform(texts) for kind in self.kinds]).tocsr()


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


def regression(matrix: Any, y: NDArray[Any], strength: float, seed: int) -> Any:
    """Logistic regression, one class against the rest, on a sparse matrix [n, features]."""
    one = LogisticRegression(
        C=strength, solver="liblinear", dual=True, tol=0.1, max_iter=50, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return OneVsRestClassifier(one).fit(matrix, y)


def answers(model: Any, features: Features, texts: Texts, k: int) -> NDArray[np.float32]:
    """Probabilities [n, k]; 0 for a class that the training rows did not hold."""
    result = np.zeros((len(texts), k), dtype=np.float32)
    start = 0
    for block in blocks(texts):
        found = model.predict_proba(features.transform(block))
        result[start : start + len(block), model.classes_] = found
        start += len(block)
    return result


def blocks(texts: Texts) -> Iterator[list[str]]:
    """The texts, cut to `TEXT_CHARACTERS`, a few thousand at a time."""
    for start in range(0, len(texts), BLOCK):
        yield [str(text)[:TEXT_CHARACTERS] for text in _plain(texts[start : start + BLOCK])]


def picked(texts: Texts, rows: NDArray[np.int64]) -> list[str]:
    """The chosen rows as a list of strings, cut to `TEXT_CHARACTERS`."""
    arrow = not isinstance(texts, Sequence)
    chosen: Any = texts.take(pa.array(rows)) if arrow else [texts[i] for i in rows]
    return [str(text)[:TEXT_CHARACTERS] for text in _plain(chosen)]


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


def _plain(texts: Any) -> list[Any]:
    """A slice of texts as a list, from Arrow or from any sequence."""
    return list(texts) if isinstance(texts, Sequence) else texts.to_pylist()
