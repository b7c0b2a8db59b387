"""Exact match and token F1 as SQuAD's scripts count them (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, Measure, Scores, ratio

ARTICLES = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """Lower case, without ASCII punctuation and English articles, single spaces."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(NO_PUNCTUATION)).split())


def exact_match(answer: str, reference: str) -> float:
    """1 if both are the same once normalized."""
    return float(normalized(answer) == normalized(reference))


def token_f1(answer: str, reference: str, empty_may_match: bool = True) -> float:
    """F1 of the bags of normalized words.

    Where one has no words, SQuAD 2 asks whether both have none; SQuAD 1.1 gives 0.
    """
    predicted, true = normalized(answer).split(), normalized(reference).split()
    if not predicted or not true:
        return float(predicted == true) if empty_may_match else 0.0
    same = sum((Counter(predicted) & Counter(true)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(true)
    return 2 * precision * recall / (precision + recall)


class Answers(Measure):
    """Exact match and token F1, each the best over a question's reference answers, in 0 to 1.

    Predictions: one string a row, "" for "no answer". References: the right answers of a row, none
    for a question without answer. `version` 2 counts as SQuAD 2's script, 1 as that of 1.1; they
    differ in answers without words. `unanswerable` adds the figures of the two kinds of question
    (`has_answer_f1`, `no_answer_f1` …). Statistics [n, 6]: 1, exact, F1; and the same again for
    rows that have an answer, 0 for others.
    """

    def __init__(self, version: int = 2, unanswerable: bool = False) -> None:
        self.version, self.unanswerable = version, unanswerable

    def rows(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
        counts = np.zeros((len(references), 6))
        for row, answer, accepted in zip(counts, predictions, references, strict=True):
            # SQuAD 2 counts the references that have words, or "" where there are none
            texts = [t for t in accepted if self.version == 1 or normalized(t)] or [""]
            f1 = max(token_f1(answer, text, self.version == 2) for text in texts)
            row[:3] = 1.0, max(exact_match(answer, text) for text in texts), f1
            row[3:] = row[:3] * any(accepted)
        return counts

    def score(self, sums: Floats) -> Scores:
        scores = _named(sums[..., :3])
        if self.unanswerable:
            scores |= _named(sums[..., 3:], "has_answer_")
            scores |= _named(sums[..., :3] - sums[..., 3:], "no_answer_")
        return scores

    def bearing(self, rows: Floats) -> dict[str, int]:
        answered = int(rows[:, 3].sum())
        names = ("exact_match", "f1")
        return {
            **{f"has_answer_{name}": answered for name in names},
            **{f"no_answer_{name}": len(rows) - answered for name in names},
        }


def best_no_answer_threshold(
    scores: NDArray[Any], no_answer: NDArray[Any], has_answer: NDArray[Any], empty: NDArray[Any]
) -> tuple[float, float]:
    """The threshold that gives the best mean of a row's figure, as SQuAD 2's script finds it, and
    that mean. "" is answered where the probability of no answer is above the threshold.

    `scores` [n]: exact match or F1 of the answers as given; `no_answer` [n]: the probability that
    there is none; `has_answer` [n]: whether there is one; `empty` [n]: whether the answer given was
    "". Rows of equal probability move together (the script moves them one by one).
    """
    scores, has_answer = np.asarray(scores, float), np.asarray(has_answer, bool)
    order = np.argsort(no_answer, kind="stable")
    probability = np.asarray(no_answer, float)[order]
    gained = np.where(has_answer, scores, np.where(np.asarray(empty, bool), 0.0, -1.0))[order]
    totals = (~has_answer).sum() + np.cumsum(gained)
    last_of_equal = np.append(probability[1:] > probability[:-1], True)
    totals, probability = totals[last_of_equal], probability[last_of_equal]
    best = int(np.argmax(totals)) if len(totals) else 0
    nothing = float((~has_answer).sum())
    if not len(totals) or totals[best] <= nothing:
        return 0.0, nothing / max(1, len(scores))
    return float(probability[best]), float(totals[best]) / len(scores)


def _named(sums: Floats, before: str = "") -> Scores:
    rows, exact, f1 = sums[..., 0], sums[..., 1], sums[..., 2]
    return {f"{before}exact_match": ratio(exact, rows), f"{before}f1": ratio(f1, rows)}
