"""The whole evaluation: what it says, what it keeps, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from sklearn.metrics import f1_score

from warmstart.errors import WarmstartError
from warmstart.evaluation.classification import Evaluation, evaluate
from warmstart.evaluation.predictions import Scored, mistakes
from warmstart.evaluation.settings import Evaluate
from warmstart.metrics.base import softmax

LABELS = ["billing", "delivery", "praise"]
QUICK = Evaluate(bootstrap=100)


def head(scored: Scored, rows: int) -> Scored:
    """The first rows."""
    return Scored(scored.logits[:rows], scored.y[:rows], scored.texts[:rows])


def test_figures_are_json_with_intervals(evaluation: Evaluation, rows: dict[str, Any]) -> None:
    metrics = json.loads(json.dumps(evaluation.metrics, allow_nan=False))
    test = rows["test"]
    for name in ("accuracy", "f1_macro", "f1_weighted", "matthews_correlation"):
        assert metrics[name]["low"] <= metrics[name]["value"] <= metrics[name]["high"]
    truth = f1_score(test.y, test.logits.argmax(1), average="macro")
    assert metrics["f1_macro"]["value"] == pytest.approx(truth)
    assert np.sum(metrics["confusion_matrix"]) == len(test)
    assert [one["label"] for one in metrics["per_class"]] == LABELS
    assert metrics["curves"]["verdict"] == "good"


def test_the_verdict_names_the_best_baseline(evaluation: Evaluation) -> None:
    metrics = evaluation.metrics
    assert [one["name"] for one in metrics["baselines"]] == ["majority", "tfidf"]
    assert metrics["comparison"]["baseline"] == "tfidf"
    assert metrics["comparison"]["sentence"] in metrics["verdict"]
    assert metrics["verdict"].startswith("Macro-F1 0.")
    assert "(TF-IDF + logistic regression)" in metrics["verdict"]


def test_predictions_are_the_plain_softmax(evaluation: Evaluation, rows: dict[str, Any]) -> None:
    table, test = evaluation.predictions, rows["test"]
    assert len(table) == len(test)
    given = np.array(table["probabilities"].to_pylist())
    assert np.allclose(given, softmax(test.logits), atol=1e-6)
    assert np.allclose(given.max(axis=1), table["confidence"].to_numpy())
    assert table["correct"].to_pylist() == (test.logits.argmax(1) == test.y).tolist()
    temperature = evaluation.metrics["calibration"]["temperature"]
    assert temperature > 1.1
    calm = softmax(test.logits, temperature).max(axis=1)
    assert np.allclose(table["confidence_calibrated"].to_numpy(), calm, atol=1e-6)
    assert table.slice(0, 1).to_pylist()[0]["line"] == 2


def test_mistakes_come_surest_first(evaluation: Evaluation) -> None:
    found = evaluation.mistakes
    wrong = pc.sum(pc.invert(evaluation.predictions["correct"])).as_py()
    assert len(found) == min(200, wrong)
    assert all(row["label"] != row["prediction"] for row in found)
    confidence = [row["confidence"] for row in found]
    assert confidence == sorted(confidence, reverse=True)
    assert len(mistakes(evaluation.predictions, limit=3)) == 3


def test_without_baselines_it_says_so(rows: dict[str, Any]) -> None:
    found = evaluate(Evaluate(bootstrap=100, baselines=False), LABELS, **rows)
    assert (found.metrics["baselines"], found.metrics["comparison"]) == ([], None)
    assert "no baseline was computed" in found.metrics["verdict"]


def test_a_tiny_test_says_that_intervals_are_wide(rows: dict[str, Any]) -> None:
    tiny = rows | {"test": head(rows["test"], 12), "validation": head(rows["validation"], 0)}
    found = evaluate(QUICK, LABELS, **tiny)
    notes = " ".join(found.metrics["notes"])
    assert "rest on 12 test rows, so every interval is wide" in notes
    assert "Fewer than 10 test rows" in notes
    assert found.metrics["calibration"]["temperature"] == 1.0
    assert found.predictions["file"].null_count == 12


def test_classes_without_test_rows_are_named(rows: dict[str, Any]) -> None:
    test = rows["test"]
    keep = np.flatnonzero(test.y != 2)
    part = Scored(test.logits[keep], test.y[keep], test.texts.take(keep))
    notes = " ".join(evaluate(QUICK, LABELS, **rows | {"test": part}).metrics["notes"])
    assert "not judged: “praise”" in notes
    given = int((part.logits.argmax(1) == 2).sum())
    assert f"Wrongly predicted all the same: “praise” ({given} rows)" in notes


def test_a_model_that_equals_its_baseline_is_noise(rows: dict[str, Any]) -> None:
    from warmstart.evaluation.baselines import tfidf

    test, validation = rows["test"], rows["validation"]
    same = tfidf(
        rows["train_texts"],
        rows["train_y"],
        test.texts,
        validation.texts,
        validation.y,
        3,
        seed=1,
    )
    assert same is not None
    copied = replace(test, logits=np.log(same.test + 1e-9))
    found = evaluate(QUICK, LABELS, **rows | {"test": copied}, seed=1)
    assert found.metrics["comparison"]["outcome"] == "noise"
    assert "the difference is noise" in found.metrics["verdict"]


@pytest.mark.parametrize("fault", ["none", "shape", "nan"])
def test_what_cannot_be_judged_is_refused(rows: dict[str, Any], fault: str) -> None:
    test = rows["test"]
    bad = {
        "none": head(test, 0),
        "shape": replace(test, y=test.y[:-1]),
        "nan": replace(test, logits=np.full_like(test.logits, np.nan)),
    }[fault]
    with pytest.raises(WarmstartError):
        evaluate(QUICK, LABELS, **rows | {"test": bad})
