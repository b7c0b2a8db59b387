"""One label for a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from warmstart.tasks._classes import class_answers, class_columns, class_scores, class_targets
from warmstart.tasks.base import Examples, OnCut, Task
from warmstart.types import Prediction

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from warmstart.data.tokens import TokenStore


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
    ) -> TokenStore:
        from warmstart.data.tokens import tokenise

        targets = class_targets(table, labels)
        return tokenise(table["text"], tokenizer.backend_tokenizer, longest, on_cut, targets)

    def decode(self, outputs: np.ndarray, examples: Examples) -> list[Prediction]:
        return class_answers(outputs, examples.labels)

    def labelled(self, outputs: np.ndarray, examples: Examples) -> dict[str, pa.Array]:
        return class_columns(outputs, examples.labels)

    def score(self, outputs: np.ndarray, examples: Examples) -> dict[str, float]:
        return class_scores(outputs, examples.store.targets)
