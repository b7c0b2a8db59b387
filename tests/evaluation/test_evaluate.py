"""The whole evaluation: what it says, what it keeps, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import f1_score

from reports import model_card, render
from warmstart.cli.output.run import scores
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.errors import WarmstartError
from warmstart.evaluation.baselines.tfidf import TfidfClasses
from warmstart.evaluation.evaluate import Evaluation, evaluate
from warmstart.evaluation.settings import Evaluate
from warmstart.metrics.base import softmax
from warmstart.tasks.base import Examples
from warmstart.tasks.results import list_mistakes
from warmstart.types import Metrics

LABELS = ["billing", "delivery", "praise"]
QUICK = Evaluate(bootstrap=100)


def part(rows: dict[str, Any], split: str, keep: Any) -> dict[str, Any]:
    """With only these rows of a split."""
    whole, logits = rows["examples"][split], rows["outputs"][split]
    kept = np.arange(len(whole))[keep]
    table = whole.table.take(pa.array(kept))
    offsets = np.arange(len(kept) + 1)
    store = TokenizedDataset(np.zeros(len(kept), np.uint16), offsets, whole.store.targets[kept])
    examples = Examples(table, store, whole.labels, None)
    return rows | {
        "examples": rows["examples"] | {split: examples},
        "outputs": rows["outputs"] | {split: logits[kept]},
    }


def answering(rows: dict[str, Any], logits: np.ndarray) -> dict[str, Any]:
    """With other outputs on the test rows."""
    return rows | {"outputs": rows["outputs"] | {"test": logits}}


def test_figures_are_json_with_intervals(evaluation: Evaluation, rows: dict[str, Any]) -> None:
    metrics = json.loads(json.dumps(evaluation.metrics, allow_nan=False))
    logits, y = rows["outputs"]["test"], rows["examples"]["test"].store.targets
    for name in ("accuracy", "f1_macro", "f1_weighted", "matthews_correlation"):
        assert metrics[name]["low"] <= metrics[name]["value"] <= metrics[name]["high"]
    truth = f1_score(y, logits.argmax(1), average="macro")
    assert metrics["f1_macro"]["value"] == pytest.approx(truth)
    assert np.sum(metrics["confusion_matrix"]) == len(y) == 400
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
    table, logits = evaluation.predictions, rows["outputs"]["test"]
    assert len(table) == len(logits)
    given = np.array(table["probabilities"].to_pylist())
    assert np.allclose(given, softmax(logits), atol=1e-6)
    assert np.allclose(given.max(axis=1), table["confidence"].to_numpy())
    assert (
        table["correct"].to_pylist()
        == (logits.argmax(1) == rows["examples"]["test"].store.targets).tolist()
    )
    temperature = evaluation.metrics["calibration"]["temperature"]
    assert temperature > 1.1
    calm = softmax(logits, temperature).max(axis=1)
    assert np.allclose(table["confidence_calibrated"].to_numpy(), calm, atol=1e-6)
    assert table.slice(0, 1).to_pylist()[0]["line"] == 2


def test_mistakes_come_surest_first(evaluation: Evaluation) -> None:
    found = evaluation.mistakes
    wrong = pc.sum(pc.invert(evaluation.predictions["correct"])).as_py()
    assert len(found) == min(200, wrong)
    assert all(row["label"] != row["prediction"] for row in found)
    confidence = [row["confidence"] for row in found]
    assert confidence == sorted(confidence, reverse=True)
    listed = list_mistakes(evaluation.predictions, [7, 3, *range(300)], lambda row: {"row": row})
    assert listed[0] == {"id": "7", "file": "tickets.csv", "line": 9, "row": 7}
    assert len(listed) == 200, "a page is not endless"


def test_without_baselines_it_says_so(rows: dict[str, Any]) -> None:
    found = evaluate(Evaluate(bootstrap=100, baselines=False), **rows)
    assert (found.metrics["baselines"], found.metrics["comparison"]) == ([], None)
    assert "no baseline was computed" in found.metrics["verdict"]


def test_a_tiny_test_says_that_intervals_are_wide(rows: dict[str, Any]) -> None:
    tiny = part(part(rows, "test", slice(12)), "validation", slice(0))
    found = evaluate(QUICK, **tiny)
    notes = " ".join(found.metrics["notes"])
    assert "rest on 12 test rows, so every interval is wide" in notes
    assert "Fewer than 10 test rows" in notes
    assert found.metrics["calibration"]["temperature"] == 1.0
    assert found.metrics["validation_rows"] == 0


def test_classes_without_test_rows_are_named(rows: dict[str, Any]) -> None:
    some = part(rows, "test", rows["examples"]["test"].store.targets != 2)
    notes = " ".join(evaluate(QUICK, **some).metrics["notes"])
    assert "not judged: “praise”" in notes
    given = int((some["outputs"]["test"].argmax(1) == 2).sum())
    assert f"Wrongly predicted all the same: “praise” ({given} rows)" in notes


def test_a_model_that_equals_its_baseline_is_noise(rows: dict[str, Any]) -> None:
    baseline = TfidfClasses(rows["task"], 20_000, 1)
    fitted = baseline.fit(rows["examples"]["train"], rows["examples"]["validation"])
    assert fitted is not None
    copied = np.eye(3, dtype=np.float32)[fitted.predict(rows["examples"]["test"])]
    found = evaluate(QUICK, **answering(rows, copied), seed=1)
    assert found.metrics["comparison"]["outcome"] == "noise"
    assert "no difference of more than 0.5 points" in found.metrics["verdict"]


@pytest.mark.parametrize("fault", ["none", "shape", "nan"])
def test_what_cannot_be_judged_is_refused(rows: dict[str, Any], fault: str) -> None:
    logits = rows["outputs"]["test"]
    bad = {
        "none": part(rows, "test", slice(0)),
        "shape": answering(rows, logits[:-1]),
        "nan": answering(rows, np.full_like(logits, np.nan)),
    }[fault]
    with pytest.raises(WarmstartError, match="no test rows|do not fit together|not finite"):
        evaluate(QUICK, **bad)


def test_a_score_of_nothing_is_not_certain(rows: dict[str, Any]) -> None:
    """As a perfect one is not; of every figure, also where no row was right."""
    y = rows["examples"]["test"].store.targets
    some = part(rows, "test", y == 2)
    wrong = answering(some, np.tile(np.array([[1.0, 0.0, 0.0]], np.float32), (sum(y == 2), 1)))
    metrics = evaluate(QUICK, **wrong).metrics
    for name in ("accuracy", "f1_macro"):
        assert (metrics[name]["value"], metrics[name]["low"]) == (0.0, 0.0)
        assert metrics[name]["high"] == pytest.approx(1 - 0.025 ** (1 / sum(y == 2)))
    assert metrics["matthews_correlation"]["high"] == 0.0, "0 is its middle, not its end"


def test_rows_that_hang_together_count_as_one(rows: dict[str, Any]) -> None:
    """In the intervals, in the comparison with the baselines, and in what is said."""
    test, units = rows["examples"]["test"], np.arange(400) // 20
    grouped = {**rows["examples"], "test": replace(
        test, table=test.table.append_column("_unit", pa.array(units)))}  # fmt: skip
    # whole groups are right or wrong
    wrong = np.isin(units, [1, 4, 9, 16])
    logits = np.eye(3, dtype=np.float32)[(test.store.targets + wrong) % 3]
    alone = evaluate(QUICK, **answering(rows, logits)).metrics
    metrics = evaluate(QUICK, **{**answering(rows, logits), "examples": grouped}).metrics
    width = [m["accuracy"]["high"] - m["accuracy"]["low"] for m in (alone, metrics)]
    assert width[1] > 3 * width[0] and (metrics["units"], alone.get("units")) == (20, None)
    assert any("400 test rows are 20 groups" in note for note in metrics["notes"])
    gaps = [m["baselines"][0]["model_minus_baseline"] for m in (alone, metrics)]
    assert gaps[1]["high"] - gaps[1]["low"] > 1.5 * (gaps[0]["high"] - gaps[0]["low"])
    assert "mcnemar_p" in gaps[0] and "mcnemar_p" not in gaps[1]


def test_the_score_without_near_copies_of_train_stands_beside(rows: dict[str, Any]) -> None:
    test, logits = rows["examples"]["test"], rows["outputs"]["test"].copy()
    near = np.arange(400) < 100
    logits[near] = np.eye(3, dtype=np.float32)[test.store.targets[near]]
    table = test.table.append_column("_near", pa.array(near))
    given = {**answering(rows, logits), "examples": {**rows["examples"],
             "test": replace(test, table=table)}}  # fmt: skip
    metrics = evaluate(QUICK, **given).metrics
    apart = metrics["without_near_copies"]
    alone = evaluate(QUICK, **part(answering(rows, logits), "test", ~near)).metrics
    assert (apart["rows"], apart["near"]) == (300, 100)
    assert apart["score"]["value"] == pytest.approx(alone["f1_macro"]["value"])
    assert apart["score"]["value"] < metrics["f1_macro"]["value"] - 0.02
    assert any("100 test rows (25 %) nearly repeat a text of train; without them macro-F1" in note
               for note in metrics["notes"])  # fmt: skip


def test_what_scikit_learn_would_say_stands_beside(rows: dict[str, Any]) -> None:
    """Where a class is predicted of which there is no row."""
    y = rows["examples"]["test"].store.targets
    metrics = evaluate(QUICK, **part(rows, "test", y != 2)).metrics
    predicted = rows["outputs"]["test"][y != 2].argmax(1)
    theirs, ours = f1_score(y[y != 2], predicted, average="macro"), metrics["f1_macro"]["value"]
    assert theirs < ours - 0.1
    assert any(f"as scikit-learn counts, macro-F1 is {theirs:.3f}" in note
               for note in metrics["notes"])  # fmt: skip


def test_too_few_rows_a_class_have_no_interval_and_it_is_said(
    rows: dict[str, Any], facts: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    y = rows["examples"]["test"].store.targets
    few = np.concatenate([np.flatnonzero(y == c)[:n] for c, n in ((0, 5), (1, 2), (2, 1))])
    metrics = evaluate(QUICK, **part(rows, "test", few)).metrics
    assert (metrics["f1_macro"]["low"], metrics["f1_macro"]["high"]) == (None, None)
    assert "(no interval) on 8 test rows" in metrics["verdict"]
    assert any("8 rows are too few for 3 classes. It takes 3 test rows a class on average, 9 in all"
               in note for note in metrics["notes"])  # fmt: skip
    page = render({**facts, "metrics": metrics})
    assert "no interval" in page and "too few for so many classes" in page
    assert "(no interval)" in model_card({**facts, "metrics": metrics})
    scores(Metrics.from_json(metrics))
    assert "no interval" in capsys.readouterr().out
