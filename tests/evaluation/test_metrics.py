"""Every score equals scikit-learn's, for one result and for resamples of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from warmstart.metrics import classification as ours
from warmstart.metrics.bootstrap import difference, intervals

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


def test_distinct_rows_with_counts_equal_the_rows_repeated() -> None:
    """The slow twin: every row by itself."""
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 5, 40), rng.integers(0, 5, 40)
    measure = ours.ClassMeasure(5, list("abcde"))
    rows, counts = np.unique(measure.rows(p, y), axis=0, return_counts=True)
    whole = measure.total(measure.rows(p, y))
    assert measure.with_counts(counts).total(rows, counts.astype(float)) == pytest.approx(whole)
    assert measure.total(np.repeat(rows, counts, axis=0)) == pytest.approx(whole)


def test_resampled_counts_are_as_resampled_rows() -> None:
    """A multinomial of the distinct rows gives the intervals that drawing single rows gives."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 4, 300)
    p = np.where(rng.random(300) < 0.6, y, rng.integers(0, 4, 300))
    measure = ours.ClassMeasure(4, list("abcd"))
    rows, alone = measure.rows(p, y), np.arange(300)
    fast = intervals(measure, rows, 4000)
    slow = intervals(measure, rows, 4000, groups=alone)  # groups of one row are drawn as rows
    for name, one in fast.items():
        assert one.value == pytest.approx(slow[name].value)
        assert (one.low, one.high) == pytest.approx((slow[name].low, slow[name].high), abs=0.012)
    other = measure.rows(rng.permutation(p), y)
    quick = difference(measure, rows, other, "f1_macro", 4000)
    plain = difference(measure, rows, other, "f1_macro", 4000, groups=alone)
    assert quick.difference == pytest.approx(plain.difference)
    assert (quick.low, quick.high) == pytest.approx((plain.low, plain.high), abs=0.012)


@pytest.mark.filterwarnings("ignore")
def test_a_resample_is_judged_on_the_classes_of_the_whole_set() -> None:
    """The slow twin: scikit-learn on the rows of each resample, a class that it lacks kept."""
    y, p = np.array([0] * 20 + [1] * 10 + [2] * 2), np.array([0, 1, 3, 4] * 7 + [2] * 4)
    measure = ours.ClassMeasure(5, list("abcde"))
    cells, count = np.unique(measure.rows(p, y), axis=0, return_counts=True)
    whole = sk.f1_score(y, p, labels=range(5), average=None, zero_division=0)
    counts = np.random.default_rng(1).multinomial(len(y), count / len(y), size=60)
    drawn = measure.with_counts(count).weighted(cells, counts.astype(float))
    lacking = 0
    for number, row in enumerate(counts):
        truth, answer = (np.repeat(column, row).astype(int) for column in cells.T)
        each = sk.f1_score(truth, answer, labels=range(5), average=None, zero_division=0)
        each = np.where(np.isin(range(5), truth), each, whole)
        lacking += 2 not in truth
        assert np.allclose([drawn[f"f1:{name}"][number] for name in "abcde"], each)
        assert float(drawn["f1_macro"][number]) == pytest.approx(each[:3].mean())
        for name in ("f1_weighted", "matthews_correlation"):
            assert float(drawn[name][number]) == pytest.approx(REFERENCE[name](truth, answer))
    assert lacking > 3
