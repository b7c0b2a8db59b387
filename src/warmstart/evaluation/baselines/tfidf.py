"""Baselines that count words: TF-IDF features with a linear model, or compared by their cosine.

Words and word pairs are counted, and pieces of words (2 to 5 characters), which stand up to typos
and to languages without spaces. The classifiers are logistic regressions, one against the rest,
fitted in the dual (liblinear: Fan et al. 2008): as good here as the multinomial one, quicker, and
without its memory. The cost is bounded: rows are sampled, long texts cut, the pieces of words left
out where texts are long or classes many. `notes` tell of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from warmstart.evaluation.baselines.base import Baseline
from warmstart.metrics.base import Floats
from warmstart.metrics.classification import f1_macro, tally
from warmstart.metrics.multilabel import Labels, tuned_thresholds
from warmstart.tasks.base import Examples
from warmstart.tasks.embedding.evaluation import texts_in

Texts = Sequence[str] | pa.ChunkedArray | pa.Array

FEATURES = 20_000  # per kind: words, pieces of words
TEXT_CHARACTERS = 2_000  # of each text
PIECE_CHARACTERS = 2_500_000  # of all texts: more, and the pieces of words are left out
PIECE_WORK = 60_000_000  # characters x classes: more, and the pieces of words are left out
CHOICE_WORK = 15_000_000  # characters x classes: more, and only the first strength is tried
BLOCK = 2_048  # rows answered at once
NUMBERS = 100_000_000  # of the TF-IDF vectors; of more texts fewer words are counted


def counts(
    texts: list[str], k: int, notes: list[str]
) -> tuple[Any, Callable[[list[str]], Any]] | None:
    """TF-IDF weights of training texts for k outputs, sparse [n, features], and what gives those of
    other texts; None where no text holds anything to count."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    size = sum(map(len, texts))
    plans: list[dict[str, Any]] = [{"ngram_range": (1, 2)}]
    if size > PIECE_CHARACTERS or size * k > PIECE_WORK:
        notes.append("It counted whole words only, to stay quick on this much text.")
    else:
        plans.append({"ngram_range": (2, 5), "analyzer": "char_wb"})
    shared: dict[str, Any] = {"sublinear_tf": True, "max_features": FEATURES, "dtype": np.float32}
    shared["min_df"] = 2 if len(texts) >= 1_000 else 1
    kinds: list[Any] = []
    matrices: list[Any] = []
    for plan in plans:
        kind: Any = TfidfVectorizer(**plan, **shared)
        try:
            matrices.append(kind.fit_transform(texts))
        except ValueError:  # an empty vocabulary: no words, or none that occurs twice
            continue
        kinds.append(kind)

    def transform(texts: list[str]) -> Any:
        return hstack([kind.transform(texts) for kind in kinds]).tocsr()

    return (hstack(matrices).tocsr(), transform) if matrices else None


def blocks(texts: Texts) -> Iterator[list[str]]:
    """The texts, cut to `TEXT_CHARACTERS`, a few thousand at a time."""
    for start in range(0, len(texts), BLOCK):
        yield _cut(texts[start : start + BLOCK])


def picked(texts: Texts, rows: NDArray[np.int64]) -> list[str]:
    """The chosen rows as a list of strings, cut to `TEXT_CHARACTERS`."""
    arrow = not isinstance(texts, Sequence)
    return _cut(texts.take(pa.array(rows)) if arrow else [texts[i] for i in rows])


def _cut(texts: Any) -> list[str]:
    rows = texts if isinstance(texts, Sequence) else texts.to_pylist()
    return [str(text)[:TEXT_CHARACTERS] for text in rows]


class Choice(NamedTuple):
    """One of several settings of a linear model.

    `strength`: C of a logistic regression, the inverse of its L2 penalty; or the penalty of a
    ridge. `weights`: "balanced" counts each class alike, whatever its rows.
    """

    strength: float
    weights: str | None = None


class Tfidf(Baseline):
    """A linear model of the features; of several the one that is best on validation."""

    name: ClassVar[str] = "tfidf"
    choices: ClassVar[tuple[Choice, ...]] = (Choice(4.0), Choice(32.0))
    default: ClassVar[Choice] = Choice(4.0)
    """Where there are no validation rows to choose by, or too many texts and classes."""
    counted: tuple[Examples, list[Any]] | None = None
    """The validation rows, and their features, while a choice is made."""
    costly: ClassVar[bool] = False
    """Whether only the default is tried with many texts and classes."""

    def fit(self, train: Examples, validation: Examples | None = None) -> Self | None:
        y = self.targets(train)
        chosen = self.sample(train, y if y.dtype.kind == "i" and y.ndim == 1 else None)
        y = y[chosen]
        if not self.can_learn(y):
            return None
        texts = picked(self.task.as_text(train.table), chosen)
        self.k = len(train.labels)
        if not (fitted := counts(texts, self.k, self.notes)):
            return None
        matrix, self.transform = fitted
        known = validation is not None and len(validation) > 0
        few = not self.costly or sum(map(len, texts)) * self.k <= CHOICE_WORK
        choices = self.choices if known and few else (self.default,)
        if validation is not None and len(choices) > 1:
            own = [self.transform(block) for block in blocks(self.task.as_text(validation.table))]
            self.counted = validation, own
        models = [self.train(matrix, y, choice) for choice in choices]
        if validation is not None and len(models) > 1:
            scores = [self.quality(model, validation) for model in models]
            scores = np.array(scores) + self.held_out(matrix, y, choices, validation)
            models, self.counted = [models[int(scores.argmax())]], None
        self.model = models[0]
        return self

    def held_out(
        self, matrix: Any, y: NDArray[Any], choices: Sequence[Choice], validation: Examples
    ) -> NDArray[Any] | float:
        """What is added to the quality of each choice, where few validation rows are not all that
        it is chosen by."""
        return 0.0

    def targets(self, rows: Examples) -> NDArray[Any]:
        """What is learned [n] or [n, K]."""
        return rows.store.targets

    def can_learn(self, y: NDArray[Any]) -> bool:
        """Whether there is anything to tell apart."""
        return True

    def train(self, matrix: Any, y: NDArray[Any], choice: Choice) -> Any:
        """A model of the features [n, features]."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier

        single = LogisticRegression(
            C=choice.strength, class_weight=choice.weights, solver="liblinear", dual=True, tol=0.1,
            max_iter=50, random_state=self.seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", UserWarning)  # of labels that no or every row has
            return OneVsRestClassifier(single).fit(matrix, y)

    def quality(self, model: Any, validation: Examples) -> float:
        """How good a model is on the validation rows."""
        raise NotImplementedError

    def answers(self, method: Any, rows: Examples) -> NDArray[Any]:
        """What a method of a model gives for the rows."""
        if self.counted is not None and rows is self.counted[0]:
            matrices: Iterable[Any] = self.counted[1]
        else:
            matrices = map(self.transform, blocks(self.task.as_text(rows.table)))
        parts = [method(matrix) for matrix in matrices]
        return np.concatenate(parts) if parts else np.zeros((0, self.k))


class TfidfClasses(Tfidf):
    """TF-IDF with logistic regression, chosen by macro-F1: on validation, and on a third of train
    beside it, as few validation rows choose mostly by chance."""

    title = "TF-IDF + logistic regression"
    costly = True
    choices = (
        Choice(4.0), Choice(32.0), Choice(0.3, "balanced"), Choice(1.0, "balanced"),
        Choice(4.0, "balanced"),
    )  # fmt: skip
    default = Choice(4.0, "balanced")

    def can_learn(self, y: NDArray[Any]) -> bool:
        return len(np.unique(y)) > 1

    def quality(self, model: Any, validation: Examples) -> float:
        predicted = self._classes(model, validation)
        return float(f1_macro(tally(validation.store.targets, predicted, self.k)))

    def held_out(
        self, matrix: Any, y: NDArray[Any], choices: Sequence[Choice], validation: Examples
    ) -> NDArray[Any] | float:
        rng = np.random.default_rng(self.seed)
        of_class = (rng.permutation(np.flatnonzero(y == label)) for label in np.unique(y))
        away = np.zeros(len(y), bool)
        away[np.concatenate([rows[: len(rows) // 3] for rows in of_class])] = True
        truth, scores = np.concatenate([y[away], validation.store.targets]), list[float]()
        for choice in choices if away.any() else ():
            model = self.train(matrix[~away], y[~away], choice)
            answers = [model.predict(matrix[away]), self._classes(model, validation)]
            scores.append(float(f1_macro(tally(truth, np.concatenate(answers), self.k))))
        return np.array(scores) if scores else 0.0

    def predict(self, rows: Examples) -> NDArray[np.int64]:
        return self._classes(self.model, rows)

    def _classes(self, model: Any, rows: Examples) -> NDArray[np.int64]:
        probabilities = self.answers(model.predict_proba, rows).astype(np.float32)
        return model.classes_[probabilities.argmax(axis=1)]


class TfidfLabels(Tfidf):
    """TF-IDF with a logistic regression for each label, its thresholds tuned as the model's."""

    title = "TF-IDF + log. regression of each label"
    thresholds: Floats | float = 0.5

    def fit(self, train: Examples, validation: Examples | None = None) -> Self | None:
        fitted = super().fit(train, validation)
        if fitted and validation is not None and len(validation):
            scores = self.answers(self.model.predict_proba, validation)
            self.thresholds = tuned_thresholds(scores, validation.store.targets)
        return fitted

    def can_learn(self, y: NDArray[Any]) -> bool:
        return bool(y.any() and not y.all())

    def quality(self, model: Any, validation: Examples) -> float:
        scores, truth = self.answers(model.predict_proba, validation), validation.store.targets
        measure = Labels(validation.labels, tuned_thresholds(scores, truth))
        return measure.total(measure.rows(scores, truth))["f1_macro"]

    def predict(self, rows: Examples) -> tuple[Floats, Floats | float]:
        """Probabilities [n, K], and from which one on a label is predicted."""
        return self.answers(self.model.predict_proba, rows), self.thresholds


class TfidfNumbers(Tfidf):
    """TF-IDF with ridge regression, chosen by the squared error."""

    title = "TF-IDF + ridge regression"
    choices = (Choice(0.3), Choice(1.0), Choice(3.0), Choice(10.0))
    default = Choice(1.0)

    def targets(self, rows: Examples) -> Floats:
        return self.task.references(rows)

    def train(self, matrix: Any, y: NDArray[Any], choice: Choice) -> Any:
        from sklearn.linear_model import Ridge

        return Ridge(alpha=choice.strength, solver="sparse_cg", tol=1e-3).fit(matrix, y)

    def quality(self, model: Any, validation: Examples) -> float:
        error = self.answers(model.predict, validation) - self.targets(validation)
        return -float((error**2).mean())

    def predict(self, rows: Examples) -> Floats:
        return self.answers(self.model.predict, rows)


class TfidfCosine(Baseline):
    """How alike the two texts' words are, on the line through the training rows that fits best."""

    name = "cosine"
    title = "TF-IDF cosine of the two texts"

    def fit(self, train: Examples, validation: Examples | None = None) -> Self | None:
        chosen = self.sample(train)
        first, second = (picked(train.table[side], chosen) for side in self.task.inputs)
        if not (fitted := counts([*first, *second], 1, self.notes)):
            return None
        _, self.transform = fitted
        known = self.task.references(train)[chosen]
        self.slope, self.start = np.polyfit(self._cosines(first, second), known, 1)
        return self

    def predict(self, rows: Examples) -> Floats:
        parts = zip(*(blocks(rows.table[side]) for side in self.task.inputs), strict=True)
        return self.start + self.slope * np.concatenate([self._cosines(*part) for part in parts])

    def _cosines(self, first: list[str], second: list[str]) -> Floats:
        a, b = (self.transform(texts) for texts in (first, second))
        product, *squares = (
            np.asarray(left.multiply(right).sum(1), float).ravel()
            for left, right in ((a, b), (a, a), (b, b))
        )
        return product / np.maximum(np.sqrt(squares[0]) * np.sqrt(squares[1]), 1e-12)


class TfidfVectors(Baseline):
    """TF-IDF vectors of all texts of a row; weights are learned from the texts of train."""

    name = "tfidf"
    title = "TF-IDF cosine"

    def fit(self, train: Examples, validation: Examples | None = None) -> Self:
        self.known = train.table
        return self

    def predict(self, rows: Examples) -> NDArray[np.float32]:
        """Vectors [n, K, H], reduced so that their dot products are the same; H is at most the
        number of texts."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        table = rows.table
        names = texts_in(table)
        names = names[:1] if "label" in table.column_names else names
        words = min(20_000, max(1_000, NUMBERS // (len(table) * len(names) or 1)))
        counter: Any = TfidfVectorizer(sublinear_tf=True, max_features=words)
        nothing = np.zeros((len(table), len(names), 1), np.float32)
        try:
            known = names[:1] if len(names) == 1 else texts_in(self.known)
            counter.fit([text or "" for name in known for text in self.known[name].to_pylist()])
        except ValueError:  # no words at all
            return nothing
        flat = [text or "" for name in names for text in table[name].to_pylist()]
        matrix = counter.transform(flat)
        used = np.unique(matrix.indices)
        if not len(used):
            return nothing
        dense = matrix[:, used].astype(np.float32).toarray()
        return dense.reshape(len(names), len(table), -1).transpose(1, 0, 2)
