"""One evaluation, whole: scores with intervals, baselines, calibration, mistakes, words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from warmstart.errors import WarmstartError
from warmstart.evaluation import baselines
from warmstart.evaluation import sentences as words
from warmstart.evaluation.calibration import calibrate
from warmstart.evaluation.predictions import Scored, mistakes, prediction_table
from warmstart.evaluation.settings import Evaluate
from warmstart.evaluation.training_curve import read_curves, standings
from warmstart.metrics.bootstrap import Difference
from warmstart.metrics.class_intervals import Interval, Paired, metric_intervals, paired
from warmstart.metrics.classification import TITLES, confusion_matrix, precision, recall, tally

MAIN = "f1_macro"
SHOWN = (MAIN, "accuracy", "f1_weighted", "matthews_correlation")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`metrics` goes to metrics.json, `predictions` to predictions.parquet, `mistakes` is read."""

    metrics: dict[str, Any]
    predictions: pa.Table
    mistakes: list[dict[str, Any]]


def evaluate(
    settings: Evaluate,
    labels: Sequence[str],
    test: Scored,
    validation: Scored,
    train_texts: baselines.Texts,
    train_y: NDArray[Any],
    history: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> Evaluation:
    """Judge a single-label classifier by its logits; raises WarmstartError without test rows.

    The test rows are only ever scored: the temperature and the baseline's strength are chosen on
    the validation rows (none are needed).
    """
    k = len(labels)
    _check(test, validation, k)
    answer = np.asarray(test.logits).argmax(axis=1)
    scores, classes = _intervals(settings, test.y, answer, k, seed)
    rivals = _baselines(settings, k, test, validation, train_texts, train_y, seed)
    judged = [_judged(settings, rival, test.y, answer, k, seed) for rival in rivals]
    calibration = calibrate(
        test.logits, test.y, validation.logits, validation.y, settings.calibration_bins
    )
    metrics: dict[str, Any] = {
        **{name: interval.as_dict() for name, interval in scores.items()},
        "main": MAIN,
        "titles": {name: TITLES[name] for name in SHOWN},
        "rows": len(test),
        "validation_rows": len(validation),
        "confidence_level": settings.confidence_level,
        "bootstrap": settings.bootstrap,
        "labels": [str(label) for label in labels],
        "per_class": _per_class(labels, test.y, answer, classes),
        "confusion_matrix": confusion_matrix(test.y, answer, k).tolist(),
        "baselines": judged,
        "comparison": comparison(judged, MAIN, Paired),
        "calibration": {**calibration, "sentence": words.calibration_sentence(calibration)},
        "curves": read_curves(history, scores[MAIN].value, standings(judged, MAIN)).as_dict(),
    }
    metrics["notes"] = words.notes(metrics)
    metrics["verdict"] = words.verdict_sentence(metrics)
    table = prediction_table(test, labels, calibration["temperature"])
    return Evaluation(metrics, table, mistakes(table))


def _check(test: Scored, validation: Scored, k: int) -> None:
    """Raise where the columns cannot be judged."""
    if not len(test):
        raise WarmstartError("there are no test rows, so nothing can be said about the model")
    test.check(k, "test rows")
    validation.check(k, "validation rows")


def _intervals(
    settings: Evaluate, y: NDArray[Any], answer: NDArray[Any], k: int, seed: int
) -> tuple[dict[str, Interval], list[Interval]]:
    """Every score of one set of answers, and the F1 of each class."""
    draws, level = settings.bootstrap, settings.confidence_level
    return metric_intervals(y, answer, k, draws, level, seed)


def _baselines(
    settings: Evaluate,
    k: int,
    test: Scored,
    validation: Scored,
    train_texts: baselines.Texts,
    train_y: NDArray[Any],
    seed: int,
) -> list[baselines.Baseline]:
    """The baselines that can be made, the dumbest first."""
    if not settings.baselines or not len(train_y):
        return []
    found = [baselines.majority(train_y, k, len(test), len(validation))]
    counted = baselines.tfidf(
        train_texts,
        train_y,
        test.texts,
        validation.texts,
        validation.y,
        k,
        rows=settings.baseline_rows,
        seed=seed,
    )
    return [*found, counted] if counted else found


def _judged(
    settings: Evaluate,
    rival: baselines.Baseline,
    y: NDArray[Any],
    answer: NDArray[Any],
    k: int,
    seed: int,
) -> dict[str, Any]:
    """A baseline's scores, and how the model stands against it."""
    guess = rival.test.argmax(axis=1)
    scores, _ = _intervals(settings, y, guess, k, seed)
    against = paired(y, answer, guess, k, MAIN, settings.bootstrap, settings.confidence_level, seed)
    return {
        "name": rival.name,
        "title": rival.title,
        **{name: interval.as_dict() for name, interval in scores.items()},
        "notes": list(rival.notes),
        "model_minus_baseline": against.as_dict(),
        "outcome": against.outcome,
        "sentence": words.sentence(words.verdict(against, rival.title)),
    }


def comparison(
    judged: Sequence[dict[str, Any]],
    main: str,
    kind: type[Paired | Difference],
    called: str | None = None,
    scale: float = 1.0,
) -> dict[str, Any] | None:
    """The model against the strongest baseline, or None where there is none."""
    if not judged:
        return None
    best = max(judged, key=lambda one: one[main]["value"])
    against = kind(**best["model_minus_baseline"])
    return {
        "baseline": best["name"],
        "title": best["title"],
        **against.as_dict(),
        "outcome": against.outcome,
        "sentence": words.verdict(against, f"the best baseline ({best['title']})", called, scale),
    }


def _per_class(
    labels: Sequence[str], y: NDArray[Any], answer: NDArray[Any], classes: Sequence[Interval]
) -> list[dict[str, Any]]:
    """Per label: precision, recall, F1 with its interval, and the number of test rows."""
    t = tally(y, answer, len(labels))
    found, right = recall(t), precision(t)
    return [
        {
            "label": str(label),
            "precision": float(right[i]),
            "recall": float(found[i]),
            "f1": classes[i].value,
            "f1_low": classes[i].low,
            "f1_high": classes[i].high,
            "support": int(t.actual[i]),
            "predicted": int(t.predicted[i]),
        }
        for i, label in enumerate(labels)
    ]
