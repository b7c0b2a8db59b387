"""Baselines of pairs of answers: what can be said of the better one without understanding it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import log
from typing import Self

import numpy as np
from numpy.typing import NDArray

from warmstart.evaluation.baselines.base import Baseline
from warmstart.tasks.base import Examples
from warmstart.tasks.preference.pairs import ANSWERS, readable

WORD = re.compile(r"[\w']+")


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
    return {word.lower() for word in WORD.findall(text)}


def pairs_of(rows: Examples) -> Iterator[tuple[str, str]]:
    """The chosen and the rejected answer of each row, as texts."""
    return zip(*(readable(rows.table[name]) for name in ANSWERS), strict=True)
