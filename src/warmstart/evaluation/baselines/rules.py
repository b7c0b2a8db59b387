"""Baselines of a rule: what is commonest in train, or what stands in the row itself."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import log, log1p
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from warmstart.evaluation.baselines.base import Baseline
from warmstart.metrics.text import sentences
from warmstart.tasks.base import Examples
from warmstart.tasks.extractive_qa.answers import texts_of
from warmstart.tasks.preference.pairs import ANSWERS, readable
from warmstart.tasks.tagging.reading import tags_in, words_in

WORD = re.compile(r"\w+")
TERM = re.compile(r"[\w']+")
SENTENCE = re.compile(r"[^.!?]*(?:[.!?](?!\s|$)[^.!?]*)*[.!?]*\s*")


class MajorityClass(Baseline):
    """The commonest class, whatever the text."""

    name = "majority"
    title = "always the commonest class"

    def fit(self, train: Examples, validation: Examples | None = None) -> Self:
        self.best = int(np.bincount(train.store.targets).argmax())
        return self

    def predict(self, rows: Examples) -> NDArray[np.int64]:
        return np.full(len(rows), self.best)


class FrequentLabels(Baseline):
    """As many of the most frequent labels as a row has on average."""

    name = "frequent"

    def fit(self, train: Examples, validation: Examples | None = None) -> Self:
        targets = train.store.targets
        self.share = targets.mean(0)
        many = max(1, round(float(targets.sum(1).mean())))
        self.title = (
            "always the most frequent label" if many == 1 else f"the {many} most frequent labels"
        )
        self.threshold = np.sort(self.share)[-min(many, len(self.share))]
        return self

    def predict(self, rows: Examples) -> tuple[NDArray[np.float64], float]:
        """Scores [n, K], and from which one on a label is predicted."""
        return np.tile(self.share, (len(rows), 1)), self.threshold


class MeanNumber(Baseline):
    """The mean of the training rows."""

    name = "mean"
    title = "always the mean"

    def fit(self, train: Examples, validation: Examples | None = None) -> Self:
        self.mean = self.task.references(train).mean()
        return self

    def predict(self, rows: Examples) -> NDArray[np.float64]:
        return np.full(len(rows), self.mean)


class Unigram(Baseline):
    """Each token as likely as it is in train, whatever stands around it."""

    name = "unigram"
    title = "the frequency of each token"

    def fit(self, train: Examples, validation: Examples | None = None) -> Self:
        ids = train.store.ids
        counts = np.bincount(ids, minlength=len(train.tokenizer)) + 1.0  # Laplace
        self.nll = -np.log(counts / counts.sum())
        self.likeliest = int(counts.argmax())
        return self

    def predict(self, rows: Examples) -> NDArray[np.float64]:
        """Of each window [n, 2] the nats of a token, and the share that is the likeliest one."""
        store = rows.store
        each = np.stack([self.nll[store.ids], store.ids == self.likeliest], 1)
        total = np.add.reduceat(each, store.offsets[:-1])
        return total / np.maximum(store.lengths, 1)[:, None]


class DictionaryTags(Baseline):
    """Of each word the tag that it has most often in train."""

    name = "dictionary"
    title = "each known word's usual tag"

    def fit(self, train: Examples, validation: Examples | None = None) -> Self:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        rows = zip(
            train.table["text"].to_pylist(), words_in(train.table), tags_in(train.table),
            strict=True,
        )  # fmt: skip
        for text, words, tags in rows:
            for (start, end), tag in zip(words, tags, strict=True):
                counts[text[start:end]][tag] += 1
        self.entities = self.task.finds_entities(train.labels)
        commonest = sum(counts.values(), Counter[str]()).most_common(1)[0][0]
        self.default = "O" if self.entities else commonest
        self.best = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
        return self

    def predict(self, rows: Examples) -> list[list[str]]:
        """A tag for each word of each row."""
        texts = rows.table["text"].to_pylist()
        return [
            [self.best.get(text[start:end], self.default) for start, end in words]
            for text, words in zip(texts, words_in(rows.table), strict=True)
        ]


class MajorityTag(DictionaryTags):
    """No entity, or the commonest label of a word."""

    name: ClassVar[str] = "majority"

    def fit(self, train: Examples, validation: Examples | None = None) -> Self:
        super().fit(train)
        self.best = {}
        self.title = "no entity anywhere" if self.entities else f"always {self.default}"
        return self


class CommonestText(Baseline):
    """The commonest target of train."""

    name = "most_frequent"
    title = "the commonest answer"

    def fit(self, train: Examples, validation: Examples | None = None) -> Self:
        self.text = Counter[str](train.table["target"].to_pylist()).most_common(1)[0][0]
        return self

    def predict(self, rows: Examples) -> list[str]:
        return [self.text] * len(rows)


class Copy(Baseline):
    """The source."""

    name: ClassVar[str] = "copy"
    title = "the untouched source"
    many: ClassVar[int | None] = None
    """Sentences that are copied; None: all of the text as it is."""

    def predict(self, rows: Examples) -> list[str]:
        texts: list[str] = rows.table["source"].to_pylist()
        if self.many is None:
            return texts
        return [" ".join(sentences(text)[: self.many]) for text in texts]


class FirstSentence(Copy):
    """The first sentence of the source."""

    name = "lead_1"
    title = "the first sentence"
    many = 1


class FirstThreeSentences(Copy):
    """The first three sentences of the source."""

    name = "lead_3"
    title = "the first three sentences"
    many = 3


class NoAnswer(Baseline):
    """No answer, to every question."""

    name: ClassVar[str] = "nothing"
    title = "always no answer"

    def predict(self, rows: Examples) -> list[str]:
        questions, contexts = (rows.table[name].to_pylist() for name in ("question", "context"))
        return [self.answer(*pair) for pair in zip(questions, contexts, strict=True)]

    def answer(self, question: str, context: str) -> str:
        """The answer to one question."""
        return ""


class QuestionSentence(NoAnswer):
    """The sentence that holds most of the question's words, weighed by how rare they are."""

    name = "sentence"
    title = "sentence with the question's words"

    def answer(self, question: str, context: str) -> str:
        words, weights = _words(question), _weights(context)
        matches = (match.group().strip() for match in SENTENCE.finditer(context))
        sentences = [sentence for sentence in matches if sentence] or [context]
        return max(sentences, key=lambda s: sum(weights.get(w, 0.0) for w in words & _words(s)))


class QuestionWindow(NoAnswer):
    """The span of so many words that stands nearest to the question's words and holds none: the
    distance-based window over a passage (Richardson et al. 2013), each word weighed by how rare it
    is and by its distance. The size is the median number of words of the training answers."""

    name = "window"

    def fit(self, train: Examples, validation: Examples | None = None) -> Self:
        return self.sized([texts[0] for texts in texts_of(train.table["answers"]) if texts])

    def sized(self, answers: Sequence[str]) -> Self:
        """With the size of these answers."""
        sizes = sorted(len(WORD.findall(answer)) for answer in answers)
        self.size = max(1, sizes[len(sizes) // 2]) if sizes else 1
        words = "the word" if self.size == 1 else f"{self.size} words"
        self.title = f"{words} beside the question's"
        return self

    def answer(self, question: str, context: str) -> str:
        words, weights = _words(question), _weights(context)
        places = list(WORD.finditer(context))
        spelled = [place.group().lower() for place in places]
        anchors = [(at, weights[word]) for at, word in enumerate(spelled) if word in words]
        size = min(self.size, len(places))
        if not size or not anchors:
            return context[places[0].start() : places[size - 1].end()] if size else ""
        begins = range(len(places) - size + 1)
        best = max(begins, key=lambda begin: _nearness(anchors, begin, begin + size - 1))
        return context[places[best].start() : places[best + size - 1].end()]


def _nearness(anchors: Sequence[tuple[int, float]], first: int, last: int) -> float:
    """The weights of the question's words about a span, by distance; below 0 if it holds one."""
    if any(first <= at <= last for at, _ in anchors):
        return -1.0
    return sum(weight / (first - at if at < first else at - last) for at, weight in anchors)


def _words(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text)}


def _weights(context: str) -> dict[str, float]:
    """The inverse count of each word: log(1 + 1 / occurrences)."""
    counts = Counter(word.lower() for word in WORD.findall(context))
    return {word: log1p(1 / count) for word, count in counts.items()}


# Of two answers to a prompt: what can be said of the better one without understanding it.


class Length(Baseline):
    """The longer answer or the shorter one, whichever is chosen more often in train."""

    name = "length"

    def fit(self, train: Examples, validation: Examples | None = None) -> Self:
        lengths = self._lengths(train)
        self.sign = 1.0 if np.sign(lengths[:, 0] - lengths[:, 1]).sum() >= 0 else -1.0
        self.title = f"the {'longer' if self.sign > 0 else 'shorter'} answer"
        return self

    def predict(self, rows: Examples) -> NDArray[np.float64]:
        """Scores of the chosen and the rejected answers [n, 2]."""
        return self.sign * self._lengths(rows)

    def _lengths(self, rows: Examples) -> NDArray[np.float64]:
        return np.array([[len(chosen), len(rejected)] for chosen, rejected in pairs_of(rows)],
                        float).reshape(-1, 2)  # fmt: skip


class BagOfWords(Baseline):
    """The log-odds of words that stand in one answer of a pair and not in the other, from train."""

    name = "bag_of_words"
    title = "bag of words"

    def fit(self, train: Examples, validation: Examples | None = None) -> Self:
        won, lost = Counter[str](), Counter[str]()
        for chosen, rejected in pairs_of(train):
            ours, theirs = words_of(chosen), words_of(rejected)
            won.update(ours - theirs)
            lost.update(theirs - ours)
        self.odds = {word: log((won[word] + 1) / (lost[word] + 1)) for word in won | lost}
        return self

    def predict(self, rows: Examples) -> NDArray[np.float64]:
        """Scores of the chosen and the rejected answers [n, 2]."""
        values = [[self._odds(answer) for answer in pair] for pair in pairs_of(rows)]
        return np.array(values, float).reshape(-1, 2)

    def _odds(self, answer: str) -> float:
        return sum(self.odds.get(word, 0.0) for word in sorted(words_of(answer)))


def words_of(text: str) -> set[str]:
    """The words of an answer."""
    return {word.lower() for word in TERM.findall(text)}


def pairs_of(rows: Examples) -> Iterator[tuple[str, str]]:
    """The chosen and the rejected answer of each row, as texts."""
    return zip(*(readable(rows.table[name]) for name in ANSWERS), strict=True)
