"""Answers to questions without a model: by the words that a passage shares with the question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import log1p
from typing import ClassVar, Self

from warmstart.evaluation.baselines.base import Baseline
from warmstart.tasks.base import Examples
from warmstart.tasks.extractive_qa.answers import texts_of

WORD = re.compile(r"\w+")
SENTENCE = re.compile(r"[^.!?]*(?:[.!?](?!\s|$)[^.!?]*)*[.!?]*\s*")


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
