"""Scores of label sets equal scikit-learn's; tuned thresholds are the best, and careful."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from warmstart.metrics.bootstrap import intervals
from warmstart.metrics.multilabel import Labels, best_cuts, common_cut, log_odds, tuned_thresholds

NAMES = ["joy", "anger", "fear"]


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(1, 15))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    return rng.integers(0, 6, (n, 3)) / 5, rng.random((n, 3)) < draw(st.sampled_from([0.1, 0.5]))


@given(cases())
@settings(max_examples=100, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_scores_equal_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, truth = case
    given_, true = (scores >= 0.5).astype(int), truth.astype(int)
    found = Labels(NAMES)(scores, truth)

    def f1(average: str | None, empty: float, labels: object = None) -> float:
        return sk.f1_score(true, given_, labels=labels, average=average, zero_division=empty)

    present = np.flatnonzero(true.any(0))
    macro = f1("macro", 0.0, present) if len(present) else 0.0
    assert found["f1_micro"] == pytest.approx(f1("micro", 0.0))
    assert found["f1_macro"] == pytest.approx(macro)
    assert found["f1_samples"] == pytest.approx(f1("samples", 1.0))
    assert [found[f"f1:{name}"] for name in NAMES] == pytest.approx(f1(None, 0.0))
    assert found["subset_accuracy"] == pytest.approx(sk.accuracy_score(true, given_))
    ranking = sk.label_ranking_average_precision_score(true, scores)
    assert found["ranking_precision"] == pytest.approx(ranking)
    precision = sk.precision_score(true, given_, average="micro", zero_division=0)
    assert found["precision_micro"] == pytest.approx(precision)


def test_each_label_has_its_threshold() -> None:
    scores, truth = [[0.4, 0.4, 0.9], [0.1, 0.6, 0.2]], [[1, 0, 1], [0, 1, 0]]
    measure = Labels(NAMES, np.array([0.3, 0.5, 0.9]))
    assert measure(scores, truth)["subset_accuracy"] == 1.0
    assert Labels(NAMES, 0.5)(scores, truth)["subset_accuracy"] == 0.5
    with pytest.raises(ValueError, match="do not fit"):
        measure(scores, [[1, 0], [0, 1]])


def test_the_labels_of_a_mean_are_those_of_the_whole_truth() -> None:
    truth = np.array([[1, 0, 0]] * 40 + [[0, 1, 0]] * 2)
    given_ = np.array([[1, 0, 0]] * 30 + [[0, 0, 1]] * 10 + [[0, 1, 0], [0, 0, 0]])
    measure = Labels(NAMES)
    rows = measure.rows(given_, truth)
    found = intervals(measure, rows, draws=400)["f1_macro"]
    assert found.value == pytest.approx(
        sk.f1_score(truth, given_, labels=[0, 1], average="macro", zero_division=0)
    )
    without = np.r_[np.ones(40), 0, 0]
    kept = measure.weighted(rows, without)
    assert kept["f1:anger"] == pytest.approx(measure.total(rows)["f1:anger"])
    assert kept["f1_macro"] == pytest.approx((kept["f1:joy"] + kept["f1:anger"]) / 2)
    assert found.low < found.value < found.high


def test_bearing_counts_the_rows_of_a_label() -> None:
    measure = Labels(NAMES)
    rows = measure.rows([[0.9, 0, 0], [0, 0.9, 0]], [[1, 0, 0], [0, 0, 1]])
    assert [measure.bearing(rows)[f"f1:{name}"] for name in NAMES] == [1, 1, 1]
    assert measure.bearing(rows)["recall:anger"] == 0


@given(cases())
@settings(max_examples=80, deadline=None)
def test_no_cut_has_a_better_f1_than_the_best(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, truth = case
    odds = log_odds(scores)
    cuts = best_cuts(odds, truth)
    for label in range(3):
        if not truth[:, label].any():
            assert cuts[label] == 0.0
            continue

        def f1(cut: float, label: int = label) -> float:
            return float(sk.f1_score(truth[:, label], odds[:, label] >= cut, zero_division=0))

        assert f1(cuts[label]) == pytest.approx(max(f1(cut) for cut in odds[:, label]))


def test_the_common_cut_has_the_best_macro_f1_of_the_grid() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((300, 4)) < [0.5, 0.2, 0.05, 0.0]
    odds = rng.normal(size=(300, 4)) + 2 * truth - 1

    def macro(cut: float) -> float:
        return float(sk.f1_score(truth[:, :3], odds[:, :3] >= cut, average="macro"))

    best = max(macro(cut) for cut in np.linspace(odds.min(), odds.max(), 200))
    assert macro(common_cut(odds, truth)) == pytest.approx(best)


def test_rare_labels_stay_near_the_common_threshold() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((400, 3)) < [0.4, 0.3, 0.3]
    truth[:, 2] = False
    truth[0, 2] = True  # one row, scored high by chance
    odds = rng.normal(size=truth.shape) + 2 * truth - 1.0
    odds[0, 2] = 8.0
    p = 1 / (1 + np.exp(-odds))
    common = 1 / (1 + np.exp(-common_cut(odds, truth)))
    own, careful = tuned_thresholds(p, truth, prior=0), tuned_thresholds(p, truth, prior=10)
    assert own[2] > 0.95
    assert abs(careful[2] - common) < 0.1
    assert np.abs(careful[:2] - own[:2]).max() < 0.05
    positives = truth[:, 0].sum()
    halfway = log_odds(tuned_thresholds(p, truth, prior=positives))[0]
    assert halfway == pytest.approx((log_odds(own)[0] + common_cut(log_odds(p), truth)) / 2)


def test_labels_without_positive_rows_take_the_common_threshold() -> None:
    p, truth = np.array([[0.8, 0.2], [0.3, 0.4], [0.7, 0.1]]), np.array([[1, 0], [0, 0], [1, 0]])
    found = tuned_thresholds(p, truth)
    assert 0.3 < found[0] <= 0.7
    assert found[1] == pytest.approx(1 / (1 + np.exp(-common_cut(log_odds(p), truth == 1))))
    assert tuned_thresholds(p, np.zeros((3, 2))).tolist() == [0.5, 0.5]
    assert np.isfinite(tuned_thresholds(np.array([[0.0, 1.0], [1.0, 0.0]]), np.eye(2))).all()
