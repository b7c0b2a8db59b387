"""Sets of labels on the test rows, judged beside baselines, with what was wrong."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.formatting import counted
from warmstart.metrics.multilabel import Labels
from warmstart.metrics.thresholds import log_odds, tuned_thresholds
from warmstart.tasks.base import Examples, Result, Rival
from warmstart.tasks.multilabel.labels import answers, sets_in, sigmoid, strangers

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.metrics.base import Floats
    from warmstart.types import Prediction

LISTED, SHOWN = 200, 2_000  # mistakes; characters of one text
NOTHING = "(no label)"
STRENGTHS = (4.0, 32.0)  # C of the TF-IDF baseline; the validation rows choose
MOST_ROWS = 20_000  # of train that the TF-IDF baseline learns from


def result(
    outputs: np.ndarray,
    examples: Mapping[str, Examples],
    cuts: np.ndarray,
    chosen: bool,
    baselines: bool,
    seed: int,
) -> Result:
    """See `Task.result`; `chosen` says that the cuts [K] were chosen, not merely usual."""
    test = examples["test"]
    measure = Labels(test.labels, cuts)
    found = answers(outputs, test.labels, cuts)
    none = sum(not labels for labels in sets_in(test.table))
    notes = [f"{none:,} of {counted(len(test), 'test row')} without a label."] if none else []
    notes += [sentence] if (sentence := strangers(test.table, test.labels)) else []
    if not chosen:
        notes.append("There were no validation rows, so every label is given from 0.5 on.")
    return Result(
        measure=measure,
        rows=measure.rows(sigmoid(outputs), test.store.targets),
        rivals=_rivals(examples, seed) if baselines else [],
        table=_table(test, found),
        mistakes=_mistakes(test, found, cuts),
        facts={
            "thresholds": dict(zip(test.labels, cuts.tolist(), strict=True)),
            "without_labels": none,
            "sections": [_thresholds(examples, cuts)],
        },
        notes=notes,
    )


def _thresholds(examples: Mapping[str, Examples], cuts: np.ndarray) -> dict[str, Any]:
    """A table for the report: from which probability on each label is given."""
    names = [name for name in ("train", "validation", "test") if name in examples]
    counts = [examples[name].store.targets.sum(0).tolist() for name in names]
    rows = zip(examples["test"].labels, [round(cut, 3) for cut in cuts.tolist()], *counts)  # noqa: B905
    return {
        "title": "Thresholds",
        "lead": "A label is given from this probability on. Chosen on the validation rows; a label "
        "that is rare there leans on what suits all labels.",
        "columns": ["Label", "Threshold", *(f"Rows in {name}" for name in names)],
        "rows": [list(row) for row in rows],
    }


def _rivals(examples: Mapping[str, Examples], seed: int) -> list[Rival]:
    train, test = examples["train"].store.targets, examples["test"].store.targets
    labels = examples["test"].labels
    share = train.mean(0)
    many = max(1, round(float(train.sum(1).mean())))
    cut = np.sort(share)[-min(many, len(share))]
    constant = np.tile(share, (len(test), 1))
    rows = Labels(labels, cut).rows(constant, test)
    title = "always the most frequent label" if many == 1 else f"the {many} most frequent labels"
    found = [Rival("frequent", title, rows)]
    counted = _tfidf(examples, seed)
    return found if counted is None else [*found, counted]


def _tfidf(examples: Mapping[str, Examples], seed: int) -> Rival | None:
    """TF-IDF with one logistic regression for each label, its thresholds chosen as the model's."""
    from warmstart.metrics.tfidf import Features, blocks, picked, regression

    train, test, validation = (examples.get(name) for name in ("train", "test", "validation"))
    assert train is not None and test is not None
    chosen = np.arange(len(train))
    if len(train) > MOST_ROWS:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(train))[:MOST_ROWS])
    features = Features(len(test.labels))
    matrix = features.fit(picked(train.table["text"], chosen))
    targets = train.store.targets[chosen]
    if matrix is None or not targets.any() or targets.all():
        return None

    def probabilities(model: Any, rows: Examples) -> Floats:
        parts = [model.predict_proba(features.transform(b)) for b in blocks(rows.table["text"])]
        return np.concatenate(parts) if parts else np.zeros((0, len(test.labels)))

    best: tuple[float, Any, Any] | None = None
    for strength in STRENGTHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of labels that no or every row has
            model = regression(matrix, targets, strength, seed)
        if validation is None or not len(validation):
            best = (0.0, model, 0.5)
            break
        found, truth = probabilities(model, validation), validation.store.targets
        cuts = tuned_thresholds(found, truth)
        measure = Labels(test.labels, cuts)
        score = measure.total(measure.rows(found, truth))["f1_macro"]
        if best is None or score > best[0]:
            best = (score, model, cuts)
    assert best is not None
    _, model, cuts = best
    rows = Labels(test.labels, cuts).rows(probabilities(model, test), test.store.targets)
    return Rival("tfidf", "TF-IDF + log. regression of each label", rows, features.notes)


def _table(test: Examples, found: list[Prediction]) -> pa.Table:
    import pyarrow as pa

    truth = sets_in(test.table)
    strings = pa.list_(pa.string())
    columns: dict[str, Any] = {
        "id": pa.array([answer.id for answer in found], pa.string()),
        "file": test.table["_file"].cast(pa.string()),
        "line": test.table["_line"].cast(pa.int64()),
        "text": test.table["text"],
        "label": pa.array(truth, strings),
        "prediction": pa.array([answer.value for answer in found], strings),
        "confidence": pa.array([answer.confidence for answer in found], pa.float32()),
        "correct": [set(a.value) == set(t) for a, t in zip(found, truth, strict=True)],
        "probabilities": pa.array([list(a.scores.values()) for a in found], pa.list_(pa.float32())),
    }
    return pa.table(columns)


def _mistakes(test: Examples, found: list[Prediction], cuts: np.ndarray) -> list[dict[str, Any]]:
    """The rows with a wrong set, first those whose worst label lies farthest beyond its cut."""
    edge = dict(zip(test.labels, log_odds(cuts), strict=True))
    wrong: list[tuple[float, dict[str, Any]]] = []
    truth, table = sets_in(test.table), test.table
    for row, (answer, true) in enumerate(zip(found, truth, strict=True)):
        missed = [label for label in true if label not in answer.value]
        extra = [label for label in answer.value if label not in true]
        if not missed and not extra:
            continue
        far = [
            abs(float(log_odds(np.array(answer.scores[label]))) - edge[label])
            for label in (*missed, *extra)
            if label in edge
        ]
        said = [
            f"{what}: {', '.join(_sure(answer, label) for label in labels)}"
            for what, labels in (("missed", missed), ("wrongly given", extra))
            if labels
        ]
        one = {
            "id": answer.id,
            "file": table["_file"][row].as_py(),
            "line": table["_line"][row].as_py(),
            "text": str(table["text"][row].as_py())[:SHOWN],
            "label": ", ".join(true) or NOTHING,
            "prediction": ", ".join(answer.value) or NOTHING,
            "confidence": answer.confidence,
            "note": "; ".join(said),
        }
        wrong.append((max(far, default=0.0), one))
    wrong.sort(key=lambda pair: -pair[0])
    return [one for _, one in wrong[:LISTED]]


def _sure(answer: Prediction, label: str) -> str:
    """A label with the probability that the model gave it."""
    return f"{label} ({answer.scores[label]:.2f})" if label in answer.scores else label
