"""A vector for a text, so that texts that belong together lie near each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from warmstart.data.tokens.dataset import TokenizedDataset, tokenise
from warmstart.errors import DataError, RecipeError, shown
from warmstart.models.heads import VECTOR, Head
from warmstart.tasks.base import Drop, Examples, OnCut, Task
from warmstart.tasks.embedding import evaluation
from warmstart.tasks.regression import numbers
from warmstart.tasks.results import TaskResult
from warmstart.types import Prediction

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from warmstart.models.forward import Forward


class Embedding(Task):
    """Contrastive training from pairs, scored pairs, triplets or labelled texts."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "text": (
            "anchor", "query", "question", "text", "sentence1", "premise", "sentence", "text1",
            "source", "title", "utterance", "message", "content",
        ),
        "other": (
            "positive", "answer", "passage", "document", "sentence2", "hypothesis", "text2",
            "context", "response", "duplicate", "target",
        ),
        "negative": ("negative", "hard_negative", "negative_passage", "negative_1"),
        **{name: (name,) for name in evaluation.NEGATIVES[1:]},
        "score": ("score", "similarity", "similarity_score", "relatedness", "relatedness_score"),
        "label": ("label", "category", "class", "intent", "topic"),
    }  # fmt: skip
    required: ClassVar[frozenset[str] | None] = frozenset({"text"})
    texts: ClassVar[tuple[str, ...]] = ("text", "other")
    head: ClassVar[Head] = VECTOR
    objective: ClassVar[str] = "contrastive"
    without_both: ClassVar[str] = "another base"
    default_batch: ClassVar[int | None] = 64

    max_length: int = Field(
        default=256, ge=3, description="tokens a text may have; what is cut stands in the ledger"
    )
    pooling: Literal["mean", "first", "last"] = Field(
        default="mean", description="the vector: the mean over the tokens, or one token"
    )
    normalise: bool = Field(default=True, description="vectors of length 1")
    examples: Literal["auto", "pairs", "scored", "triplets", "labels"] = Field(
        default="auto",
        description="what the rows are: pairs (text, other), scored (and score), triplets (and "
        "negative, negative_2, …), labels (text, label); auto: by their columns",
    )
    full_score: float | None = Field(
        default=None, gt=0, description="the score of equal texts; unset: the highest in train"
    )

    @property
    def main_score(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return evaluation.MAIN[self.examples]

    @property
    def score_span(self) -> tuple[float, float]:
        return (-1.0, 1.0) if self.main_score == "spearman" else (0.0, 1.0)

    @property
    def metric_titles(self) -> Mapping[str, str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return evaluation.TITLES[self.examples]

    def check(self, method: Any) -> None:
        if method.caches_features or method.extra_tokens:
            what = "trains a head alone" if method.caches_features else "adds virtual tokens"
            raise RecipeError(
                f"method {method.part_name()} {what}, and a vector is made of the text's own "
                "hidden states; take full, partial or lora"
            )

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        """`text`, and by the rows' kind `other` (the label where they are labels) with `score`,
        `negative` or `label`; the text alone where a vector is asked for."""
        return evaluation.own_form(table, self.examples, drop)

    def fit_labels(self, train: pa.Table) -> list[str]:
        """No labels. Raises `DataError` where every text belongs to every other."""
        name = {"labels": "label", "pairs": "other"}.get(evaluation.kind_of(train))
        if name is None or len(np.unique(evaluation.numbered(train[name].to_pylist()))) > 1:
            return []
        only, file = shown(train[name][0].as_py(), 40), train["_file"][0].as_py()
        what = "has the label" if name == "label" else "is paired with"
        raise DataError(
            f"{file}: every text of train {what} '{only}', so there is nothing to contrast; add "
            f"rows with another, or name another column with --data.columns.{name} NAME"
        )

    def resolve_for_data(self, table: pa.Table) -> Self:
        """With what the rows are, and their highest score."""
        kind = evaluation.kind_of(table)
        if kind == "alone":
            raise DataError(
                f"{table['_file'][0].as_py()}: there is nothing that a text belongs to; name a "
                "column with --data.columns.other, or --data.columns.label"
            )
        known: dict[str, Any] = {"examples": kind}
        if kind == "scored" and self.full_score is None:
            top = float(numbers(table).max())
            known["full_score"] = top if top > 0 else 1.0
        return self.model_copy(update=known)

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        """The texts as a store, the ones beside them behind it (`answers`); targets are the class
        [n] or the score [n] of each row, or the numbers of its texts [n, K]."""
        kind = evaluation.kind_of(table)
        names = ["text"] if kind in ("alone", "labels") else evaluation.texts_in(table)
        texts = [[text or "" for text in table[name].to_pylist()] for name in names]
        behind: TokenizedDataset | None = None
        for column in reversed(texts):
            store = tokenise(column, tokenizer.backend_tokenizer, longest, on_cut)
            behind = replace(store, answers=behind)
        assert behind is not None
        if kind == "scored":
            targets = (numbers(table) / (self.full_score or 1.0)).astype(np.float32)
        elif kind == "labels":
            targets = evaluation.numbered(table["label"].to_pylist())
        else:
            targets = evaluation.numbered([*chain(*texts)]).reshape(len(names), -1).T.copy()
        return replace(behind, targets=targets)

    def forward(self, model: Any) -> Forward:
        from warmstart.models.fast.forward import forward_for
        from warmstart.models.head_layers import Readout

        return forward_for(model, Readout("body", self.pooling, self.normalise))

    def decode(self, outputs: np.ndarray, examples: Examples) -> list[Prediction]:
        """The vector of each row's text, a list of floats."""
        rows = enumerate(outputs[:, 0].tolist())
        return [Prediction(str(number), vector, 1.0) for number, vector in rows]

    def columns(self, answers: Sequence[Prediction]) -> dict[str, pa.Array]:
        import pyarrow as pa

        vectors = [answer.value for answer in answers]
        return {"vector": pa.array(vectors, pa.list_(pa.float32()))}

    def labelled(self, outputs: np.ndarray, examples: Examples) -> dict[str, pa.Array]:
        import pyarrow as pa

        flat = outputs[:, 0].reshape(-1).astype("float32")
        return {"vector": pa.FixedSizeListArray.from_arrays(pa.array(flat), outputs.shape[-1])}

    def score(self, outputs: np.ndarray, examples: Examples) -> dict[str, float]:
        return evaluation.quick_scores(outputs, examples)

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        return evaluation.evaluate(outputs["test"], examples["test"])

    def to_metadata(self) -> dict[str, Any]:
        return {**super().to_metadata(), "examples": "auto"}

    def write_extras(self, folder: Path) -> None:
        """What sentence-transformers reads beside the model."""
        from warmstart.models.saving import write_modules

        write_modules(folder, self.pooling, self.normalise, self.max_length)
