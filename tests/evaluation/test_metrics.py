"""Every score equals scikit-learn's, for one result and for resamples of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from warmstart.metrics import classification as ours
from warmstart.metrics.class_intervals import Cells, tally_of_counts

REFERENCE = {
    "accuracy": sk.accuracy_score,
    "f1_macro": lambda y, p: sk.f1_score(
        y, p, labels=np.unique(y), average="macro", zero_division=0
    ),
    "f1_weighted": lambda y, p: sk.f1_score(y, p, average="weighted", zero_division=0),
    "matthews_correlation": sk.matthews_corrcoef,
}

pairs = st.integers(2, 7).flatmap(
    lambda k: st.tuples(
        st.just(k),
        st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=60),
    )
)


@given(pairs)
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_scores_equal_scikit_learn(case: tuple[int, list[tuple[int, int]]]) -> None:
    k, rows = case
    y, p = (np.array(column) for column in zip(*rows, strict=True))
    t = ours.tally(y, p, k)
    for name, reference in REFERENCE.items():
        assert float(ours.METRICS[name](t)) == pytest.approx(reference(y, p), abs=1e-12), name
    matrix = sk.confusion_matrix(y, p, labels=range(k))
    assert np.array_equal(ours.confusion_matrix(y, p, k), matrix)
    found = sk.precision_recall_fscore_support(y, p, labels=range(k), zero_division=0)
    for mine, theirs in zip((ours.precision, ours.recall, ours.f1), found, strict=False):
        assert np.allclose(mine(t), theirs, atol=1e-12)
    assert np.array_equal(t.actual, found[3])


def test_a_tally_of_counts_equals_the_tally_of_the_rows_repeated() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 5, 40), rng.integers(0, 5, 40)
    cells = Cells.of([y, p], 5)
    counts = rng.integers(0, 4, (3, len(cells.count)))
    drawn = tally_of_counts(counts.astype(float), cells, 5)
    for number, row in enumerate(counts):
        repeated = [np.repeat(column, row) for column in cells.columns]
        whole = ours.tally(*repeated, 5)
        assert np.array_equal(drawn.right[number], whole.right)
        assert np.array_equal(drawn.predicted[number], whole.predicted)
        assert np.array_equal(drawn.actual[number], whole.actual)


@pytest.mark.filterwarnings("ignore")
def test_a_resample_is_judged_on_the_classes_of_the_whole_set() -> None:
    """The slow twin: scikit-learn on the rows of each resample, a class that it lacks kept."""
    y, p = np.array([0] * 20 + [1] * 10 + [2] * 2), np.array([0, 1, 3, 4] * 7 + [2] * 4)
    cells = Cells.of([y, p], 5)
    whole = sk.f1_score(y, p, labels=range(5), average=None, zero_division=0)
    counts = np.random.default_rng(1).multinomial(len(y), cells.count / len(y), size=60)
    drawn = tally_of_counts(counts.astype(float), cells, 5)
    lacking = 0
    for number, row in enumerate(counts):
        truth, answer = (np.repeat(column, row) for column in cells.columns)
        each = sk.f1_score(truth, answer, labels=range(5), average=None, zero_division=0)
        each = np.where(np.isin(range(5), truth), each, whole)
        lacking += 2 not in truth
        assert np.allclose(ours.f1(drawn)[number], each)
        assert float(ours.f1_macro(drawn)[number]) == pytest.approx(each[:3].mean())
        for name in ("f1_weighted", "matthews_correlation"):
            assert float(ours.METRICS[name](drawn)[number]) == pytest.approx(
                REFERENCE[name](truth, answer)
            )
    assert lacking > 3
