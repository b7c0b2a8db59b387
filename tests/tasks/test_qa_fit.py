"""What validation and train settle: when there is no answer, and how long one may be."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.tasks.base import Examples
from warmstart.tasks.extractive_qa.decoding import (
    UNTUNED,
    SpanScores,
    best_threshold,
    longest_answer,
)

NOTHING: Any = None


def rows(*golds: str) -> Examples:
    answers = [json.dumps([{"text": gold, "start": 0}] if gold else []) for gold in golds]
    table = pa.table({"context": ["ab"] * len(golds), "answers": answers})
    return Examples(table, NOTHING, [], None)


def found(no_answer: float) -> SpanScores:
    """Says "a", with this probability of no answer."""
    odds = float(np.log(no_answer) - np.log1p(-no_answer))
    return SpanScores([(0, 1, 0.0)], nothing=odds, total=0.0)


def test_the_threshold_parts_the_two_kinds() -> None:
    validation = rows("a", "a", "", "")
    given = [found(p) for p in (0.1, 0.3, 0.5, 0.9)]
    assert best_threshold(given, validation) == pytest.approx(0.4)


def test_the_threshold_with_the_best_f1() -> None:
    given = [found(p) for p in (0.1, 0.3, 0.5, 0.9)]
    assert best_threshold(given, rows("a", "", "a", "a")) == pytest.approx(0.9)
    assert best_threshold(given, rows("b", "", "", "b")) < 0.1, "never an answer is best"


def test_without_both_kinds_there_is_nothing_to_choose() -> None:
    assert best_threshold([found(0.2)], rows("a")) == UNTUNED
    assert best_threshold([found(0.2)], rows("")) == UNTUNED
    assert best_threshold([], rows()) == UNTUNED


def test_the_longest_of_the_training_answers() -> None:
    spans = np.array([[-1, -1], *[[i, i + 1] for i in range(9)]] * 4, np.int32)
    targets = np.array([[1, 1], [1, 2], [2, 7], [0, 0]])
    store = TokenizedDataset(np.zeros(40, np.uint16), np.arange(0, 41, 10), targets, spans=spans)
    assert longest_answer(store, 100) == 6
    assert longest_answer(store, 50) == 2
    store.targets[:] = -100
    assert longest_answer(store, 100) == 1
