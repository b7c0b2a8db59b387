"""How often a 95 % interval holds the truth, by simulation: the table stands in the guide.

A population is a confusion matrix; test sets are drawn from it, and the true figure is that of the
population in the test set's own mix of classes. The quick test runs a small part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from warmstart.metrics.base import Measure
from warmstart.metrics.bootstrap import difference, intervals
from warmstart.metrics.classification import ClassMeasure
from warmstart.metrics.entities import Entities
from warmstart.metrics.multilabel import Labels

DRAWS = 200
Rng = np.random.Generator


def population(k: int, rng: Rng, right: float) -> np.ndarray:
    """Shares [k, k] of each true class that are given each class; classes differ."""
    own = rng.beta(8 * right, 8 * (1 - right), k)
    wrong = rng.dirichlet(np.full(k, 0.3), k) * (1 - np.eye(k))
    wrong = wrong / wrong.sum(1, keepdims=True)
    return np.diag(own) + (1 - own)[:, None] * wrong


def macro(matrix: np.ndarray, counts: np.ndarray) -> float:
    """The true macro-F1 of rows of so many of each class."""
    cells = matrix * (counts / counts.sum())[:, None]
    return float((2 * np.diag(cells) / (cells.sum(0) + cells.sum(1)))[counts > 0].mean())


def answered(matrix: np.ndarray, y: np.ndarray, luck: np.ndarray) -> np.ndarray:
    """The class that each row is given; `luck` [n] is even between 0 and 1."""
    return np.minimum((luck[:, None] > matrix[y].cumsum(1)).sum(1), len(matrix) - 1)


def share_held(trials: int, draw: Callable[[Rng], tuple[Any, float]], seed: int = 0) -> float:
    """Of so many intervals the share that holds the truth."""
    rng, held = np.random.default_rng(seed), 0
    for _ in range(trials):
        interval, truth = draw(rng)
        held += interval.low <= truth <= interval.high
    return held / trials


def one_result(k: int, each: int, right: float, name: str = "f1_macro") -> Callable[[Rng], Any]:
    """Draws a test set of so many rows a class, its interval of a figure, and the truth."""

    def draw(rng: Rng) -> tuple[Any, float]:
        matrix, y = population(k, rng, right), np.repeat(np.arange(k), each)
        if name == "accuracy":  # rows at random, as a share is of
            y = rng.integers(0, k, k * each)
        p = answered(matrix, y, rng.random(len(y)))
        measure, counts = ClassMeasure(k), np.bincount(y, minlength=k)
        truth = macro(matrix, counts) if name == "f1_macro" else float(np.diag(matrix).mean())
        seed = int(rng.integers(2**31))
        return intervals(measure, measure.rows(p, y), DRAWS, seed=seed)[name], truth

    return draw


def uneven_mix(k: int, rows: int, right: float) -> Callable[[Rng], Any]:
    """Rows at random of classes of which the most frequent is eight times the rarest; the truth is
    that of this mix. Macro-F1 of an even one is another figure: what is wrongly given a rare class
    weighs less there."""
    mix = np.geomspace(1, 1 / 8, k)

    def draw(rng: Rng) -> tuple[Any, float]:
        matrix, y = population(k, rng, right), rng.choice(k, rows, p=mix / mix.sum())
        measure, p = ClassMeasure(k), answered(matrix, y, rng.random(rows))
        table = intervals(measure, measure.rows(p, y), DRAWS, seed=int(rng.integers(2**31)))
        return table["f1_macro"], macro(matrix, mix)

    return draw


def two_results(k: int, each: int, right: float) -> Callable[[Rng], Any]:
    """The difference of two models that mostly say the same, on the same rows."""

    def draw(rng: Rng) -> tuple[Any, float]:
        ours = population(k, rng, right)
        theirs = 0.7 * ours + 0.3 * population(k, rng, right - 0.1)
        y = np.repeat(np.arange(k), each)
        luck = rng.random(len(y))
        other = np.where(rng.random(len(y)) < 0.5, luck, rng.random(len(y)))
        measure, counts = ClassMeasure(k), np.bincount(y, minlength=k)
        rows = (measure.rows(answered(m, y, u), y) for m, u in ((ours, luck), (theirs, other)))
        gap = difference(measure, *rows, "f1_macro", DRAWS, seed=int(rng.integers(2**31)))
        return gap, macro(ours, counts) - macro(theirs, counts)

    return draw


def authors(number: int, each: int, spread: float, name: str) -> Callable[[Rng], Any]:
    """Rows of authors, for some of whom the model is better; two models for a difference."""

    def draw(rng: Rng) -> tuple[Any, float]:
        groups, y = np.repeat(np.arange(number), each), rng.integers(0, 2, number * each)
        right = rng.beta(0.75 * spread, 0.25 * spread, (2, number))  # of each author, 0.75 in all
        models = [np.where(rng.random(len(y)) < own[groups], y, 1 - y) for own in right]
        measure = ClassMeasure(2)
        rows, seed = [measure.rows(p, y) for p in models], int(rng.integers(2**31))
        if name == "difference":
            return difference(measure, *rows, "accuracy", DRAWS, seed=seed, groups=groups), 0.0
        return intervals(measure, rows[0], DRAWS, seed=seed, groups=groups)[name], 0.75

    return draw


def entities(sentences: int, name: str) -> Callable[[Rng], Any]:
    """Sentences with entities of four types, of which some are missed and some made up."""
    types, shares = ("DATE", "LOC", "ORG", "PER"), np.array([0.05, 0.15, 0.3, 0.5])
    found, made_up = np.array([0.6, 0.7, 0.8, 0.9]), 0.15
    each = 2 * found / (1 + found + made_up)
    over_all = 2 * found @ shares / (1 + found @ shares + made_up)

    def draw(rng: Rng) -> tuple[Any, float]:
        truth: list[Any] = []
        guess: list[Any] = []
        for _ in range(sentences):
            kinds = rng.choice(4, 1 + rng.poisson(1.0), p=shares)
            truth.append([(i, i + 1, types[kind]) for i, kind in enumerate(kinds)])
            kept = [
                s for s, kind in zip(truth[-1], kinds, strict=True) if rng.random() < found[kind]
            ]
            new = [(50 + i, 51 + i, types[kind]) for i, kind in enumerate(kinds)
                   if rng.random() < made_up]  # fmt: skip
            guess.append(kept + new)
        measure = Entities(types)
        table = intervals(measure, measure.rows(guess, truth), DRAWS, seed=int(rng.integers(2**31)))
        return table[name], float(each.mean() if name == "f1_macro" else over_all)

    return draw


def many_labels(k: int, rows: int, name: str) -> Callable[[Rng], Any]:
    """Texts with labels that are common and rare."""
    often = np.geomspace(0.4, 0.05, k)
    hit, alarm = 0.75, 0.05
    each = 2 * hit * often / (often + hit * often + alarm * (1 - often))
    sums = (hit * often).sum(), often.sum(), (alarm * (1 - often)).sum()
    micro = 2 * sums[0] / (sums[0] + sums[1] + sums[2])

    def draw(rng: Rng) -> tuple[Any, float]:
        truth = rng.random((rows, k)) < often
        scores = rng.random((rows, k)) < np.where(truth, hit, alarm)
        measure: Measure = Labels([str(i) for i in range(k)])
        statistics = measure.rows(scores.astype(float), truth)
        table = intervals(measure, statistics, DRAWS, seed=int(rng.integers(2**31)))
        return table[name], float(each.mean() if name == "f1_macro" else micro)

    return draw


CASES = {
    **{f"macro-F1, {k} classes of {n} rows, {a:.0%} right": (one_result(k, n, a), trials)
       for k, n, trials in ((5, 40, 1000), (20, 10, 800), (77, 4, 500), (150, 4, 250))
       for a in (0.6, 0.85)},
    "macro-F1, 5 uneven classes, 200 rows": (uneven_mix(5, 200, 0.85), 1000),
    "macro-F1, 20 uneven classes, 200 rows": (uneven_mix(20, 200, 0.85), 800),
    "accuracy, 100 rows": (one_result(5, 20, 0.85, "accuracy"), 1000),
    "difference of macro-F1, 5 classes of 40 rows": (two_results(5, 40, 0.8), 1000),
    "difference of macro-F1, 150 classes of 4 rows": (two_results(150, 4, 0.8), 250),
    "accuracy, 20 authors of 10 rows": (authors(20, 10, 12.0, "accuracy"), 1500),
    "accuracy, 20 authors of 10 rows, strong": (authors(20, 10, 2.0, "accuracy"), 1500),
    "difference of accuracy, 20 authors of 10 rows": (authors(20, 10, 2.0, "difference"), 1500),
    "entity F1, 200 sentences": (entities(200, "f1_micro"), 600),
    "macro-F1 of entities, 200 sentences": (entities(200, "f1_macro"), 600),
    "micro-F1, 12 labels, 300 texts": (many_labels(12, 300, "f1_micro"), 800),
    "macro-F1, 12 labels, 300 texts": (many_labels(12, 300, "f1_macro"), 800),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_intervals_hold_the_truth(case: str) -> None:
    draw, trials = CASES[case]
    held = share_held(trials, draw)
    print(f"| {case} | {held:.3f} | {trials} |")
    sure = 2 * (0.95 * 0.05 / trials) ** 0.5  # what so many trials leave to chance
    assert 0.93 - sure / 2 <= held <= 0.97 + sure


@pytest.mark.parametrize("case", [(20, 4, 0.6), (10, 6, 0.85)])
def test_intervals_of_few_rows_a_class_hold_the_truth(case: tuple[int, int, float]) -> None:
    assert share_held(200, one_result(*case)) >= 0.92  # percentiles: 0.87 and less


def test_authors_count_as_one() -> None:
    assert share_held(200, authors(20, 10, 2.0, "accuracy")) >= 0.91  # rows alone: 0.5


def test_too_few_rows_a_class_give_no_interval() -> None:
    rng = np.random.default_rng(0)
    y = np.r_[np.arange(10), np.arange(10), 0, 1]
    measure = ClassMeasure(10)
    table = intervals(measure, measure.rows(np.where(rng.random(22) < 0.7, y, 0), y), DRAWS)
    assert (table["f1_macro"].low, table["f1_macro"].high) == (None, None)
    assert table["accuracy"].low is not None
    more = np.r_[y, y]
    whole = intervals(measure, measure.rows(np.where(rng.random(44) < 0.7, more, 0), more), DRAWS)
    assert whole["f1_macro"].low is not None


def test_more_right_rows_never_lower_a_bound() -> None:
    """The low bound for 99 of 100 right was above that for 100 of 100."""
    y = np.zeros(100, int)
    measure = ClassMeasure(2)
    bounds = []
    for right in range(101):
        rows = measure.rows((np.arange(100) >= right).astype(int), y)
        bounds.append(intervals(measure, rows, 1000)["accuracy"])
    assert all(a.low < b.low and a.high < b.high + 1e-12 for a, b in pairwise(bounds))
    assert all(0 <= one.low <= one.value <= one.high <= 1 for one in bounds)
