"""Named entities, or any other label for each word."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from warmstart.data.tokens.encoding import tokenise_windows
from warmstart.errors import DataError
from warmstart.metrics.entities import (
    Entities,
    Span,
    WordLabels,
    spans_of_tags,
    split_tag,
    types_of,
)
from warmstart.models.heads import TOKENS, Head
from warmstart.tasks.base import Drop, Examples, OnCut, Task
from warmstart.tasks.multilabel.labels import rarest
from warmstart.tasks.results import LISTED, TaskResult, column, prediction_table
from warmstart.tasks.tagging import reading
from warmstart.tasks.tagging.decoding import Tagged, label_tokens, predictions, tagged
from warmstart.tasks.tagging.schemes import Scheme, are_entities, labels_of, tags_of
from warmstart.tasks.tagging.words import Place
from warmstart.types import Prediction

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.metrics.base import Floats

SMALL = 512  # the width up to which a model bears the higher learning rate
ENTITY_TITLES = {
    "f1_micro": "entity F1",
    "precision_micro": "precision",
    "recall_micro": "recall",
    "f1_macro": "F1, mean of the types",
}
WORD_TITLES = {"f1_micro": "accuracy", "f1_macro": "F1, mean of the labels"}
AROUND = 80  # characters of the text shown on each side
KINDS = ("missed", "invented", "wrong type", "wrong borders")
NOTHING = "(none)"


class Tagging(Task):
    """Finds entities in texts, each with its type and its characters, or labels every word.

    Reads tokens with tags of any common scheme (CoNLL files, lists, JSON), and texts with spans.
    """

    roles: ClassVar[Mapping[str, Sequence[str]]] = {
        "text": ("text", "sentence", "content", "document", "body", "tokens", "words"),
        "tokens": ("tokens", "words"),
        "tags": (
            "ner_tags", "tags", "ner", "labels", "bio_tags", "tag", "label", "upos", "pos_tags",
            "pos",
        ),
        "spans": ("spans", "entities", "annotations"),
    }  # fmt: skip
    required: ClassVar[frozenset[str] | None] = frozenset({"text"})
    nested: ClassVar[frozenset[str]] = frozenset({"text", "tokens", "tags", "spans"})
    head: ClassVar[Head] = TOKENS
    main_score: ClassVar[str] = "f1_micro"
    max_length: int = Field(
        default=256, ge=3, description="tokens of one window; a longer text has several"
    )
    stride: int | None = Field(
        default=None,
        ge=0,
        description="tokens that two windows of a long text share; unset: a quarter of a window",
    )
    scheme: Scheme = Field(
        default="iob2", description="tags that the model learns, whatever the data have"
    )
    pieces: Literal["first", "parts", "all", "characters"] = Field(
        default="first",
        description="tokens of a word that are labelled: its first, the first of each of its parts "
        "(x-ray has three), or all; characters: entities may begin and end within a word",
    )
    constrained: bool = Field(
        default=True, description="answer only tags that can follow each other: no I- without B-"
    )
    entities: Literal["auto", "no"] = Field(
        default="auto", description="no: tags are labels of single words even if they begin with B-"
    )
    names: str | None = Field(
        default=None,
        description="names of tags that the data give as numbers, in order: O,B-PER,I-PER",
    )

    @property
    def metric_titles(self) -> Mapping[str, str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of figures by entity, or by word."""
        return WORD_TITLES if self.entities == "no" else ENTITY_TITLES

    def rows(self, table: pa.Table, drop: Drop) -> pa.Table:
        names = self.names.split(",") if self.names else []
        plain = self.entities == "no"
        return reading.own_form(table, drop, names=names, pieces=self.pieces, plain=plain)

    def data_notes(self, train: pa.Table) -> list[str]:
        entities = self.finds_entities(reading.distinct_tags(train))
        return reading.data_notes(train, entities=entities)

    def resolve_for_data(self, table: pa.Table) -> Tagging:
        """With `entities` no where the tags are labels of single words."""
        if "tags" not in table.column_names:
            return self
        every = reading.distinct_tags(table)
        plain = not every <= {"O"} and not are_entities(every)
        return self.model_copy(update={"entities": "no"}) if plain else self

    def default_rate(self, method: Any, width: int) -> float:
        """Three times the method's own where a small model is trained whole."""
        own = method.default_learning_rate(width)
        raised = method.part_name() == "full" and width <= SMALL
        return round(3 * own, 8) if raised else own

    def strata(self, table: pa.Table) -> Sequence[str] | None:
        """The rarest type of entity, or tag, of each row."""
        if "tags" not in table.column_names:
            return None
        tags = reading.tags_in(table)
        return rarest([{tag.rpartition("-")[2] for tag in row} - {"O"} for row in tags])

    def fit_labels(self, train: pa.Table) -> list[str]:
        """`O` and the tags of each type, or the labels of single words.

        Raises `DataError` where there is nothing to learn.
        """
        if "tags" not in train.column_names:
            raise DataError(
                "the data have no column of tags or spans, so there is nothing to learn; name it "
                "with --data.columns.tags NAME or --data.columns.spans NAME"
            )
        every = reading.distinct_tags(train)
        if every <= {"O"}:
            raise DataError("no word of train is tagged as anything but O: nothing to learn")
        if self.finds_entities(every):
            types = sorted({split_tag(tag)[1] for tag in every if tag != "O"})
            return labels_of(types, self.scheme)
        return sorted(every)

    def encode(
        self,
        table: pa.Table,
        labels: Sequence[str],
        tokenizer: Any,
        longest: int,
        on_cut: OnCut | None = None,
    ) -> TokenizedDataset:
        texts: list[str] = table["text"].to_pylist()
        store = tokenise_windows(texts, tokenizer.backend_tokenizer, longest, self.stride)
        if "tags" not in table.column_names:
            return store
        tags = reading.tags_in(table)
        if self.finds_entities(labels):
            tags = [tags_of(spans_of_tags(row), len(row), self.scheme) for row in tags]
        number = {label: index for index, label in enumerate(labels)}
        pieces = "first" if self.pieces == "characters" else self.pieces
        targets = label_tokens(store, texts, reading.words_in(table), tags, number, pieces)
        return replace(store, targets=targets)

    def decode(self, outputs: np.ndarray, examples: Examples) -> list[Prediction]:
        """A list of entities, or of words with their tags, for each row: dicts with `type`
        (`tag`), `text`, `start`, `end` (characters) and `score`, the mean probability of the tags.
        """
        entities = self.finds_entities(examples.labels)
        return predictions(self._tagged(outputs, examples), examples.table, entities=entities)

    def columns(self, answers: Sequence[Prediction]) -> dict[str, pa.Array]:
        """`entities`, a list of structs, or `tags` for labels of single words; `confidence`."""
        import pyarrow as pa

        words = any("tag" in span for answer in answers for span in answer.value)
        text, place = pa.string(), pa.int64()
        kinds = {"tag" if words else "type": text, "text": text, "start": place, "end": place}
        spans = pa.list_(pa.struct({**kinds, "score": pa.float64()}))
        confidence = [round(answer.confidence, 6) for answer in answers]
        return {
            "tags" if words else "entities": pa.array([answer.value for answer in answers], spans),
            "confidence": column(confidence, "float64"),
        }

    def score(self, outputs: np.ndarray, examples: Examples) -> dict[str, float]:
        """Entity F1 (`f1_micro`) or, for labels of single words, accuracy; `f1_macro`."""
        references = References.of(examples, entities=self.finds_entities(examples.labels))
        statistics = references.score([row.tags for row in self._tagged(outputs, examples)])
        figures = references.measure.total(statistics)
        return {name: value for name, value in figures.items() if ":" not in name}

    def evaluate(self, outputs: Mapping[str, Any], examples: Mapping[str, Examples]) -> TaskResult:
        test = examples["test"]
        if "tags" not in test.table.column_names:
            raise DataError(
                "the data have no column of tags or spans to compare with; name it with "
                "--data.columns.tags NAME or --data.columns.spans NAME"
            )
        references = References.of(test, entities=self.finds_entities(test.labels))
        answers = self._tagged(outputs["test"], test)
        statistics = references.score([answer.tags for answer in answers])
        wrong = list(wrong_spans(answers, references, test.table))
        counts = statistics.sum(0).reshape(3, -1).astype(int)
        facts: dict[str, Any] = {
            "words": sum(map(len, references.tags)),
            "wrong": sum(
                answer.tags != tags for answer, tags in zip(answers, references.tags, strict=True)
            ),
            "counts": {
                name: dict(zip(("right", "predicted", "actual"), numbers, strict=True))
                for name, numbers in zip(references.measure.labels, counts.T.tolist(), strict=True)
            },
        }
        if references.entities:
            kinds = Counter(mistake["note"] for mistake in wrong)
            facts["mistakes"] = {kind: kinds[kind] for kind in KINDS}
            facts["sections"] = [_table_of_kinds(facts["mistakes"], wrong)] if wrong else []
        return TaskResult(
            measure=references.measure,
            statistics=statistics,
            score=references.score,
            table=_table(references, answers, test.table),
            mistakes=sorted(wrong, key=lambda mistake: -mistake["confidence"])[:LISTED],
            baselines=("majority_tag", "dictionary_tags"),
            facts=facts,
            notes=_notes(references, test),
        )

    def finds_entities(self, tags: Sequence[str] | set[str]) -> bool:
        """Whether tags are those of entities, not labels of single words."""
        return self.entities == "auto" and are_entities(tags)

    def _tagged(self, outputs: np.ndarray, examples: Examples) -> list[Tagged]:
        entities = self.finds_entities(examples.labels)
        scheme = self.scheme if self.constrained else None
        return tagged(outputs, examples, entities=entities, scheme=scheme)


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """The true tags of some rows, and the measure that compares others with them."""

    tags: list[list[str]]
    entities: bool
    measure: Entities | WordLabels

    @classmethod
    def of(cls, examples: Examples, *, entities: bool) -> References:
        """Types that only the rows have, or only the model, count as well."""
        tags = reading.tags_in(examples.table)
        if not entities:
            known = {*examples.labels, *(tag for row in tags for tag in row)}
            return cls(tags, entities, WordLabels(sorted(known)))
        kinds = types_of([spans_of_tags(row) for row in [*tags, list(examples.labels)]])
        return cls(tags, entities, Entities(kinds))

    def score(self, tags: Sequence[Sequence[str]]) -> Floats:
        """Statistics of tags for the words of every row."""
        if isinstance(self.measure, WordLabels):
            return self.measure.rows(tags, self.tags)
        pairs = ([spans_of_tags(row) for row in rows] for rows in (tags, self.tags))
        return self.measure.rows(*pairs)


def wrong_spans(
    answers: Sequence[Tagged], references: References, table: pa.Table
) -> Iterator[dict[str, Any]]:
    """Each wrong entity, or word, as `TaskResult.mistakes` wants it, with the text around it."""
    places = table.select(["_file", "_line"]).rename_columns(["file", "line"]).to_pylist()
    rows = zip(places, table["text"].to_pylist(), reading.words_in(table), answers, references.tags,
               strict=True)  # fmt: skip
    for place, text, words, answer, tags in rows:
        for kind, predicted, true in _wrong(answer.tags, tags, references.entities):
            spans = [span for span in (predicted, true) if span]
            first, last = min(span[0] for span in spans), max(span[1] for span in spans)
            yield {
                **place,
                "text": _around(text, words[first][0], words[last - 1][1]),
                "label": _named(true, text, words, entities=references.entities),
                "prediction": _named(predicted, text, words, entities=references.entities),
                "confidence": float(answer.sure[first:last].mean()),
                "note": kind,
            }


def _wrong(
    predicted: Sequence[str], truth: Sequence[str], entities: bool
) -> Iterator[tuple[str, Span | None, Span | None]]:
    """(kind, predicted, true) of what was not the same; each entity, or word, once."""
    if not entities:
        for place, (tag, true) in enumerate(zip(predicted, truth, strict=True)):
            if tag != true:
                yield "wrong label", (place, place + 1, tag), (place, place + 1, true)
        return
    ours, true = spans_of_tags(predicted), spans_of_tags(truth)
    left = [span for span in true if span not in ours]
    for span in (span for span in ours if span not in true):
        same = [other for other in left if other[:2] == span[:2]]
        touching = same or [other for other in left if other[0] < span[1] and span[0] < other[1]]
        if not touching:
            yield "invented", span, None
            continue
        left.remove(touching[0])
        yield "wrong type" if same else "wrong borders", span, touching[0]
    for span in left:
        yield "missed", None, span


def _named(span: Span | None, text: str, words: Sequence[Place], *, entities: bool) -> str:
    if span is None:
        return NOTHING
    first, last, kind = span
    return f"{kind}: {text[words[first][0] : words[last - 1][1]]}" if entities else kind


def _around(text: str, start: int, end: int) -> str:
    """The text about a place, which stands in brackets."""
    low, high = max(0, start - AROUND), min(len(text), end + AROUND)
    before = ("…" if low else "") + text[low:start]
    return f"{before}[{text[start:end]}]{text[end:high]}" + ("…" if high < len(text) else "")


def _table_of_kinds(counts: dict[str, int], wrong: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many entities were wrong in which way, each with its surest example."""
    surest = {row["note"]: row for row in sorted(wrong, key=lambda row: row["confidence"])}
    rows = [
        [kind, count, surest[kind]["label"], surest[kind]["prediction"], surest[kind]["text"]]
        for kind, count in counts.items() if count
    ]  # fmt: skip
    return {
        "title": "Wrong entities",
        "lead": "Missed: in the data, and the model says nothing there. Invented: the other way "
        "round. Of each kind the one it was surest of.",
        "columns": ["kind", "entities", "in the data", "the model says", "where"],
        "rows": rows,
    }


def _notes(references: References, test: Examples) -> list[str]:
    """Types that the model could not answer."""
    true = {tag for row in references.tags for tag in row}
    if references.entities:
        known = {label.partition("-")[2] for label in test.labels}
        strange = sorted({tag.partition("-")[2] for tag in true} - known)
    else:
        strange = sorted(true - set(test.labels))
    if not strange:
        return []
    names = ", ".join(strange[:5])
    return [f"The model does not know {names}: what the test rows tag so counts as wrong."]


def _table(references: References, answers: Sequence[Tagged], table: pa.Table) -> pa.Table:
    columns: dict[str, Any] = {"text": table["text"]}
    truth = [Tagged(row, np.ones(len(row))) for row in references.tags]
    for name, tags in (("label", truth), ("prediction", answers)):
        decoded = predictions(tags, table, entities=references.entities)
        rows = [[{k: v for k, v in span.items() if k != "score"} for span in row.value]
                for row in decoded]  # fmt: skip
        columns[name] = column([json.dumps(row, ensure_ascii=False) for row in rows], "string")
        columns["confidence"] = column([row.confidence for row in decoded], "float64")
    right = [answer.tags == row for answer, row in zip(answers, references.tags, strict=True)]
    columns["confidence"] = columns.pop("confidence")  # behind the prediction
    return prediction_table(table, {**columns, "correct": column(right, "bool")})
