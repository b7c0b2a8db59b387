"""The calibration error against a slow twin, and temperatures that are known."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from warmstart.evaluation.calibration import (
    calibrate,
    calibration_error,
    fit_temperature,
    measured,
    negative_log_likelihood,
    reliability,
)
from warmstart.evaluation.sentences import calibration_sentence
from warmstart.metrics.base import softmax


def honest(rows: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and classes drawn by exactly the probabilities that the logits say."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, k))
    y = np.array([rng.choice(k, p=p) for p in softmax(logits)])
    return logits, y


def slow_error(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    """Guo et al. (2017), equation 3, row by row."""
    total = 0.0
    for b in range(bins):
        inside = [i for i, c in enumerate(confidence) if b / bins < c <= (b + 1) / bins]
        if inside:
            gap = np.mean([right[i] for i in inside]) - np.mean([confidence[i] for i in inside])
            total += len(inside) / len(confidence) * abs(gap)
    return total


@pytest.mark.parametrize("bins", [1, 2, 15, 40])
def test_the_error_equals_its_slow_twin(bins: int) -> None:
    rng = np.random.default_rng(bins)
    confidence = rng.uniform(0.01, 1, 400)
    right = rng.random(400) < confidence**2
    table = reliability(confidence, right, bins)
    assert calibration_error(table) == pytest.approx(slow_error(confidence, right, bins))
    assert sum(row["rows"] for row in table) == 400


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    logits, y = honest(4000, 4, 0)
    assert fit_temperature(logits * temperature, y) == pytest.approx(temperature, rel=0.08)


def test_scaling_lowers_the_loss_and_the_error_of_an_overconfident_model() -> None:
    logits, y = honest(3000, 4, 1)
    loud = (logits * 3).astype(np.float32)
    found = calibrate(loud[:1500], y[:1500], loud[1500:], y[1500:], 15)
    assert found["after"]["nll"] < found["before"]["nll"]
    assert found["after"]["ece"] < 0.05 < found["before"]["ece"]
    assert found["before"]["nll"] == pytest.approx(negative_log_likelihood(loud[:1500], y[:1500]))
    assert "too sure of itself" in calibration_sentence(found)


def test_too_few_rows_are_said_to_be_too_few() -> None:
    logits, y = honest(60, 3, 2)
    found = calibrate(logits[:40], y[:40], logits[40:], y[40:], 15)
    assert (found["temperature"], found["fitted"]) == (1.0, False)
    assert found["reason"] == "there are too few validation rows (20)"
    assert "Too few test rows (40)" in calibration_sentence(found)


def test_a_temperature_that_nothing_limits_is_not_taken() -> None:
    logits, y = honest(900, 3, 5)
    right = np.flatnonzero(logits.argmax(1) == y)[:60]
    found = calibrate(logits, y, logits[right], y[right], 15)
    assert (found["temperature"], found["fitted"]) == (1.0, False)
    assert found["after"] == found["before"]
    assert "hold no mistake" in found["reason"]
    assert found["reason"] in calibration_sentence(found)
    upside_down = calibrate(logits, y, -logits[right], y[right], 15)
    assert (upside_down["temperature"], upside_down["fitted"]) == (1.0, False)
    assert "set no limit" in upside_down["reason"]


def test_a_temperature_that_helps_nothing_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, y = honest(400, 3, 6)
    monkeypatch.setattr(sys.modules[calibrate.__module__], "fit_temperature", lambda *_: 7.0)
    found = calibrate(logits, y, logits, y, 15)
    assert (found["temperature"], found["fitted"]) == (1.0, False)
    assert "suits the validation rows better" in found["reason"]


def test_extreme_logits_stay_finite() -> None:
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]] * 20, dtype=np.float32)
    y = np.array([0, 1] * 20)
    found = calibrate(logits, y, logits, y, 15)
    assert np.isfinite([found["before"]["nll"], found["after"]["nll"], found["temperature"]]).all()


def drawn(rows: int, rng: np.random.Generator, sharper: float = 1.0) -> dict[str, Any]:
    """The calibration of a model that is right as often as its logits say, or surer than that."""
    logits = rng.normal(0, 1.5, (rows, 4)) + 1.5 * np.eye(4)[rng.integers(0, 4, rows)]
    y = (rng.random(rows)[:, None] > softmax(logits).cumsum(1)).sum(1).clip(0, 3)
    return measured(sharper * logits, y, 15, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [100, 200, 400, 1000])
def test_a_model_whose_confidence_is_true_is_seldom_told_otherwise(rows: int) -> None:
    rng, trials = np.random.default_rng(rows), 1000
    found = [drawn(rows, rng) for _ in range(trials)]
    alarms, leans = (np.mean([one[key] for one in found]) for key in ("off", "leans"))
    seen = np.mean([drawn(rows, rng, 2.0)["off"] for _ in range(200)])
    print(f"| {rows} | {np.mean([one['ece'] for one in found]):.3f} | {alarms:.3f} | {leans:.3f} "
          f"| {seen:.2f} |")  # fmt: skip
    assert alarms <= 0.05 + 2 * (0.05 * 0.95 / trials) ** 0.5 and leans <= 0.04
    assert seen > {100: 0.4, 200: 0.7, 400: 0.9, 1000: 0.99}[rows]


def test_true_confidence_is_seldom_doubted_and_false_one_mostly() -> None:
    rng = np.random.default_rng(0)
    assert np.mean([drawn(200, rng)["off"] for _ in range(80)]) <= 0.1
    assert np.mean([drawn(400, rng, 2.0)["off"] for _ in range(20)]) >= 0.8


def test_rows_that_are_lucky_together_raise_fewer_alarms() -> None:
    rng, alarms = np.random.default_rng(1), np.zeros(2)
    groups = np.repeat(np.arange(20), 10)
    for _ in range(60):
        logits = np.repeat(rng.normal(0, 1.0, 20), 10)[:, None] * [[0.5, -0.5]]
        luck = np.repeat(rng.random(20), 10)
        y = (luck > softmax(logits)[:, 0]).astype(int)
        alarms += [measured(logits, y, 15, 1.0, units)["off"] for units in (None, groups)]
    assert alarms[0] > 30 and alarms[1] <= 6


def test_what_is_said_of_a_true_confidence() -> None:
    logits, y = honest(300, 4, 11)
    found = calibrate(logits, y, logits[:0], y[:0], 15)
    text = calibration_sentence(found)
    assert not found["alarm"] and "can be taken at its word" in text
    assert "too sure" not in text and "not sure enough" not in text
