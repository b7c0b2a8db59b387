"""One label for a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from warmstart.data.ledger import place
from warmstart.errors import DataError, WarmstartError, nearest, shown
from warmstart.metrics.base import softmax
from warmstart.metrics.classification import (
    TITLES,
    ClassMeasure,
    accuracy,
    confusion_matrix,
    f1_macro,
    tally,
)
from warmstart.tasks.base import Examples, Task
from warmstart.tasks.results import TaskResult, column, list_mistakes, prediction_table, shortened
from warmstart.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa


def class_answers(logits: np.ndarray, labels: Sequence[str]) -> list[Prediction]:
    """The likeliest class of each row of logits [n, K], with all probabilities."""
    scores = softmax(logits)
    answers: list[Prediction] = []
    for number, (row, best) in enumerate(zip(scores, scores.argmax(-1), strict=True)):
        by_label = {label: float(value) for label, value in zip(labels, row, strict=True)}
        answers.append(Prediction(str(number), labels[best], float(row[best]), by_label))
    return answers


def class_scores(logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Accuracy, and macro-F1 over the classes that the rows have."""
    t = tally(targets, logits.argmax(-1), logits.shape[1])
    return {"accuracy": float(accuracy(t)), "f1_macro": float(f1_macro(t))}


class Classification(Task):
    """Single-label classification: each text gets exactly one of the labels seen in training."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "text": (
            "text", "sentence", "content", "message", "body", "review", "tweet", "comment",
            "description", "utterance", "question", "query", "document", "title",
        ),
        "label": (
            "label", "category", "class", "target", "intent", "labels", "sentiment", "topic",
            "type", "y",
        ),
    }  # fmt: skip
    label: ClassVar[str | None] = "label"
    main_score: ClassVar[str] = "f1_macro"
    metric_titles: ClassVar[Mapping[str, str]] = {
        name: TITLES[name]
        for name in ("f1_macro", "accuracy", "f1_weighted", "matthews_correlation")
    }

    max_length: int = Field(
        default=256, ge=3, description="tokens a text may have; what is cut stands in the ledger"
    )

    def targets(self, table: pa.Table, labels: Sequence[str]) -> np.ndarray | None:
        """The number of each row's class. Raises `DataError` for one that is not among them."""
        if "label" not in table.column_names:
            return None
        number = {label: index for index, label in enumerate(labels)}
        values = [str(value) for value in table["label"].to_pylist()]
        for row, value in enumerate(values):
            if value not in number:
                known, where = nearest(value, number), place(table, row)
                raise DataError(
                    f"{where}: the model does not know the label '{shown(value)}'.{known}"
                )
        return np.array([number[value] for value in values], dtype=np.int64)

    def decode(self, outputs: np.ndarray, examples: Examples) -> list[Prediction]:
        return class_answers(outputs, examples.labels)

    def labelled(self, outputs: np.ndarray, examples: Examples) -> dict[str, pa.Array]:
        scores = softmax(outputs)
        names = column(list(examples.labels), "string")
        return {
            "prediction": names.take(column(np.asarray(scores.argmax(-1)))),
            "confidence": column(scores.max(-1, initial=0.0).round(6)),
        }

    def score(self, outputs: np.ndarray, examples: Examples) -> dict[str, float]:
        return class_scores(outputs, examples.store.targets)

    def evaluate(
        self, outputs: Mapping[str, np.ndarray], examples: Mapping[str, Examples]
    ) -> TaskResult:
        """`probabilities` (a list, in the order of the labels) and `confidence` of the table are
        the plain softmax, equal to what a Hugging Face pipeline gives."""
        for split in ("test", "validation"):
            if split in outputs and len(examples.get(split, ())):
                _check(outputs[split], examples[split], split)
        test, labels = examples["test"], [str(label) for label in examples["test"].labels]
        truth, predicted = test.store.targets, outputs["test"].argmax(axis=1)
        probabilities = softmax(outputs["test"]).astype(np.float32)
        confidence, texts = probabilities.max(axis=1, initial=0.0), self.as_text(test.table)
        names = column(labels, "string")
        columns = {
            "text": texts.cast("string"),
            "label": names.take(column(truth)),
            "prediction": names.take(column(predicted)),
            "correct": predicted == truth,
            "confidence": confidence,
            "probabilities": column(probabilities),
        }
        table = prediction_table(test.table, columns)
        wrong = np.flatnonzero(predicted != truth)
        mistakes = list_mistakes(
            table,
            wrong[np.argsort(-confidence[wrong], kind="stable")],
            lambda row: {
                "text": shortened(texts[row].as_py()),
                "label": labels[truth[row]],
                "prediction": labels[predicted[row]],
                "confidence": float(confidence[row]),
            },
        )
        measure, validation = ClassMeasure(len(labels), labels), examples.get("validation", ())
        return TaskResult(
            measure=measure,
            statistics=measure.rows(predicted, truth),
            score=lambda others: measure.rows(others, truth),
            table=table,
            mistakes=mistakes,
            baselines=("majority_class", "tfidf_classes"),
            facts={
                "validation_rows": len(validation) if "validation" in outputs else 0,
                "labels": labels,
                "confusion_matrix": confusion_matrix(truth, predicted, len(labels)).tolist(),
            },
        )


def _check(logits: np.ndarray, examples: Examples, split: str) -> None:
    """Raise `WarmstartError` unless there are finite logits for every row and class."""
    expected = (len(examples), len(examples.labels))
    if logits.shape != expected or len(examples.store.targets) != len(examples):
        raise WarmstartError(
            f"{split} rows: logits {logits.shape}, {len(examples.store.targets)} labels and "
            f"{len(examples)} rows of {len(examples.labels)} classes do not fit together"
        )
    if not np.isfinite(logits).all():
        raise WarmstartError(f"{split} rows: the model gave values that are not finite numbers")
