"""Does a confidence of 0.8 mean right in 8 of 10? And the one number that mends it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from warmstart.metrics.base import softmax
from warmstart.metrics.bootstrap import BLOCK, ROUNDING, unit_numbers

FIT_ROWS = 30  # fewer validation rows cannot set even one number
SOFTEST, SHARPEST = 20.0, 0.05  # bounds of the temperature
DRAWS = 1000  # of answers by confidences that are true
ALARM = 0.025  # of each of two questions: of 5 % of tests both together
AT_BOUND = 1.01  # so near a bound the search was stopped by it


def negative_log_likelihood(
    logits: NDArray[Any], y: NDArray[Any], temperature: float = 1.0
) -> float:
    """Mean of -log p(true class), in nats."""
    scores = log_softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    return float(-scores[np.arange(len(y)), y].mean())


def fit_temperature(logits: NDArray[Any], y: NDArray[Any]) -> float:
    """The T that makes softmax(logits / T) likeliest for y (Guo et al. 2017, section 4.2).

    Above 1 the model was too sure of itself, below 1 not sure enough. Convex in 1 / T, so a
    bounded search over log T finds the one minimum; T stays within 0.05 and 20.
    """
    best: Any = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, y, math.exp(log_t)),
        bounds=(math.log(SHARPEST), math.log(SOFTEST)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return float(math.exp(best.x))


def reliability(confidence: NDArray[Any], right: NDArray[Any], bins: int) -> list[dict[str, Any]]:
    """Rows, mean confidence and accuracy of each equal-width bin (low, high]; None where empty."""
    confidence = np.asarray(confidence, dtype=np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    rows = np.bincount(place, minlength=bins)
    sure = np.bincount(place, weights=confidence, minlength=bins)
    hits = np.bincount(place, weights=np.asarray(right, dtype=np.float64), minlength=bins)
    return [
        {
            "low": i / bins,
            "high": (i + 1) / bins,
            "rows": int(n),
            "confidence": float(sure[i] / n) if n else None,
            "accuracy": float(hits[i] / n) if n else None,
        }
        for i, n in enumerate(rows)
    ]


def calibration_error(table: list[dict[str, Any]]) -> float:
    """Expected calibration error: mean |accuracy - confidence| of rows (Guo et al. 2017, eq. 3)."""
    total = sum(row["rows"] for row in table)
    gaps = (row["rows"] * abs(row["accuracy"] - row["confidence"]) for row in table if row["rows"])
    return float(sum(gaps) / total) if total else 0.0


def chance(
    confidence: NDArray[Any], bins: int, units: NDArray[Any] | None = None, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What chance alone makes of confidences [n] that are true: `DRAWS` calibration errors and as
    many gaps of mean confidence and accuracy.

    Rows are right as often as their confidence says (Bröcker & Smith 2007: consistency resampling);
    those of one number in `units` [n] are lucky together.
    """
    confidence, rng = np.asarray(confidence, np.float64), np.random.default_rng(seed)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    order = np.argsort(place, kind="stable")
    starts = np.unique(place[order], return_index=True)[1]
    confidence, (count, unit) = confidence[order], unit_numbers(len(order), units)
    unit, errors, gaps = unit[order], list[Any](), list[Any]()
    step = max(1, BLOCK // max(1, len(order)))
    for start in range(0, DRAWS, step):
        luck = rng.random((min(step, DRAWS - start), count))
        off = confidence - (luck[:, unit] < confidence)
        errors.append(np.abs(np.add.reduceat(off, starts, axis=1)).sum(1) / len(order))
        gaps.append(off.mean(1))
    return np.concatenate(errors), np.concatenate(gaps)


def measured(
    logits: NDArray[Any],
    y: NDArray[Any],
    bins: int,
    temperature: float,
    units: NDArray[Any] | None = None,
) -> dict[str, Any]:
    """{"ece", "chance", "limit", "gap", "leans", "off", "nll", "bins"} of the most likely class.

    Were every confidence true, the error would be `chance` on average, and above `limit` in
    `ALARM` of all tests. `gap` is mean confidence - accuracy with an interval, which leaves 0 in
    `ALARM` of all tests of true confidences; then it `leans`: it is too sure, or not sure enough.
    `off`: the error is above the limit, or it leans.
    """
    probabilities = softmax(logits, temperature)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    table, (errors, gaps) = reliability(confidence, right, bins), chance(confidence, bins, units)
    # values that few rows can take, so that the bounds are among them, and rounding is no alarm
    low = np.quantile(gaps, ALARM / 2, method="lower") - ROUNDING
    high = np.quantile(gaps, 1 - ALARM / 2, method="higher") + ROUNDING
    gap = float(confidence.mean() - right.mean())
    error = calibration_error(table)
    limit = np.quantile(errors, 1 - ALARM, method="higher") + ROUNDING
    leans = not low <= gap <= high
    return {
        "ece": error,
        "chance": float(errors.mean()),
        "limit": float(limit),
        "gap": {"value": gap, "low": float(gap - high), "high": float(gap - low)},
        "leans": bool(leans),
        "off": bool(leans or error > limit),
        "nll": negative_log_likelihood(logits, y, temperature),
        "bins": table,
    }


def temperature_for(logits: NDArray[Any], y: NDArray[Any]) -> tuple[float, str | None]:
    """The temperature that validation rows give, or 1 and the reason why they give none."""
    if not len(y):
        return 1.0, "there are no validation rows"
    if len(y) < FIT_ROWS:
        return 1.0, f"there are too few validation rows ({len(y)})"
    if (np.asarray(logits).argmax(axis=1) == y).all():
        return 1.0, f"the {len(y):,} validation rows hold no mistake, so any sharpening suits them"
    best = fit_temperature(logits, y)
    if not SHARPEST * AT_BOUND < best < SOFTEST / AT_BOUND:
        return 1.0, "the validation rows set no limit to it"
    if not negative_log_likelihood(logits, y, best) < negative_log_likelihood(logits, y):
        return 1.0, "no other temperature suits the validation rows better"
    return best, None


def calibrate(
    logits: NDArray[Any],
    y: NDArray[Any],
    validation_logits: NDArray[Any],
    validation_y: NDArray[Any],
    bins: int,
    units: NDArray[Any] | None = None,
) -> dict[str, Any]:
    """The test set's calibration before and after a temperature set on the validation rows.

    {"rows", "validation_rows", "confidence", "accuracy", "temperature", "fitted", "reason",
    "alarm", "before", "after"}: mean confidence and accuracy on the test rows, whether these are
    off, and `measured` twice. T is 1 where nothing was fitted; `reason` says why, and is None where
    something was. `units` [n] are equal for rows that count as one.
    """
    best = np.asarray(logits).argmax(axis=1)
    temperature, reason = temperature_for(validation_logits, validation_y)
    before = measured(logits, y, bins, 1.0, units)
    return {
        "rows": unit_numbers(len(y), units)[0],
        "validation_rows": len(validation_y),
        "confidence": float(softmax(logits).max(axis=1).mean()),
        "accuracy": float((best == y).mean()),
        "temperature": temperature,
        "fitted": reason is None,
        "reason": reason,
        "alarm": before["off"],
        "before": before,
        "after": measured(logits, y, bins, temperature, units),
    }
