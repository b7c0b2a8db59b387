"""The best spans, beside a search through all of them and the loss of transformers."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from learning import loss_of, supervised
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.models.heads import SPAN
from warmstart.tasks.extractive_qa.decoding import (
    SpanScores,
    answers_of,
    find_spans,
    trimmed,
)

CONTEXT = "abcdefghijklmnopqrstuvwxyz"


def windowed(seed: int = 0) -> tuple[np.ndarray, TokenizedDataset]:
    """Two questions: one in a window of 9 letters, one in two of 8 that share 3. In front of each
    window stand two tokens of a question."""
    places = [(0, range(9)), (1, range(8)), (1, range(5, 13))]
    spans, sizes, targets = list[Any](), [0], list[Any]()
    for _, letters in places:
        spans += [(-1, -1)] * 2 + [(i, i + 1) for i in letters]
        sizes.append(len(spans))
        targets.append((3, 5))
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (len(spans), 2)).astype(np.float32)
    store = TokenizedDataset(
        np.zeros(len(spans), np.uint16), np.array(sizes), np.array(targets),
        spans=np.array(spans, np.int32), of_row=np.array([row for row, _ in places]),
    )  # fmt: skip
    return logits, store


def by_search(
    logits: np.ndarray, store: TokenizedDataset, row: int, longest: int
) -> dict[tuple[int, int], float]:
    """Every span of a question, with the best score that any window gives it."""
    assert store.spans is not None and store.of_row is not None
    found: dict[tuple[int, int], float] = {}
    for number in np.flatnonzero(store.of_row == row):
        places = range(store.offsets[number], store.offsets[number + 1])
        for i, j in product(places, places):
            if i <= j < i + longest and store.spans[i, 0] >= 0:
                span = int(store.spans[i, 0]), int(store.spans[j, 1])
                score = float(logits[i, 0].astype(np.float64) + logits[j, 1])
                found[span] = max(score, found.get(span, -np.inf))
    return found


@pytest.mark.parametrize("longest", [1, 3, 30])
@pytest.mark.parametrize("many", [1, 4, 500])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_all_spans(longest: int, many: int, seed: int) -> None:
    logits, store = windowed(seed)
    for row, one in enumerate(find_spans(logits, store, 2, longest, many, 0)):
        wanted = by_search(logits, store, row, longest)
        ranked = sorted(wanted.items(), key=lambda entry: -entry[1])[:many]
        assert [(start, end) for start, end, _ in one.spans] == [span for span, _ in ranked]
        np.testing.assert_allclose([s for *_, s in one.spans], [s for _, s in ranked], atol=1e-9)
        firsts = store.offsets[:-1][store.of_row == row]
        assert one.nothing == pytest.approx(float(logits[firsts].sum(1).min()), abs=1e-5)


def test_confidences_of_all_spans_sum_to_one() -> None:
    logits, store = windowed()
    first = find_spans(logits, store, 2, 30, 500, 0)[:1]
    (always,) = answers_of(first, [CONTEXT], None)
    assert sum(always.scores.values()) == pytest.approx(1)
    assert always.confidence == max(always.scores.values())
    (maybe,) = answers_of(first, [CONTEXT], 1.0)
    assert sum(maybe.scores.values()) == pytest.approx(1)
    assert "" in maybe.scores
    assert "" not in always.scores


def test_no_answer_is_given_above_the_threshold() -> None:
    found = [SpanScores([(2, 5, 3.0)], nothing=2.0, total=3.0)]
    probability = 1 / (1 + np.exp(1.0))
    assert found[0].no_answer == pytest.approx(probability)
    given: Any = [
        answers_of(found, [CONTEXT], threshold)[0]
        for threshold in (None, probability + 1e-6, probability - 1e-6)
    ]
    assert [one.value for one in given] == ["cde", "cde", ""]
    assert [(one.start, one.end) for one in given] == [(2, 5), (2, 5), (None, None)]
    assert given[2].confidence == pytest.approx(np.exp(2) / (np.exp(2) + np.exp(3)))


def test_a_context_without_tokens_has_no_answer() -> None:
    (empty,) = answers_of([SpanScores([], 0.0, -np.inf)], [""], None)
    assert (empty.value, empty.confidence) == ("", 1.0)


def test_white_space_is_left_outside() -> None:
    assert trimmed("a bc  d", 1, 6) == (2, 4)
    assert trimmed("a   b", 1, 3) == (3, 3)


def test_the_loss_of_transformers() -> None:
    """The mean over first and last tokens; a window without an answer counts nothing."""
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(3, 7, 2)).astype(np.float32))
    targets = torch.tensor([[1, 2], [-100, -100], [0, 6]])
    losses = [
        torch.nn.functional.cross_entropy(logits[i].T, targets[i], reduction="none").tolist()
        for i in (0, 2)
    ]
    total, _ = loss_of(supervised(SPAN), logits, targets)
    assert float(total / 2) == pytest.approx(np.mean(losses), abs=1e-6)
