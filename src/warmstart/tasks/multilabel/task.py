"""Any number of labels for a text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field, PrivateAttr

from warmstart.data.tokens.dataset import TokenizedDataset, tokenise
from warmstart.formatting import counted
from warmstart.metrics.base import sigmoid
from warmstart.metrics.multilabel import Labels, log_odds, tuned_thresholds
from warmstart.models.heads import LABELS, Head
from warmstart.tasks.base import Drop, Examples, OnCut, Task
from warmstart.tasks.multilabel.labels import (
    COLUMN,
    data_notes,
    decode,
    fit_labels,
    label_targets,
    labels_of,
    rarest,
    separator_for,
    sets_in,
    shares,
    unknown_labels,
)
from warmstart.tasks.results import TaskResult, list_mistakes, prediction_table, shortened
from warmstart.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel

    from warmstart.models.base import Base

DEFAULT = 0.5
NOTHING = "(no label)"


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

        lists = labels_of(table, self.label_columns, self.separator)
        kept = ["text", "_file", "_line", *(["_group"] if "_group" in table.column_names else [])]
        table = table.select([name for name in kept if name in table.column_names])
        if lists is None:
            return table
        return table.append_column("labels", pa.chunked_array([pa.array(lists, pa.string())]))

    def resolve_for_data(self, table: pa.Table) -> Task:
        task = self.model_copy()
        task._shares = shares(table)
        return task

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
        return rarest(sets_in(table)) if "labels" in table.column_names else None

    def data_notes(self, train: pa.Table) -> list[str]:
        return data_notes(train)

    def fit_labels(self, train: pa.Table) -> list[str]:
        return fit_labels(train, self.thresholds)

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        targets = label_targets(table, labels)
        return tokenise(table["text"], tokenizer.backend_tokenizer, longest, on_cut, targets)

    def cuts(self, labels: Sequence[str]) -> np.ndarray:
        """The threshold of each label [K]."""
        default, own = self.threshold or DEFAULT, self.thresholds or {}
        return np.array([own.get(label, default) for label in labels])

    @property
    def is_settled(self) -> bool:
        """Whether the thresholds are not to be chosen."""
        return self.threshold is not None or self.thresholds is not None

    def decode(self, outputs: np.ndarray, examples: Examples) -> list[Prediction]:
        return decode(outputs, examples.labels, self.cuts(examples.labels))

    def columns(self, answers: Sequence[Prediction]) -> dict[str, pa.Array]:
        """The labels, as text that can be read again, and the probability of each of them."""
        import pyarrow as pa

        mark = separator_for(list(answers[0].scores) if answers else [])
        chosen = [
            json.dumps({label: round(a.scores[label], 6) for label in a.value}, ensure_ascii=False)
            for a in answers
        ]
        return {
            "prediction": pa.array([mark.join(answer.value) for answer in answers], pa.string()),
            "confidence": pa.array(
                [round(answer.confidence, 6) for answer in answers], pa.float64()
            ),
            "probabilities": pa.array(chosen, pa.string()),
        }

    def score(self, outputs: np.ndarray, examples: Examples) -> dict[str, float]:
        """The figures of one pass."""
        truth = examples.store.targets
        if not len(truth):
            return {"f1_macro": 0.0, "f1_micro": 0.0}
        task = self.fit_thresholds({"validation": outputs}, {"validation": examples})
        figures = Labels(examples.labels, task.cuts(examples.labels))(sigmoid(outputs), truth)
        return {name: value for name, value in figures.items() if ":" not in name}

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        test = examples["test"]
        labels, cuts = test.labels, self.cuts(test.labels)
        truth, answers = sets_in(test.table), decode(outputs["test"], labels, cuts)
        empty = sum(not names for names in truth)
        notes = [f"{empty:,} of {counted(len(test), 'test row')} without a label."] if empty else []
        notes += [text] if (text := unknown_labels(test.table, labels)) else []
        if not self.is_settled:
            notes.append("There were no validation rows, so every label is given from 0.5 on.")
        table = _table(test, answers, truth)
        measure = Labels(labels, cuts)

        def score(predictions: tuple[np.ndarray, Any]) -> np.ndarray:
            scores, thresholds = predictions
            return Labels(labels, thresholds).rows(scores, test.store.targets)

        return TaskResult(
            measure=measure,
            statistics=score((sigmoid(outputs["test"]), cuts)),
            score=score,
            table=table,
            mistakes=_mistakes(table, test, answers, truth, cuts),
            baselines=("frequent_labels", "tfidf_labels"),
            facts={
                "thresholds": dict(zip(labels, cuts.tolist(), strict=True)),
                "without_labels": empty,
                "sections": [_thresholds(examples, cuts)],
            },
            notes=notes,
        )

    def fit_thresholds(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> Self:
        """With a threshold for each label from the validation rows, if there are some."""
        validation = examples.get("validation")
        if self.is_settled or validation is None or not len(validation):
            return self
        cuts = tuned_thresholds(sigmoid(outputs["validation"]), validation.store.targets)
        own = dict(zip(validation.labels, cuts.tolist(), strict=True))
        return self.model_copy(update={"thresholds": own})


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


def _table(test: Examples, answers: Sequence[Prediction], truth: list[list[str]]) -> pa.Table:
    import pyarrow as pa

    strings = pa.list_(pa.string())
    chosen = [answer.value for answer in answers]
    right = [set(names) == set(true) for names, true in zip(chosen, truth, strict=True)]
    scores = [list(answer.scores.values()) for answer in answers]
    columns: dict[str, Any] = {
        "text": test.table["text"],
        "label": pa.array(truth, strings),
        "prediction": pa.array(chosen, strings),
        "confidence": pa.array([answer.confidence for answer in answers], pa.float32()),
        "correct": right,
        "probabilities": pa.array(scores, pa.list_(pa.float32())),
    }
    return prediction_table(test.table, columns)


def _mistakes(
    table: pa.Table,
    test: Examples,
    answers: Sequence[Prediction],
    truth: list[list[str]],
    cuts: np.ndarray,
) -> list[dict[str, Any]]:
    """The rows with a wrong set, first those whose worst label lies farthest beyond its cut."""
    edge = dict(zip(test.labels, log_odds(cuts), strict=True))
    faults: dict[int, tuple[list[str], list[str]]] = {}
    distance: dict[int, float] = {}
    for row, (answer, true) in enumerate(zip(answers, truth, strict=True)):
        missed = [label for label in true if label not in answer.value]
        extra = [label for label in answer.value if label not in true]
        if not missed and not extra:
            continue
        faults[row] = missed, extra
        odds = {label: float(log_odds(np.array(answer.scores[label])))
                for label in (*missed, *extra) if label in edge}  # fmt: skip
        distance[row] = max((abs(odds[label] - edge[label]) for label in odds), default=0.0)

    def describe(row: int) -> dict[str, Any]:
        answer = answers[row]
        parts = zip(("missed", "wrongly given"), faults[row], strict=True)
        notes = [f"{what}: {', '.join(_sure(answer, x) for x in names)}" for what, names in parts
                 if names]  # fmt: skip
        return {
            "text": shortened(test.table["text"][row].as_py()),
            "label": ", ".join(truth[row]) or NOTHING,
            "prediction": ", ".join(answer.value) or NOTHING,
            "confidence": answer.confidence,
            "note": "; ".join(notes),
        }

    return list_mistakes(table, sorted(faults, key=lambda row: -distance[row]), describe)


def _sure(answer: Prediction, label: str) -> str:
    """A label with the probability that the model gave it."""
    return f"{label} ({answer.scores[label]:.2f})" if label in answer.scores else label
