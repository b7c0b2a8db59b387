"""One label for a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from warmstart.tasks.base import Task
from warmstart.types import Prediction

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel

    from warmstart.models.catalog import Base


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
    main_score: ClassVar[str] = "f1_macro"

    max_length: int = Field(
        default=256, ge=3, description="tokens a text may have; what is cut stands in the ledger"
    )

    def head(self, base: Base, labels: Sequence[str], seed: int) -> PreTrainedModel:
        from warmstart.models.backbone import load_classifier

        return load_classifier(base, list(labels), seed)

    def decode(
        self, logits: np.ndarray, labels: Sequence[str], ids: Sequence[str]
    ) -> list[Prediction]:
        scores = softmax(logits)
        answers: list[Prediction] = []
        for row, best, name in zip(scores, scores.argmax(-1), ids, strict=True):
            by_label = {label: float(value) for label, value in zip(labels, row, strict=True)}
            answers.append(Prediction(name, labels[best], float(row[best]), by_label))
        return answers

    def score(self, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Accuracy, macro-F1 over the classes that occur, and the mean cross-entropy in nats."""
        import numpy as np

        k = logits.shape[1]
        guess = logits.argmax(-1)
        counts = np.bincount(targets * k + guess, minlength=k * k).reshape(k, k)
        hits, truth, said = counts.diagonal(), counts.sum(1), counts.sum(0)
        seen = truth + said > 0
        f1 = 2 * hits[seen] / (truth + said)[seen]
        nats = -np.log(np.maximum(softmax(logits)[np.arange(len(targets)), targets], 1e-30))
        return {
            "accuracy": float(hits.sum() / max(len(targets), 1)),
            "f1_macro": float(f1.mean()) if f1.size else 0.0,
            "loss": float(nats.mean()) if len(targets) else 0.0,
        }


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [n, K] from logits, in float64."""
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    exps = np.exp(shifted)
    return exps / exps.sum(-1, keepdims=True)
