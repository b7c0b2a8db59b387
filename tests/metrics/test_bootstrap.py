"""Intervals hold the true figure as often as they say; comparisons call noise noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from warmstart.metrics.bootstrap import (
    Difference,
    _Sample,
    difference,
    intervals,
    resampled_units,
    unseen_errors,
)
from warmstart.metrics.classification import ClassMeasure
from warmstart.metrics.entities import Entities
from warmstart.metrics.squad import Answers


def exact(right: np.ndarray) -> np.ndarray:
    """Rows of `Answers` of which these are right."""
    return Answers().rows(["x" if hit else "y" for hit in right], [["x"]] * len(right))


def test_every_resample_has_as_many_rows_and_every_row_the_same_chance() -> None:
    blocks = list(resampled_units(np.ones(7), 3000, seed=0))
    weights = np.concatenate(blocks)
    assert weights.shape == (3000, 7)
    assert (weights.sum(1) == 7).all()
    assert weights.mean(0) == pytest.approx(np.ones(7), abs=0.1)
    assert weights.var() == pytest.approx(6 / 7, abs=0.05)
    assert np.array_equal(weights, np.concatenate(list(resampled_units(np.ones(7), 3000, seed=0))))


def test_large_tests_are_drawn_in_blocks() -> None:
    blocks = list(resampled_units(np.ones(300_000), 8, seed=0))
    assert [len(block) for block in blocks] == [6, 2]


@pytest.mark.parametrize("repeats", [True, False])
def test_groups_are_drawn_whole(repeats: bool) -> None:
    """Five rows of three authors: where rows repeat, authors of one row are drawn by their kind."""
    measure = ClassMeasure(3)
    measure.repeats = repeats
    rows = measure.rows(np.array([0, 0, 1, 2, 0, 2]), np.array([0, 0, 0, 2, 1, 2]))
    groups = np.array(["a", "b", "a", "c", "a", "d"])
    sample = _Sample.of(measure, [rows], groups)
    drawn = np.concatenate(list(sample.resamples(400, seed=0)))
    sums = {"a": np.zeros(400), "b": np.zeros(400), "cd": np.zeros(400)}
    of_row = {(0, 1): ("a",), (1, 0): ("a",), (2, 2): ("cd",)}
    for place, row in enumerate(sample.rows[0].astype(int).tolist()):
        if tuple(row) in of_row:
            sums[of_row[tuple(row)][0]] += drawn[:, place]
    assert (sums["a"] % 2 == 0).all() and sums["a"].max() > 2  # 2 of its 3 rows are of these kinds
    assert (sample.whole.sum(), drawn.sum(1).mean()) == (6, pytest.approx(6, rel=0.1))
    plain = measure.total(rows)
    assert sample.measured_by(measure).total(sample.rows[0], sample.whole) == pytest.approx(plain)


def test_rows_that_belong_together_make_intervals_wider() -> None:
    rng = np.random.default_rng(0)
    rows = exact(np.repeat(rng.random(40) < 0.6, 10))
    alone = intervals(Answers(), rows)["f1"]
    together = intervals(Answers(), rows, groups=np.repeat(np.arange(40), 10))["f1"]
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_the_interval_of_a_share_is_the_binomial_one() -> None:
    rows = exact(np.arange(400) < 300)
    found = intervals(Answers(), rows, draws=4000)["exact_match"]
    theirs = stats.binomtest(300, 400).proportion_ci(method="wilson")
    assert found.value == 0.75
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_intervals_agree_with_those_of_single_label_results() -> None:
    rng = np.random.default_rng(0)
    y, answer = rng.integers(0, 2, 300), rng.integers(0, 2, 300)
    measure = ClassMeasure(2)
    theirs = intervals(measure, measure.rows(answer, y), 2000)
    ours = intervals(Answers(), exact(y == answer), draws=2000)["exact_match"]
    assert ours.value == pytest.approx(theirs["accuracy"].value)
    assert ours.low == pytest.approx(theirs["accuracy"].low, abs=0.012)
    assert ours.high == pytest.approx(theirs["accuracy"].high, abs=0.012)


def test_the_share_of_intervals_that_hold_the_truth_is_the_level() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for trial in range(200):
        rows = exact(rng.random(150) < 0.7)
        found = intervals(Answers(), rows, draws=200, level=0.9, seed=trial)["f1"]
        held += found.low <= 0.7 <= found.high
    assert 0.82 <= held / 200 <= 0.96


def test_perfect_and_hopeless_results_claim_no_certainty() -> None:
    perfect = intervals(Answers(), exact(np.ones(50, bool)), draws=50)["f1"]
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx(unseen_errors(50, 0.95)) == pytest.approx(0.025 ** (1 / 50))
    hopeless = intervals(Answers(), exact(np.zeros(50, bool)), draws=50)["f1"]
    assert (hopeless.value, hopeless.low) == (0.0, 0.0)
    assert hopeless.high == pytest.approx(1 - 0.025 ** (1 / 50))


def test_a_rare_type_is_as_unsure_as_its_few_rows() -> None:
    spans = [[(0, 1, "A")], [(0, 1, "B")], *[[(0, 1, "A")]] * 98]
    measure = Entities(("A", "B"))
    found = intervals(measure, measure.rows(spans, spans), draws=50)
    assert found["f1:B"].low == pytest.approx(unseen_errors(1, 0.95))
    assert found["f1:A"].low > 0.95


def test_differences() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (exact(rng.random(400) < share) for share in (0.8, 0.6, 0.8))
    better = difference(Answers(), a, b, "f1")
    assert better.outcome == "better"
    assert better.low < better.difference < better.high
    assert better.p_value < 0.01
    assert difference(Answers(), b, a, "f1").outcome == "worse"
    assert difference(Answers(), a, c, "f1").outcome == "noise"
    same = difference(Answers(), a, a.copy(), "f1", draws=50)
    assert (same.difference, same.p_value, same.outcome) == (0.0, 1.0, "noise")
    assert Difference(**better.as_dict()) == better


def test_systems_that_are_alike_seldom_differ() -> None:
    rng = np.random.default_rng(1)
    outcomes = [
        difference(
            Answers(), exact(rng.random(80) < 0.7), exact(rng.random(80) < 0.7), "f1", draws=200
        ).outcome
        for _ in range(100)
    ]
    assert outcomes.count("noise") >= 90


def test_two_systems_need_the_same_rows() -> None:
    with pytest.raises(ValueError, match="different rows"):
        difference(Answers(), exact(np.ones(3, bool)), exact(np.ones(4, bool)), "f1")
