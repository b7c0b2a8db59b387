"""One label for a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from warmstart.data.ledger import place
from warmstart.errors import DataError, nearest, shown
from warmstart.metrics.base import softmax
from warmstart.tasks.base import Examples, OnCut, Task
from warmstart.types import Prediction

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from warmstart.data.tokens.dataset import TokenizedDataset


# One class a row: what classification and pairs share.


def class_targets(table: pa.Table, labels: Sequence[str]) -> np.ndarray | None:
    """The number of each row's class [n], or None where the table has no labels.

    Raises `DataError` for a class that is not among the labels.
    """
    import numpy as np

    if "label" not in table.column_names:
        return None
    number = {label: index for index, label in enumerate(labels)}
    values = [str(value) for value in table["label"].to_pylist()]
    for row, value in enumerate(values):
        if value not in number:
            known, where = nearest(value, number), place(table, row)
            raise DataError(f"{where}: the model does not know the label '{shown(value)}'.{known}")
    return np.array([number[value] for value in values], dtype=np.int64)


def class_answers(logits: np.ndarray, labels: Sequence[str]) -> list[Prediction]:
    """The likeliest class of each row of logits [n, K], with all probabilities."""
    scores = softmax(logits)
    answers: list[Prediction] = []
    for number, (row, best) in enumerate(zip(scores, scores.argmax(-1), strict=True)):
        by_label = {label: float(value) for label, value in zip(labels, row, strict=True)}
        answers.append(Prediction(str(number), labels[best], float(row[best]), by_label))
    return answers


def class_columns(logits: np.ndarray, labels: Sequence[str]) -> dict[str, pa.Array]:
    """The likeliest class of each row of logits [n, K] and its probability, as columns."""
    import numpy as np
    import pyarrow as pa

    scores = softmax(logits)
    names = pa.array(list(labels), pa.string()).take(pa.array(np.asarray(scores.argmax(-1))))
    return {"prediction": names, "confidence": pa.array(scores.max(-1, initial=0.0).round(6))}


def class_scores(logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Accuracy, macro-F1 over the classes that the rows have, and the mean cross-entropy in
    nats."""
    import numpy as np

    k = logits.shape[1]
    guess = logits.argmax(-1)
    counts = np.bincount(targets * k + guess, minlength=k * k).reshape(k, k)
    hits, truth, said = counts.diagonal(), counts.sum(1), counts.sum(0)
    seen = truth > 0
    f1 = 2 * hits[seen] / (truth + said)[seen]
    nll = -np.log(np.maximum(softmax(logits)[np.arange(len(targets)), targets], 1e-30))
    return {
        "accuracy": float(hits.sum() / max(len(targets), 1)),
        "f1_macro": float(f1.mean()) if f1.size else 0.0,
        "loss": float(nll.mean()) if len(targets) else 0.0,
    }


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

    max_length: int = Field(
        default=256, ge=3, description="tokens a text may have; what is cut stands in the ledger"
    )

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        from warmstart.data.tokens.dataset import tokenise

        targets = class_targets(table, labels)
        return tokenise(table["text"], tokenizer.backend_tokenizer, longest, on_cut, targets)

    def decode(self, outputs: np.ndarray, examples: Examples) -> list[Prediction]:
        return class_answers(outputs, examples.labels)

    def labelled(self, outputs: np.ndarray, examples: Examples) -> dict[str, pa.Array]:
        return class_columns(outputs, examples.labels)

    def score(self, outputs: np.ndarray, examples: Examples) -> dict[str, float]:
        return class_scores(outputs, examples.store.targets)
