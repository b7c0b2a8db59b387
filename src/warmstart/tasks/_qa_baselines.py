"""Answers without a model: by the words that a passage shares with the question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from math import log1p

WORD = re.compile(r"\w+")
SENTENCE = re.compile(r"[^.!?]*(?:[.!?](?!\s|$)[^.!?]*)*[.!?]*\s*")

Answer = Callable[[str, str], str]
"""(question, context) → answer."""


def sentence(question: str, context: str) -> str:
    """The sentence that holds most of the question's words, weighed by how rare they are."""
    words, weights = _words(question), _weights(context)
    sentences = [found.group().strip() for found in SENTENCE.finditer(context)]
    kept = [one for one in sentences if one] or [context]
    return max(kept, key=lambda one: sum(weights.get(w, 0.0) for w in words & _words(one)))


def window(words_wanted: int) -> Answer:
    """The span of so many words that stands nearest to the question's words and holds none: the
    distance-based window over a passage (Richardson et al. 2013), each word weighed by how rare it
    is and by its distance."""

    def answer(question: str, context: str) -> str:
        asked, weights = _words(question), _weights(context)
        places = list(WORD.finditer(context))
        heard = [word.group().lower() for word in places]
        anchors = [(at, weights[word]) for at, word in enumerate(heard) if word in asked]
        size = min(words_wanted, len(places))
        begins = range(len(places) - size + 1)
        if not size or not anchors:
            return context[places[0].start() : places[size - 1].end()] if size else ""
        best = max(begins, key=lambda begin: _nearness(anchors, begin, begin + size - 1))
        return context[places[best].start() : places[best + size - 1].end()]

    return answer


def _nearness(anchors: Sequence[tuple[int, float]], first: int, last: int) -> float:
    """The weights of the question's words about a span, by distance; below 0 if it holds one."""
    if any(first <= at <= last for at, _ in anchors):
        return -1.0
    return sum(weight / (first - at if at < first else at - last) for at, weight in anchors)


def usual_size(answers: Sequence[str]) -> int:
    """The median number of words of the training answers."""
    sizes = sorted(len(WORD.findall(answer)) for answer in answers)
    return max(1, sizes[len(sizes) // 2]) if sizes else 1


def _words(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text)}


def _weights(context: str) -> dict[str, float]:
    """The inverse count of each word: log(1 + 1 / occurrences)."""
    counts = Counter(word.lower() for word in WORD.findall(context))
    return {word: log1p(1 / count) for word, count in counts.items()}
