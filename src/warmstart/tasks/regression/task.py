"""A number for a text, or for two texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from warmstart.models.heads import VALUE, Head
from warmstart.tasks.base import Drop, Examples, OnCut, Result, Task
from warmstart.tasks.pairs import FIRST, SECOND, one_or_two
from warmstart.types import Prediction

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from transformers import PreTrainedModel

    from warmstart.data.tokens.dataset import TokenizedDataset

TITLES = {
    "spearman": "Spearman correlation",
    "pearson": "Pearson correlation",
    "r2": "R²",
    "mae": "mean absolute error",
    "mse": "mean squared error",
}


class Regression(Task):
    """A number for each text or pair of texts. The model learns it in a unit of its own (mean 0,
    spread 1); at the end its last layer takes in mean and spread, so that it answers in the
    data's unit, in transformers too."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "sentence1": FIRST,
        "sentence2": SECOND,
        "text": (
            "text", "sentence", "content", "message", "body", "review", "tweet", "comment",
            "description", "essay", "document", "excerpt", "title",
        ),
        "score": (
            "score", "target", "value", "rating", "stars", "similarity", "similarity_score",
            "price", "grade", "label", "labels", "y",
        ),
    }  # fmt: skip
    required: ClassVar[frozenset[str] | None] = frozenset({"score"})
    texts: ClassVar[tuple[str, ...]] = ("text",)
    head: ClassVar[Head] = VALUE

    max_length: int = Field(
        default=256,
        ge=5,
        description="tokens a text, or both texts together, may have; what is cut stands in the "
        "ledger",
    )
    pairs: bool | None = Field(
        default=None,
        description="two texts a row, read together; unset: if there are sentence1 and sentence2",
    )
    judged_by: Literal["spearman", "pearson", "r2"] = Field(
        default="spearman", description="the main score, by which the best epoch is chosen too"
    )
    mean: float | None = Field(
        default=None, description="of the numbers in train, taken away while learning; unset: found"
    )
    spread: float | None = Field(
        default=None, gt=0, description="their standard deviation, divided by; unset: found"
    )
    offset: float | None = Field(
        default=None,
        description="of a trained model: what to add to its answers, where its last layer has no "
        "bias (GPT-2, Llama); else 0",
    )

    @property
    def main_score(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Task`."""
        return self.judged_by

    @property
    def metric_titles(self) -> Mapping[str, str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Task`."""
        return {self.judged_by: TITLES[self.judged_by], **TITLES}

    @property
    def inputs(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See `Task`."""
        return ("sentence1", "sentence2") if self.pairs else ("text",)

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        from warmstart.tasks.regression.values import checked

        table = one_or_two(table, self.pairs)
        return checked(table, drop) if "score" in table.column_names else table

    def strata(self, table: pa.Table) -> Sequence[str] | None:
        """Tenths of the rows by their number."""
        from warmstart.tasks.regression.values import tenths

        return tenths(table) if "score" in table.column_names else None

    def resolve_for_data(self, table: pa.Table) -> Task:
        """With one text or two, and the unit of the numbers; a trained model has none."""
        from warmstart.tasks.regression.values import unit

        found: dict[str, Any] = {"pairs": "sentence1" in table.column_names}
        if self.offset is None and self.mean is None and self.spread is None:
            found["mean"], found["spread"] = unit(table)
        return self.model_copy(update=found)

    def fit_labels(self, train: pa.Table) -> list[str]:
        return ["score"]

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        from dataclasses import replace

        from warmstart.tasks.regression.values import encoded, numbers

        store = encoded(table, self.pairs, tokenizer, longest, on_cut)
        if "score" not in table.column_names:
            return store
        values = (numbers(table) - (self.mean or 0.0)) / (self.spread or 1.0)
        return replace(store, targets=values.astype("float32"))

    def decode(self, outputs: np.ndarray, examples: Examples) -> list[Prediction]:
        from warmstart.tasks.regression.values import answers

        return answers(self.values(outputs))

    def values(self, outputs: np.ndarray) -> np.ndarray:
        """What the trained model's outputs [n, 1] say [n], in the data's unit."""
        return outputs.reshape(-1).astype("float64") + (self.offset or 0.0)

    def columns(self, answers: Sequence[Prediction]) -> dict[str, pa.Array]:
        """The number alone: nothing is known of how sure a single one is."""
        import pyarrow as pa

        return {"prediction": pa.array([answer.value for answer in answers], pa.float64())}

    def score(self, outputs: np.ndarray, examples: Examples) -> dict[str, float]:
        from warmstart.tasks.regression.values import scores

        return scores(outputs.reshape(-1), examples.store.targets)

    def fold_into_weights(self, model: PreTrainedModel) -> Self:
        """With the unit in the model's last layer."""
        from warmstart.models.head_layers import rescale

        if self.mean is None or self.spread is None:
            return self
        offset = rescale(model, self.mean, self.spread)
        return self.model_copy(update={"mean": None, "spread": None, "offset": offset})

    def result(
        self,
        outputs: Mapping[str, Any],
        examples: Mapping[str, Examples],
        *,
        baselines: bool,
        seed: int,
    ) -> Result:
        from warmstart.tasks.regression.evaluation import result

        values = self.values(outputs["test"])
        return result(values, examples, baselines, seed, self.offset or 0.0)
