"""One label for two texts: entailment, paraphrase, answer and question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from warmstart.tasks._classes import class_answers, class_scores, class_targets
from warmstart.tasks._pairs import FIRST, SECOND, joined
from warmstart.tasks.base import Examples, OnCut, Task
from warmstart.types import Prediction

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from warmstart.data.tokens import TokenStore


class Pairs(Task):
    """Single-label classification of two texts, which one model reads together."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "sentence1": (*FIRST, "question", "query", "claim"),
        "sentence2": (*SECOND, "sentence", "answer", "passage", "evidence", "text"),
        "label": (
            "label", "gold_label", "relation", "entailment", "is_duplicate", "is_paraphrase",
            "category", "class", "target", "labels", "y",
        ),
    }  # fmt: skip
    inputs: ClassVar[tuple[str, ...]] = ("sentence1", "sentence2")
    texts: ClassVar[tuple[str, ...]] = ("sentence1", "sentence2")
    label: ClassVar[str | None] = "label"
    main_score: ClassVar[str] = "f1_macro"

    max_length: int = Field(
        default=256,
        ge=5,
        description="tokens both texts may have together; the longer one is cut first, and what "
        "is cut stands in the ledger",
    )

    def as_text(self, table: pa.Table) -> pa.ChunkedArray:
        return joined(table)

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenStore:
        from warmstart.data.pairs import tokenise_pairs

        first, second = (table[role].to_pylist() for role in self.inputs)
        targets = class_targets(table, labels)
        return tokenise_pairs(first, second, tokenizer, longest, on_cut, targets)

    def decode(self, outputs: np.ndarray, examples: Examples) -> list[Prediction]:
        return class_answers(outputs, examples.labels)

    def score(self, outputs: np.ndarray, examples: Examples) -> dict[str, float]:
        return class_scores(outputs, examples.store.targets)
