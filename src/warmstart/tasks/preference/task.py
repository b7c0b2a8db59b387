"""Which of two answers does a language model find likelier?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.errors import RecipeError
from warmstart.metrics.base import sigmoid
from warmstart.metrics.preference import TITLES, PairAccuracy
from warmstart.models.architectures import family_of
from warmstart.models.heads import LANGUAGE, Head
from warmstart.tasks.base import Examples, OnCut
from warmstart.tasks.preference.pairs import PairTask
from warmstart.tasks.preference.results import (
    change_notes,
    change_section,
    length_notes,
    length_section,
    pair_table,
    sample_section,
    wrong_pairs,
)
from warmstart.tasks.results import TaskResult
from warmstart.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel

    from warmstart.metrics.base import Floats
    from warmstart.models.base import Base
    from warmstart.models.forward import Forward

OTHER = {"sum": "token", "token": "sum"}


class Preference(PairTask):
    """Preference by likelihood: of two answers to a prompt the model prefers the one that it finds
    likelier, by the sum of its tokens' log-probabilities or their mean. Only tokens of the answers
    count, with the one that ends them."""

    inputs: ClassVar[tuple[str, ...]] = ("prompt", "chosen", "rejected")
    head: ClassVar[Head] = LANGUAGE
    objective: ClassVar[str] = "dpo"
    default_epochs: ClassVar[int | None] = 1

    normalise: Literal["sum", "token"] = Field(
        default="sum",
        description="answers are compared by their summed log-probability, which finds shorter "
        "ones likelier, or by its mean over tokens",
    )
    trained_by: dict[str, Any] = Field(
        default_factory=dict, description="of a trained model: its objective; set by the run"
    )

    @property
    def metric_titles(self) -> Mapping[str, str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        other = OTHER[self.normalise]
        by = "the sum" if other == "sum" else "the mean of a token"
        return {**TITLES, f"accuracy_{other}": f"Pair accuracy by {by}"}

    def resolve_for_base(self, config: Mapping[str, Any], room: int) -> Preference:
        """As it is. Raises `RecipeError` for a base that does not write behind a prompt."""
        if (family := family_of(config)).kind != "decoder":
            raise RecipeError(
                f"task preference needs a decoder, and '{family.name}' is an {family.kind}; take "
                "--base smollm2, or, to rate answers with it, --objective reward"
            )
        return self

    def check_base(self, base: Base, labels: Sequence[str]) -> None:
        """Nothing: whether there is a head to train, the objective says."""

    def forward(self, model: PreTrainedModel) -> Forward:
        from warmstart.models.forward import Forward

        return Forward(model)

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        """The prompts, with both answers behind each; see `PairTask.as_pairs`."""
        return self.as_pairs(table, tokenizer, longest, on_cut)

    def scores(self, outputs: Any) -> Floats:
        """What the model says of each answer [n, 2, 2]: by `normalise`, and by the other way."""
        sums = -np.asarray(outputs.nll, np.float64)
        both = {"sum": sums, "token": sums / np.maximum(outputs.tokens, 1)}
        return np.stack([both[self.normalise], both[OTHER[self.normalise]]], -1)

    @property
    def _measure(self) -> PairAccuracy:
        return PairAccuracy(OTHER[self.normalise])

    def score(self, outputs: Any, examples: Examples) -> dict[str, float]:
        if not len(outputs.nll):
            return dict.fromkeys(self.metric_titles, 0.0)
        return self._measure(self.scores(outputs), None)

    def decode(self, outputs: Any, examples: Examples) -> list[Prediction]:
        """The name of the preferred answer's column; the confidence is its share of the probability
        of the two."""
        scores = self.scores(outputs)[:, :, 0]
        gaps = scores[:, 0] - scores[:, 1]
        sure = sigmoid(np.abs(gaps))
        names = np.where(gaps >= 0, "chosen", "rejected")
        rows = zip(names.tolist(), sure.tolist(), strict=True)
        return [Prediction(str(i), name, own) for i, (name, own) in enumerate(rows)]

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        test, measure = examples["test"], self._measure
        now, before = outputs["test"], outputs.get("untuned")
        scores = self.scores(now)
        old = None if before is None else self.scores(before)[:, :, 0]
        table = pair_table(test.table, scores, ("log_prob", "log_prob_other"))
        lengths = length_section(test.table, scores[:, :, 0], old)
        sections, notes = [lengths], length_notes(lengths)
        if before is not None:
            sums = -now.nll, -before.nll
            sections.insert(0, change_section(*sums, now.tokens, outputs["drift"]))
            notes += change_notes(*sums)
        if "samples" in outputs:
            sections.append(sample_section(outputs["samples"]))
        return TaskResult(
            measure=measure,
            statistics=measure.rows(scores),
            score=lambda others: measure.rows(
                self.scores(others) if hasattr(others, "nll") else others
            ),
            table=table,
            mistakes=wrong_pairs(table),
            baselines=("length", "bag_of_words"),
            facts={"sections": sections, "row_name": "test pair", "mistakes_lead":
                   "The test pairs whose rejected answer the model finds likelier, by "
                   "the most first; all pairs are in predictions.parquet."},
            notes=notes,
        )  # fmt: skip
