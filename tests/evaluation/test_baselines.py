"""The baselines learn what can be counted, and their cost is bounded and said."""

from __future__ import annotations

import warnings

import numpy as np
import pyarrow as pa
import pytest

from warmstart.evaluation.baselines import Texts, majority, sample_rows, tfidf
from warmstart.metrics import tfidf as tfidf_features

TRAIN = ["good film", "bad film", "good book", "bad book", "so good", "so bad"] * 4
TRUTH = np.array([1, 0] * 12)


def test_majority_gives_the_shares_of_the_training_rows() -> None:
    found = majority(np.array([2, 2, 0]), 3, test_rows=4, validation_rows=1)
    assert np.allclose(found.test, [[1 / 3, 0, 2 / 3]] * 4)
    assert found.validation.shape == (1, 3)


@pytest.mark.parametrize(
    "texts", [TRAIN, pa.array(TRAIN), pa.chunked_array([TRAIN[:5], TRAIN[5:]])]
)
def test_tfidf_learns_from_lists_and_from_arrow(texts: Texts) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = tfidf(texts, TRUTH, ["a good day", "a bad day"], TRAIN[:4], TRUTH[:4], 2)
    assert found is not None
    assert found.test.argmax(axis=1).tolist() == [1, 0]
    assert np.allclose(found.test.sum(axis=1), 1, atol=1e-5)
    assert found.validation.shape == (4, 2)


def test_a_class_without_training_rows_gets_nothing() -> None:
    found = tfidf(TRAIN, TRUTH * 2, ["good"], [], np.array([], dtype=int), 4)
    assert found is not None
    assert found.test.shape == (1, 4)
    assert found.test[0, [1, 3]].tolist() == [0, 0]
    assert found.validation.shape == (0, 4)


@pytest.mark.parametrize(("texts", "y"), [(["", " "] * 4, [0, 1] * 4), (TRAIN, [1] * 24)])
def test_nothing_to_count_or_to_tell_apart_is_no_baseline(texts: list[str], y: list[int]) -> None:
    assert tfidf(texts, np.array(y), ["x"], texts, np.array(y), 2) is None


def test_sampling_keeps_every_class_and_is_said() -> None:
    y = np.r_[np.zeros(500, dtype=int), [1]]
    chosen, notes = sample_rows(y, 20, seed=0)
    assert len(chosen) == 20
    assert 500 in chosen
    assert (np.diff(chosen) > 0).all()
    assert notes == ["It was trained on 20 of the 501 training rows."]
    assert sample_rows(y, 501, seed=0)[1] == []


def test_much_text_is_counted_by_words_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfidf_features, "PIECE_CHARACTERS", 50)
    found = tfidf(TRAIN, TRUTH, ["good"], TRAIN, TRUTH, 2)
    assert found is not None
    assert "whole words only" in found.notes[0]
