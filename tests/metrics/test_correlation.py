"""Correlations and errors equal scipy's and scikit-learn's, whole and on every resample."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sk

from warmstart.metrics.bootstrap import difference, intervals, resampled_units
from warmstart.metrics.correlation import Agreement, weighted_ranks

values = st.integers(-4, 4).map(lambda v: v / 2)
pairs = st.lists(st.tuples(values, values), min_size=2, max_size=30)


def reference(given: NDArray[np.float64], true: NDArray[np.float64]) -> dict[str, float]:
    varies = len(set(given)) > 1 and len(set(true)) > 1
    return {
        "pearson": float(stats.pearsonr(given, true).statistic) if varies else 0.0,
        "spearman": float(stats.spearmanr(given, true).statistic) if varies else 0.0,
        "mse": float(sk.mean_squared_error(true, given)),
        "mae": float(sk.mean_absolute_error(true, given)),
        "r2": float(sk.r2_score(true, given)),
    }


@given(pairs)
@settings(max_examples=100, deadline=None)
def test_figures_equal_scipy_and_scikit_learn(rows: list[tuple[float, float]]) -> None:
    x, y = np.array(rows, float).T
    assert Agreement()(x, y) == pytest.approx(reference(x, y), abs=1e-9)


@given(pairs, st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_resamples_equal_scipy_on_the_rows_repeated(
    rows: list[tuple[float, float]], seed: int
) -> None:
    x, y = np.array(rows, float).T
    measure = Agreement()
    (weights,) = resampled_units(np.ones(len(x)), 3, seed)
    found = measure.weighted(measure.rows(x, y), weights)
    for draw, times in enumerate(weights.astype(int)):
        expected = reference(np.repeat(x, times), np.repeat(y, times))
        assert {name: value[draw] for name, value in found.items()} == pytest.approx(
            expected, abs=1e-9
        )


def test_far_from_zero_nothing_is_lost() -> None:
    rng = np.random.default_rng(0)
    y = 1e6 + rng.random(50)
    x = 1e-6 * (y - 1e6) + 3e-8 * rng.random(50)
    scores = Agreement()(x, y)
    assert scores["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-7)
    assert scores["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic)


def test_constants_have_no_correlation() -> None:
    scores = Agreement()([0.1] * 7, [1, 2, 3, 4, 5, 6, 7])
    assert (scores["pearson"], scores["spearman"]) == (0.0, 0.0)
    assert Agreement()([2.0, 2.0], [2.0, 2.0])["r2"] == 1.0
    assert Agreement()([2.0, 1.0], [2.0, 2.0])["r2"] == 0.0


def test_weighted_ranks_are_those_of_the_rows_repeated() -> None:
    x = np.array([3.0, 1.0, 3.0, 2.0])
    times = np.array([2, 1, 1, 3])
    found = weighted_ranks(x, times[None].astype(float))[0]
    assert np.array_equal(np.repeat(found, times), stats.rankdata(np.repeat(x, times)))


def test_two_systems_on_different_scales() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(200)
    good, bad = y + 0.1 * rng.normal(size=200), 1000 * (y + rng.normal(size=200))
    measure = Agreement()
    a, b = measure.rows(good, y), measure.rows(bad, y)
    for name in ("pearson", "spearman"):
        found = difference(measure, a, b, name, draws=200)
        assert found.outcome == "better"
        assert difference(measure, a, a.copy(), name, draws=50).outcome == "noise"
    assert difference(measure, a, b, "mse", draws=200).outcome == "better"
    assert difference(measure, b, a, "mse", draws=200).outcome == "worse"


def test_the_interval_of_pearson_agrees_with_fisher(shared_data: Path) -> None:
    with (shared_data / "stsb" / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    true = np.array([float(row["score"]) for row in rows])
    overlap = [
        len(a & b) / len(a | b)
        for row in rows
        for a, b in [({*row["sentence1"].lower().split()}, {*row["sentence2"].lower().split()})]
    ]
    measure = Agreement()
    found = intervals(measure, measure.rows(overlap, true), draws=400)
    theirs = stats.pearsonr(overlap, true)
    assert found["pearson"].value == pytest.approx(theirs.statistic)
    assert found["spearman"].value == pytest.approx(stats.spearmanr(overlap, true).statistic)
    low, high = theirs.confidence_interval(0.95)
    assert found["pearson"].low == pytest.approx(low, abs=0.02)
    assert found["pearson"].high == pytest.approx(high, abs=0.02)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="differ"):
        Agreement()([1.0], [1.0, 2.0])
