"""Any number of labels for a text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field, PrivateAttr

from warmstart.data.cells import in_order
from warmstart.data.ledger import place
from warmstart.errors import DataError, RecipeError, nearest, shown
from warmstart.formatting import counted
from warmstart.metrics.base import sigmoid
from warmstart.metrics.multilabel import Labels, log_odds, tuned_thresholds
from warmstart.models.heads import LABELS, Head
from warmstart.tasks.base import Drop, Examples, Task
from warmstart.tasks.multilabel.labels import (
    COLUMN,
    label_targets,
    labels_of,
    listed,
    rarest,
    separator_for,
    separator_in,
    sets_in,
    unknown_labels,
)
from warmstart.tasks.results import TaskResult, column, list_mistakes, prediction_table, shortened
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
    names: tuple[str, ...] = Field(
        default=(),
        description="names of the labels, in order, where a cell holds a 0 or 1 for each of them "
        "as in [0, 1, 0]",
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
    _separator: str | None = PrivateAttr(default=None)
    """What was found between the labels of the first table, which is that of train."""

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
        separator = self.separator if self.separator is not None else self._separator
        if separator is None:
            separator = self._separator = separator_in(table)
        lists = labels_of(table, self.label_columns, separator, self.names)
        kept = ("text", "_file", "_line", "_group")
        table = table.select([name for name in kept if name in table.column_names])
        return table if lists is None else table.append_column("labels", column(lists, "string"))

    def as_read_by(self, other: Task) -> Task:
        return self.model_copy(update={"separator": getattr(other, "separator", None)})

    def resolve_for_data(self, table: pa.Table) -> Task:
        """With the share of the rows that have each label, one row with and one without added."""
        separator = self._separator if self.separator is None else self.separator
        task = self.model_copy(update={"separator": separator})
        if "labels" in table.column_names:
            counts = Counter(name for names in sets_in(table) for name in names)
            task._shares = {name: (n + 1) / (len(table) + 2) for name, n in counts.items()}
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
        return rarest(sets_in(table)) if "labels" in table.column_names else None

    def data_notes(self, train: pa.Table) -> list[str]:
        """How many labels the rows have, and how many rows have none."""
        sets = sets_in(train)
        none, each = sum(not labels for labels in sets), sum(map(len, sets)) / max(len(sets), 1)
        between = "" if self.separator is None else "; a cell is one label"
        if self.separator:
            between = f"; labels are parted by '{shown(self.separator)}' (task.separator)"
        count = f"{none:,} of {counted(len(sets))} without any"
        notes = [f"{each:.2f} labels a row in train; {count}{between}"]
        rare = sorted(name for name, n in Counter(n for s in sets for n in s).items() if n == 1)
        if rare:
            many = counted(len(rare), "label has", "labels have")
            notes.append(f"{many} one row in train: {listed(rare)}")
        return notes

    def fit_labels(self, train: pa.Table) -> list[str]:
        """The labels of the training rows, in order. Raises `DataError`, `RecipeError`."""
        first: dict[str, int] = {}
        for row, labels in enumerate(sets_in(train)):
            for label in labels:
                first.setdefault(label, row)
        if not first:
            raise DataError(
                f"{train['_file'][0].as_py()}: no row of train has a label, so there is nothing to "
                "learn; name another column with --data.columns.labels NAME"
            )
        spellings: dict[str, str] = {}
        for label in sorted(first):
            other = spellings.setdefault(label.casefold(), label)
            if other != label:
                raise DataError(
                    f"labels that differ only in case: '{shown(other)}', first at "
                    f"{place(train, first[other])}, and '{shown(label)}', first at "
                    f"{place(train, first[label])}; mend them"
                )
        for name in self.thresholds or {}:
            if name not in first:
                raise RecipeError(f"task.thresholds: no label '{name}'.{nearest(name, first)}")
        return in_order(first)

    def targets(self, table: pa.Table, labels: Sequence[str]) -> np.ndarray | None:
        return label_targets(table, labels)

    def cuts(self, labels: Sequence[str]) -> np.ndarray:
        """The threshold of each label [K]."""
        default, own = self.threshold or DEFAULT, self.thresholds or {}
        return np.array([own.get(label, default) for label in labels])

    @property
    def is_settled(self) -> bool:
        """Whether the thresholds are not to be chosen."""
        return self.threshold is not None or self.thresholds is not None

    def decode(self, outputs: np.ndarray, examples: Examples) -> list[Prediction]:
        """The labels that reach their cuts, the likeliest first, with the probability of every one.

        The confidence is that of the least sure label, or, where none is given, one minus the
        highest probability.
        """
        labels, cuts = examples.labels, self.cuts(examples.labels)
        decoded: list[Prediction] = []
        for number, row in enumerate(sigmoid(outputs)):
            scores = {label: float(value) for label, value in zip(labels, row, strict=True)}
            order: list[int] = (-row).argsort(kind="stable").tolist()
            chosen = [labels[i] for i in order if row[i] >= cuts[i]]
            sure = min(map(scores.__getitem__, chosen), default=1.0 - float(row.max(initial=0.0)))
            decoded.append(Prediction(str(number), chosen, sure, scores))
        return decoded

    def columns(self, answers: Sequence[Prediction]) -> dict[str, pa.Array]:
        """The labels, as text that can be read again, and the probability of each of them."""
        mark = separator_for(list(answers[0].scores) if answers else [])
        chosen = [{label: round(a.scores[label], 6) for label in a.value} for a in answers]
        texts = [json.dumps(scores, ensure_ascii=False) for scores in chosen]
        return {
            "prediction": column([mark.join(answer.value) for answer in answers], "string"),
            "confidence": column([round(answer.confidence, 6) for answer in answers], "float64"),
            "probabilities": column(texts, "string"),
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
        import pyarrow as pa

        test = examples["test"]
        labels, cuts = test.labels, self.cuts(test.labels)
        truth, answers = sets_in(test.table), self.decode(outputs["test"], test)
        empty = sum(not names for names in truth)
        notes = [f"{empty:,} of {counted(len(test), 'test row')} without a label."] if empty else []
        notes += [text] if (text := unknown_labels(test.table, labels)) else []
        if not self.is_settled:
            notes.append("There were no validation rows, so every label is given from 0.5 on.")
        scores = sigmoid(outputs["test"])
        right = [set(a.value) == set(true) for a, true in zip(answers, truth, strict=True)]
        strings = pa.list_(pa.string())
        columns = {
            "text": test.table["text"],
            "label": pa.array(truth, strings),
            "prediction": pa.array([answer.value for answer in answers], strings),
            "confidence": column([answer.confidence for answer in answers], "float32"),
            "correct": right,
            "probabilities": column(scores.astype(np.float32)),
        }
        table = prediction_table(test.table, columns)

        def score(predictions: tuple[np.ndarray, Any]) -> np.ndarray:
            likely, thresholds = predictions
            return Labels(labels, thresholds).rows(likely, test.store.targets)

        return TaskResult(
            measure=Labels(labels, cuts),
            statistics=score((scores, cuts)),
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


def _mistakes(
    table: pa.Table,
    test: Examples,
    answers: Sequence[Prediction],
    truth: list[list[str]],
    cuts: np.ndarray,
) -> list[dict[str, Any]]:
    """The rows with a wrong set, first those whose worst label lies farthest beyond its cut."""
    edge = dict(zip(test.labels, log_odds(cuts), strict=True))
    faults: dict[int, dict[str, list[str]]] = {}
    distance: dict[int, float] = {}
    for row, (answer, true) in enumerate(zip(answers, truth, strict=True)):
        missed = [label for label in true if label not in answer.value]
        extra = [label for label in answer.value if label not in true]
        if missed or extra:
            faults[row] = {"missed": missed, "wrongly given": extra}
            known = [label for label in (*missed, *extra) if label in edge]
            gaps = [abs(float(log_odds(answer.scores[label])) - edge[label]) for label in known]
            distance[row] = max(gaps, default=0.0)

    def describe(row: int) -> dict[str, Any]:
        answer = answers[row]
        sure = {label: f"{label} ({score:.2f})" for label, score in answer.scores.items()}
        notes = [
            f"{what}: {', '.join(sure.get(label, label) for label in labels)}"
            for what, labels in faults[row].items()
            if labels
        ]
        return {
            "text": shortened(test.table["text"][row].as_py()),
            "label": ", ".join(truth[row]) or NOTHING,
            "prediction": ", ".join(answer.value) or NOTHING,
            "confidence": answer.confidence,
            "note": "; ".join(notes),
        }

    return list_mistakes(table, sorted(faults, key=lambda row: -distance[row]), describe)
