from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.balance import class_weights, resample

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


@given(LABELS, st.integers(0, 3))
def test_over_keeps_all_rows_and_evens_out(labels: np.ndarray, seed: int) -> None:
    rows = resample(labels, "over", seed)
    assert set(rows) == set(range(len(labels)))
    assert len(set(np.bincount(labels[rows])) - {0}) == 1
    for label in set(labels):
        times = np.bincount(rows, minlength=len(labels))[labels == label]
        assert times.max() - times.min() <= 1
    assert (rows == resample(labels, "over", seed)).all()


@given(LABELS)
def test_under_repeats_nothing_and_evens_out(labels: np.ndarray) -> None:
    rows = resample(labels, "under", 0)
    assert len(set(rows)) == len(rows)
    assert set(np.bincount(labels[rows])) - {0} == {np.unique(labels, return_counts=True)[1].min()}


def test_none_is_every_row_once() -> None:
    assert resample(np.array([1, 1, 0]), "none", 0).tolist() == [0, 1, 2]
    assert resample(np.array([], int), "over", 0).tolist() == []


@given(LABELS)
def test_weights_average_to_one(labels: np.ndarray) -> None:
    present = np.unique(labels, return_inverse=True)[1]
    weights = class_weights(present, int(present.max()) + 1)
    np.testing.assert_allclose(weights[present].mean(), 1)


def test_weights_are_the_balanced_ones_and_zero_for_absent() -> None:
    assert class_weights(np.array([0, 0, 0, 1]), 3).tolist() == [4 / 9, 4 / 3, 0]
