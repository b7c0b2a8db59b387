"""Tags on the test rows: by entity or by word, and what was wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.metrics.entities import Entities, Span, WordLabels, spans_of_tags, types_of
from warmstart.tasks.base import Examples
from warmstart.tasks.results import LISTED, TaskResult, column, prediction_table
from warmstart.tasks.tagging.decoding import Tagged, predictions
from warmstart.tasks.tagging.reading import Place, tags_in, words_in

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.metrics.base import Floats

AROUND = 80  # characters of the text shown on each side
KINDS = ("missed", "invented", "wrong type", "wrong borders")
NOTHING = "(none)"


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """The true tags of some rows, and the measure that compares others with them."""

    tags: list[list[str]]
    entities: bool
    measure: Entities | WordLabels

    @classmethod
    def of(cls, examples: Examples, *, entities: bool) -> References:
        """Types that only the rows have, or only the model, count as well."""
        tags = tags_in(examples.table)
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


def evaluate(references: References, answers: Sequence[Tagged], test: Examples) -> TaskResult:
    """See `Task.evaluate`."""
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


def wrong_spans(
    answers: Sequence[Tagged], references: References, table: pa.Table
) -> Iterator[dict[str, Any]]:
    """Each wrong entity, or word, as `TaskResult.mistakes` wants it, with the text around it."""
    places = table.select(["_file", "_line"]).rename_columns(["file", "line"]).to_pylist()
    rows = zip(places, table["text"].to_pylist(), words_in(table), answers, references.tags,
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
