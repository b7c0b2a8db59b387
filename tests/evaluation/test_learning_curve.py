"""The curve is measured on unseen rows, and says no more than the rows allow."""

from __future__ import annotations

import json

import numpy as np
import pytest

from warmstart.evaluation.label_quality import (
    _fit,
    _in_proportion,
    _more,
    _round,
    default_sizes,
    learning_curve,
)


def clouds(sizes: list[int], width: int = 64, apart: float = 0.35, seed: int = 0):
    """Overlapping clouds of these many rows: a curve that rises with every label."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = apart * rng.standard_normal((len(sizes), width))
    return (centres[y] + rng.standard_normal((len(y), width))).astype(np.float32), y


def test_shape_and_reach() -> None:
    x, y = clouds([300, 80, 40])
    curve = learning_curve(x, y, 0, labels=["a", "b", "c"])
    json.dumps(curve, allow_nan=False)
    assert curve["sizes"] == sorted(curve["sizes"]) and len(curve["sizes"]) == 6
    assert curve["sizes"][-1] == 336
    assert [own["label"] for own in curve["classes"]] == ["a", "b", "c"]
    assert [own["rows"] for own in curve["classes"]] == [300, 80, 40]
    for own in curve["classes"]:
        assert len(own["labels"]) == len(own["recall"]) == len(own["f1"]) == 6
        assert own["labels"][-1] == pytest.approx(0.8 * own["rows"], abs=1)
        for point in [*own["recall"], *own["f1"]]:
            assert 0 <= point["low"] <= point["value"] <= point["high"] <= 1
            assert point["low"] < point["high"]
    macro = [point["value"] for point in curve["macro_f1"]]
    assert macro[-1] > macro[0] + 0.1


def test_the_same_seed_gives_the_same_curve() -> None:
    x, y = clouds([80, 40])
    assert learning_curve(x, y, 3) == learning_curve(x, y, 3)
    assert learning_curve(x, y, 3) != learning_curve(x, y, 4)


def test_noise_has_no_curve() -> None:
    """Features that say nothing: chance at every size, and nothing is promised."""
    rng = np.random.default_rng(0)
    curve = learning_curve(rng.standard_normal((400, 32)), rng.integers(0, 2, 400), 0)
    assert curve["needs"] == []
    assert all(own["more"] is None and own["why"] for own in curve["classes"])
    assert abs(curve["macro_f1"][-1]["value"] - 0.5) < 0.12


def test_what_is_solved_needs_nothing() -> None:
    x, y = clouds([200, 200], apart=3.0)
    curve = learning_curve(x, y, 0)
    assert [own["why"] for own in curve["classes"]] == ["nearly all are found already"] * 2
    assert curve["classes"][0]["recall"][-1]["low"] < 1  # 200 of 200 is not certainty


def test_few_rows_are_too_few() -> None:
    x, y = clouds([300, 9])
    curve = learning_curve(x, y, 0)
    assert "too few" in curve["classes"][1]["why"] and curve["classes"][1]["more"] is None


def test_a_rising_curve_asks_for_labels_and_gets_what_it_said() -> None:
    """What it reckons from 600 rows holds, roughly, once there are more."""
    x, y = clouds([3000, 3000, 600], apart=0.25)
    small = np.random.default_rng(1).permutation(len(y))[:660]
    curve = learning_curve(x[small], y[small], 0, labels=["a", "b", "c"])
    assert curve["needs"], [own["why"] for own in curve["classes"]]
    assert [one["more"] for one in curve["needs"]] == sorted(o["more"] for o in curve["needs"])
    whole = learning_curve(x, y, 0, labels=["a", "b", "c"])
    for need in curve["needs"]:
        assert need["gain"] == 5
        own = next(c for c in whole["classes"] if c["label"] == need["label"])
        reached = np.interp(
            need["rows"] + need["more"], own["labels"], [p["value"] for p in own["recall"]]
        )
        assert reached - need["recall"] == pytest.approx(0.05, abs=0.05)


@pytest.mark.parametrize("y", [np.zeros(30, int), np.array([], int)])
def test_nothing_to_compare(y: np.ndarray) -> None:
    curve = learning_curve(np.ones((len(y), 4)), y, 0)
    assert curve["classes"] == [] and curve["skipped"]


def test_sizes_can_be_given() -> None:
    x, y = clouds([80, 40])
    assert learning_curve(x, y, 0, [50, 20, 9_999])["sizes"] == [20, 50]
    assert default_sizes(800, 2) == [50, 87, 152, 264, 459, 800]


def test_every_beginning_is_in_proportion() -> None:
    y = np.repeat([0, 1, 2], [600, 300, 100])
    rows = _in_proportion(y, np.arange(1000), [0, 0])
    assert sorted(rows.tolist()) == list(range(1000))
    for size in (50, 200, 700):
        share = np.bincount(y[rows[:size]], minlength=3) / size
        np.testing.assert_allclose(share, [0.6, 0.3, 0.1], atol=1.5 / size + 1e-9)


def test_the_fit_finds_its_own_curve() -> None:
    n = np.array([20.0, 50, 100, 200, 400, 800])
    truth = [(0.1, 2.0, 0.5), (0.0, 1.0, 0.3), (0.3, 0.0, 0.5)]
    errors = np.stack([a + b * n**-c for a, b, c in truth])
    floor, height, power = _fit(errors, n)
    for i in range(3):
        np.testing.assert_allclose(floor[i] + height[i] * n ** -power[i], errors[i], atol=1e-9)
    np.testing.assert_allclose(floor, [0.1, 0.0, 0.3], atol=1e-9)


def test_the_number_solves_the_curve() -> None:
    n = np.array([20.0, 50, 100, 200, 400, 800])
    recall = 1 - (0.1 + 2.0 * n**-0.5)
    found = _more(recall, np.tile(recall, (50, 1)), n, 1000, 0.02)
    exact = (2.0 / (2.0 * 1000**-0.5 - 0.02)) ** 2 - 1000
    assert found["more"] == pytest.approx(exact, rel=0.05) and found["why"] is None
    assert found["expected"] == pytest.approx(1 - (0.1 + 2.0 * 1000**-0.5), abs=1e-3)
    assert _more(recall, np.tile(recall, (50, 1)), n, 1000, 0.2)["more"] is None


def test_two_figures() -> None:
    assert [_round(n) for n in (0.2, 7.4, 43.2, 1234, 98_765)] == [1, 7, 43, 1200, 99_000]
