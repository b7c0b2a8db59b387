"""Any number of labels for a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, PrivateAttr

from warmstart.models.heads import LABELS, Head
from warmstart.tasks.base import Drop, Examples, OnCut, Result, Task
from warmstart.types import Prediction

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from transformers import PreTrainedModel

    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.models.base import Base

USUAL = 0.5


class Multilabel(Task):
    """Each text gets those labels whose probability reaches their threshold, or none."""

    required: ClassVar[frozenset[str] | None] = None
    nested: ClassVar[frozenset[str]] = frozenset({"labels"})
    head: ClassVar[Head] = LABELS
    min_epochs: ClassVar[int] = 8  # the rare labels come late
    main_score: ClassVar[str] = "f1_macro"
    metric_titles: ClassVar[Mapping[str, str]] = {
        "f1_macro": "macro-F1",
        "f1_micro": "micro-F1",
        "f1_samples": "F1, mean of the rows",
        "subset_accuracy": "rows without a fault",
        "ranking_precision": "ranking precision",
    }

    max_length: int = Field(
        default=256, ge=3, description="tokens a text may have; what is cut stands in the ledger"
    )
    separator: str | None = Field(
        default=None,
        description="what stands between the labels of a cell of text; unset: found, one of , ; | "
        "(a list, or a list as JSON, needs none); empty: a cell is one label",
    )
    label_columns: tuple[str, ...] = Field(
        default=(), description="columns that hold 0 or 1, each a label of that name"
    )
    threshold: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="the probability from which on a label is given; unset: one for each label, "
        "chosen on validation",
    )
    thresholds: dict[str, float] | None = Field(
        default=None, description="the same for each label; unset: chosen on validation"
    )
    _shares: Mapping[str, float] = PrivateAttr(default_factory=dict[str, float])
    """How often each label is given in train, from where the head begins."""

    @property
    def roles(self) -> Mapping[str, Sequence[str]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The text, and one column of labels or several columns of 0 and 1."""
        from warmstart.tasks.multilabel.labels import COLUMN

        texts = {
            "text": (
                "text", "sentence", "content", "message", "body", "review", "tweet", "comment",
                "comment_text", "description", "utterance", "abstract", "document", "title",
            )
        }  # fmt: skip
        if self.label_columns:
            own = {COLUMN + name: (name.strip().lower(),) for name in self.label_columns}
            return {**texts, **own}
        names = ("labels", "label", "tags", "tag", "categories", "topics", "genres", "emotions")
        return {**texts, "labels": (*names, "classes", "keywords", "codes", "y")}

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        import pyarrow as pa

        from warmstart.tasks.multilabel.labels import labels_of

        found = labels_of(table, self.label_columns, self.separator)
        kept = ["text", "_file", "_line", *(["_group"] if "_group" in table.column_names else [])]
        table = table.select([name for name in kept if name in table.column_names])
        if found is None:
            return table
        return table.append_column("labels", pa.chunked_array([pa.array(found, pa.string())]))

    def resolve_for_data(self, table: pa.Table) -> Task:
        from warmstart.tasks.multilabel.labels import shares

        found = self.model_copy()
        found._shares = shares(table)
        return found

    def build_model(self, base: Base, labels: Sequence[str], seed: int) -> PreTrainedModel:
        """A head that begins with each label as likely as it is in train (Lin et al. 2017, focal
        loss): otherwise the first epoch is spent on learning that most labels are rare."""
        from warmstart.models.head_layers import begin_at

        model = super().build_model(base, labels, seed)
        if self._shares:
            begin_at(model, [self._shares[label] for label in labels])
        return model

    def strata(self, table: pa.Table) -> Sequence[str] | None:
        """The rarest label of each row (the order of Sechidis et al. 2011)."""
        from warmstart.tasks.multilabel.labels import rarest, sets_in

        return rarest(sets_in(table)) if "labels" in table.column_names else None

    def data_notes(self, train: pa.Table) -> list[str]:
        from warmstart.tasks.multilabel.labels import remarks

        return remarks(train)

    def fit_labels(self, train: pa.Table) -> list[str]:
        from warmstart.tasks.multilabel.labels import learnt

        return learnt(train, self.thresholds)

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        from warmstart.data.tokens.dataset import tokenise
        from warmstart.tasks.multilabel.labels import label_targets

        targets = label_targets(table, labels)
        return tokenise(table["text"], tokenizer.backend_tokenizer, longest, on_cut, targets)

    def cuts(self, labels: Sequence[str]) -> np.ndarray:
        """The threshold of each label [K]."""
        import numpy as np

        usual, own = self.threshold or USUAL, self.thresholds or {}
        return np.array([own.get(label, usual) for label in labels])

    @property
    def is_settled(self) -> bool:
        """Whether the thresholds are not to be chosen."""
        return self.threshold is not None or self.thresholds is not None

    def decode(self, outputs: np.ndarray, examples: Examples) -> list[Prediction]:
        from warmstart.tasks.multilabel.labels import answers

        return answers(outputs, examples.labels, self.cuts(examples.labels))

    def columns(self, answers: Sequence[Prediction]) -> dict[str, pa.Array]:
        from warmstart.tasks.multilabel.labels import columns

        return columns(answers)

    def score(self, outputs: np.ndarray, examples: Examples) -> dict[str, float]:
        from warmstart.tasks.multilabel.labels import scores

        chosen = self.fit_thresholds({"validation": outputs}, {"validation": examples})
        return scores(outputs, examples, chosen.cuts(examples.labels))

    def result(
        self,
        outputs: Mapping[str, Any],
        examples: Mapping[str, Examples],
        *,
        baselines: bool,
        seed: int,
    ) -> Result:
        from warmstart.tasks.multilabel.evaluation import result

        cuts = self.cuts(examples["test"].labels)
        return result(outputs["test"], examples, cuts, self.is_settled, baselines, seed)

    def fit_thresholds(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> Self:
        """With a threshold for each label from the validation rows, if there are some."""
        from warmstart.metrics.thresholds import tuned_thresholds
        from warmstart.tasks.multilabel.labels import sigmoid

        found = examples.get("validation")
        if self.is_settled or found is None or not len(found):
            return self
        cuts = tuned_thresholds(sigmoid(outputs["validation"]), found.store.targets)
        own = dict(zip(found.labels, cuts.tolist(), strict=True))
        return self.model_copy(update={"thresholds": own})
