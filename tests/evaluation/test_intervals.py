"""Intervals hold what they should, and noise is called noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from warmstart.evaluation.sentences import p_words, points, verdict
from warmstart.metrics.bootstrap import Difference, difference, intervals, mcnemar, unseen_errors
from warmstart.metrics.classification import ClassMeasure


def answers(rng: np.random.Generator, y: np.ndarray, k: int, right: float) -> np.ndarray:
    """Answers that are right with a probability, and else any class."""
    return np.where(rng.random(len(y)) < right, y, rng.integers(0, k, len(y)))


def class_intervals(
    y: np.ndarray, p: np.ndarray, k: int, draws: int, level: float, seed: int
) -> tuple[dict[str, Any], list[Any]]:
    """The interval of every figure, and of the F1 of each class."""
    measure = ClassMeasure(k, [str(c) for c in range(k)])
    found = intervals(measure, measure.rows(p, y), draws, level, seed)
    return found, [found[f"f1:{c}"] for c in range(k)]


def paired(
    y: np.ndarray, a: np.ndarray, b: np.ndarray, k: int, draws: int = 1000, seed: int = 0
) -> Difference:
    measure = ClassMeasure(k)
    return difference(
        measure, measure.rows(a, y), measure.rows(b, y), "f1_macro", draws, seed=seed
    )  # fmt: skip


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng, held, trials, k, right = np.random.default_rng(1), 0, 200, 3, 0.7
    true_accuracy = right + (1 - right) / k
    for trial in range(trials):
        y = rng.integers(0, k, 300)
        scores, _ = class_intervals(y, answers(rng, y, k, right), k, 300, 0.95, trial)
        held += scores["accuracy"].low <= true_accuracy <= scores["accuracy"].high
    assert 0.90 <= held / trials <= 0.99


def test_the_bootstrap_of_accuracy_has_the_binomial_spread() -> None:
    y = np.zeros(1000, dtype=int)
    p = np.r_[np.zeros(800, dtype=int), np.ones(200, dtype=int)]
    scores, classes = class_intervals(y, p, 2, 4000, 0.95, 0)
    exact = binomtest(800, 1000).proportion_ci(method="wilson")
    assert scores["accuracy"].low == pytest.approx(exact.low, abs=0.004)
    assert scores["accuracy"].high == pytest.approx(exact.high, abs=0.004)
    assert len(classes) == 2


def test_the_interval_fits_its_score_where_classes_are_many_and_rows_few() -> None:
    """Classes that only the answers name, and classes of two rows, used to move the resamples."""
    rng = np.random.default_rng(3)
    k, y = 60, np.r_[np.repeat(np.arange(40), 2), np.zeros(40, dtype=int)]
    p = answers(rng, y, k, 0.4)
    scores, _ = class_intervals(y, p, k, 1000, 0.95, 0)
    macro = scores["f1_macro"]
    wanted = f1_score(y, p, labels=range(40), average="macro", zero_division=0)
    assert macro.value == pytest.approx(wanted)
    assert macro.low + 0.02 < macro.value < macro.high - 0.02
    against = paired(y, p, answers(rng, y, k, 0.2), k)
    assert against.low + 0.02 < against.difference < against.high - 0.02


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 4, 100)
    p = answers(rng, y, 4, 0.5)
    assert class_intervals(y, p, 4, 200, 0.9, 7) == class_intervals(y, p, 4, 200, 0.9, 7)
    assert class_intervals(y, p, 4, 200, 0.9, 7) != class_intervals(y, p, 4, 200, 0.9, 8)


def test_a_flawless_result_does_not_claim_certainty() -> None:
    y = np.arange(40) % 2
    scores, classes = class_intervals(y, y, 2, 200, 0.95, 0)
    low = binomtest(40, 40).proportion_ci(method="exact").low
    assert unseen_errors(40, 0.95) == pytest.approx(low)
    assert scores["f1_macro"].low == pytest.approx(low)
    assert (scores["accuracy"].value, scores["accuracy"].high) == (1.0, 1.0)
    assert classes[0].low < 1


def test_a_class_that_is_always_right_or_never_found_is_not_certain_either() -> None:
    y = np.r_[np.zeros(9, dtype=int), np.ones(6, dtype=int), np.full(30, 2)]
    p = np.where(y == 1, 2, y)
    _, classes = class_intervals(y, p, 4, 200, 0.95, 0)
    assert classes[0].value == 1
    assert classes[0].low == pytest.approx(unseen_errors(9, 0.95))
    assert classes[1].value == 0
    assert classes[1].high == pytest.approx(1 - unseen_errors(6, 0.95))
    assert (classes[3].low, classes[3].high) == (0, 0)


def test_equal_models_are_noise_and_rarely_anything_else() -> None:
    rng, called = np.random.default_rng(4), 0
    for trial in range(60):
        y = rng.integers(0, 3, 200)
        a, b = answers(rng, y, 3, 0.7), answers(rng, y, 3, 0.7)
        called += paired(y, a, b, 3, draws=200, seed=trial).outcome != "noise"
    assert called <= 7  # about 3 expected


def test_the_same_answers_differ_by_nothing() -> None:
    y = np.arange(90) % 3
    same = paired(y, y, y, 3, draws=100)
    assert (same.difference, same.p_value, same.mcnemar_p, same.outcome) == (0, 1, 1, "noise")
    assert "cannot be told from noise" in verdict(same, "the best baseline", "macro-F1")
    many = np.arange(900) % 3
    none = paired(many, many, many, 3, draws=100)
    text = verdict(none, "the best baseline", "macro-F1")
    assert text.startswith("no difference of more than 0.2 points: 0.0 points of macro-F1 against")


def test_a_true_gain_that_few_rows_cannot_show_is_not_called_none() -> None:
    """5 points on 100 rows: mostly not shown, and never said not to be there."""
    rng, said = np.random.default_rng(6), list[str]()
    for trial in range(60):
        y = rng.integers(0, 2, 100)
        a, b = (np.where(rng.random(100) < right, y, 1 - y) for right in (0.8, 0.75))
        said.append(verdict(paired(y, a, b, 2, draws=200, seed=trial), "B", "macro-F1"))
    assert sum("cannot be told" in text for text in said) > 30
    assert not any("no difference" in text or "is noise" in text for text in said)


def test_tests_that_disagree_are_not_called_noise() -> None:
    def told(low: float, high: float, p: float) -> str:
        one = Difference("f1", -0.345, low, high, p, 0.95)
        assert one.outcome == "noise" and "disputed" not in one.as_dict()
        return verdict(one, "TF-IDF", "F1")

    split = told(-0.562, -0.118, 0.06)
    assert "cannot be told from chance with so few test rows" in split
    assert "the two tests disagree" in split and "noise" not in split
    assert "−56.2 to −11.8" in split and "p = 0.060" in split
    assert "disagree" in told(-0.7, 0.01, 0.03)
    assert "cannot be told from noise" in told(-0.7, 0.01, 0.06)


def test_a_clear_gap_is_better_one_way_and_worse_the_other() -> None:
    rng = np.random.default_rng(5)
    y = rng.integers(0, 4, 1500)
    a, b = answers(rng, y, 4, 0.85), answers(rng, y, 4, 0.7)
    better, worse = paired(y, a, b, 4), paired(y, b, a, 4)
    assert (better.outcome, worse.outcome) == ("better", "worse")
    assert better.difference == pytest.approx(-worse.difference)
    assert better.low < better.difference < better.high
    text = verdict(better, "the best baseline (X)", "macro-F1")
    assert text.startswith("better than the best baseline (X) by ")
    assert "points of macro-F1 (95 % interval " in text
    assert text.endswith("p < 0.001)")
    assert "−" not in verdict(worse, "X", "macro-F1")


def test_mcnemar_is_the_binomial_test_of_the_rows_that_differ() -> None:
    a = np.array([True] * 60 + [False] * 5 + [True] * 15)
    b = np.array([True] * 60 + [True] * 5 + [False] * 15)
    assert mcnemar(a, b) == pytest.approx(binomtest(5, 20, 0.5).pvalue)
    y = np.zeros(80, int)
    assert paired(y, 1 - a, 1 - b, 2, draws=50).mcnemar_p == pytest.approx(mcnemar(a, b))


def test_figures_are_written_as_people_write_them() -> None:
    assert [points(v) for v in (0.098, -0.012, -0.0001)] == ["9.8", "−1.2", "0.0"]
    assert points(0.008, sign=True) == "+0.8"
    assert [p_words(p) for p in (0.00099, 0.0132, 0.4211)] == ["p < 0.001", "p = 0.013", "p = 0.42"]
