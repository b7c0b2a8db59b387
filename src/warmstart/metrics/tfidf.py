"""Texts counted: the TF-IDF features and the regression behind the baselines of every task.

Words and word pairs are counted, and pieces of words (2 to 5 characters), which stand up to typos
and to languages without spaces; the pieces are left out where texts are long or classes many.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Texts = Sequence[str] | pa.ChunkedArray | pa.Array

FEATURES = 20_000  # per kind: words, pieces of words
TEXT_CHARACTERS = 2_000  # of each text
PIECE_CHARACTERS = 2_500_000  # of all texts: more, and the pieces of words are left out
PIECE_WORK = 60_000_000  # characters x classes: more, and the pieces of words are left out
BLOCK = 2_048  # rows answered at once


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
        from sklearn.feature_extraction.text import TfidfVectorizer

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
        return _side_by_side(found) if found else None

    def transform(self, texts: list[str]) -> Any:
        """The matrix [n, features] of new texts."""
        return _side_by_side([kind.transform(texts) for kind in self.kinds])


def _side_by_side(matrices: list[Any]) -> Any:
    from scipy.sparse import hstack

    return hstack(matrices).tocsr()


def regression(matrix: Any, y: NDArray[Any], strength: float, seed: int) -> Any:
    """Logistic regression, one class against the rest, on a sparse matrix [n, features]."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    one = LogisticRegression(
        C=strength, solver="liblinear", dual=True, tol=0.1, max_iter=50, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return OneVsRestClassifier(one).fit(matrix, y)


def blocks(texts: Texts) -> Iterator[list[str]]:
    """The texts, cut to `TEXT_CHARACTERS`, a few thousand at a time."""
    for start in range(0, len(texts), BLOCK):
        yield [str(text)[:TEXT_CHARACTERS] for text in _plain(texts[start : start + BLOCK])]


def picked(texts: Texts, rows: NDArray[np.int64]) -> list[str]:
    """The chosen rows as a list of strings, cut to `TEXT_CHARACTERS`."""
    arrow = not isinstance(texts, Sequence)
    chosen: Any = texts.take(pa.array(rows)) if arrow else [texts[i] for i in rows]
    return [str(text)[:TEXT_CHARACTERS] for text in _plain(chosen)]


def _plain(texts: Any) -> list[Any]:
    """A slice of texts as a list, from Arrow or from any sequence."""
    return list(texts) if isinstance(texts, Sequence) else texts.to_pylist()
