"""The n-gram models that language models are compared with: bench/ngram.py."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import pytest

TEXT = "The cat sat. The dog sat. The cat ran! A dog ran. The cat sat on the dog. A bird."


@pytest.fixture(scope="module")
def ngram() -> Any:
    folder = str(Path(__file__).resolve().parents[1] / "bench")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("ngram")
    finally:
        sys.path.remove(folder)


def test_probabilities_sum_to_one_behind_any_history(ngram: Any) -> None:
    for order in (1, 2, 3, 5):
        model = ngram.KneserNey(ngram.sentences_of(TEXT), order)
        for words in ([], ["the"], ["the", "cat"], ["no", "such"], ["on", "the", "dog", "."]):
            history = [ngram.START, *model.numbers(words)]
            total = sum(model.probability(history, word) for word in range(1, model.size))
            assert total == pytest.approx(1.0)


def test_bigrams_by_hand(ngram: Any) -> None:
    """a b, a b, b a, a: counts of 1 (n1) and 2 (n2) give the discount; b is continued once."""
    model = ngram.KneserNey([["a", "b"], ["a", "b"], ["b", "a"], ["a"]], 2)
    bigrams = model.orders[1]
    # <s> a 3, <s> b 1, a b 2, a </s> 2, b </s> 2, b a 1
    discount = 2 / (2 + 2 * 3)
    assert bigrams.discount == pytest.approx(discount)
    a, b, end = model.ids["a"], model.ids["b"], ngram.END
    # different words before: a 2 (<s>, b), b 2 (<s>, a), </s> 2 (a, b); n1 = 0, so no discount
    assert model.orders[0].discount == 0.0
    below = 2 / 6
    assert model.probability([ngram.START, a], b) == pytest.approx(
        (2 - discount + discount * 2 * below) / 4
    )
    assert model.probability([ngram.START, b], a) == pytest.approx(
        (1 - discount + discount * 2 * below) / 3
    )
    assert model.probability([ngram.START], end) == pytest.approx(discount * 2 * below / 4)
    nats = model.nats(["a", "b"])
    parts = [([0], a), ([0, a], b), ([0, a, b], end)]
    assert nats == pytest.approx(-sum(math.log(model.probability(h, w)) for h, w in parts))


def test_a_longer_history_tells_more_of_what_was_seen(ngram: Any) -> None:
    sentences = ngram.sentences_of(TEXT)
    losses = [ngram.KneserNey(sentences, order).nats(["the", "cat", "sat", "."])
              for order in (1, 2, 3)]  # fmt: skip
    assert losses[0] > losses[1] > losses[2]
    assert ngram.words_of("Don’t stop, John's!") == ["don't", "stop", ",", "john's", "!"]
