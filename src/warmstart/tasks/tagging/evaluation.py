"""Tags on the test rows, judged: by entity or by word, beside baselines, with what was wrong."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warmstart.metrics.entities import Entities, Span, spans_of_tags, types_of
from warmstart.metrics.tokens import WordLabels
from warmstart.tasks.base import Examples, Result, Rival
from warmstart.tasks.tagging.reading import tags_in, words_in

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.metrics.base import Floats
    from warmstart.tasks.tagging.decoding import Tagged
    from warmstart.tasks.tagging.words import Place


# What was wrong: each entity that was missed, invented, of another type or with other borders.

AROUND = 80  # characters of the text shown on each side
KINDS = ("missed", "invented", "wrong type", "wrong borders")
NOTHING = "(none)"


def wrong_ones(
    answers: Sequence[Tagged], truth: Sequence[Sequence[str]], table: pa.Table, *, entities: bool
) -> Iterator[dict[str, Any]]:
    """Each wrong entity, or word, as `Result.mistakes` wants it, with the text around it."""
    texts, words = table["text"].to_pylist(), words_in(table)
    files, lines = table["_file"].to_pylist(), table["_line"].to_pylist()
    for row, (answer, tags) in enumerate(zip(answers, truth, strict=True)):
        if answer.tags == tags:
            continue
        pairs = _by_entity(answer.tags, tags) if entities else _by_word(answer.tags, tags)
        for kind, said, true in pairs:
            spans = [span for span in (said, true) if span]
            first, last = min(span[0] for span in spans), max(span[1] for span in spans)
            start, end = words[row][first][0], words[row][last - 1][1]
            yield {
                "file": files[row],
                "line": lines[row],
                "text": _around(texts[row], start, end),
                "label": _named(true, texts[row], words[row], entities=entities),
                "prediction": _named(said, texts[row], words[row], entities=entities),
                "confidence": float(answer.sure[first:last].mean()),
                "note": kind,
            }


def _by_word(
    said: Sequence[str], truth: Sequence[str]
) -> Iterator[tuple[str, Span | None, Span | None]]:
    for place, (one, other) in enumerate(zip(said, truth, strict=True)):
        if one != other:
            yield "wrong label", (place, place + 1, one), (place, place + 1, other)


def _by_entity(
    said: Sequence[str], truth: Sequence[str]
) -> Iterator[tuple[str, Span | None, Span | None]]:
    """(kind, said, true) of what was not the same; each entity is told of once."""
    ours, true = spans_of_tags(said), spans_of_tags(truth)
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


LIMIT = 200  # mistakes that are listed


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """The true tags of some rows, and the measure that compares others with them."""

    truth: list[list[str]]
    entities: bool
    measure: Entities | WordLabels

    @classmethod
    def of(cls, examples: Examples, *, entities: bool) -> Judge:
        """Types that only the rows have, or only the model, count as well."""
        truth = tags_in(examples.table)
        if not entities:
            known = {*examples.labels, *(tag for row in truth for tag in row)}
            return cls(truth, entities, WordLabels(sorted(known)))
        kinds = types_of([spans_of_tags(row) for row in [*truth, list(examples.labels)]])
        return cls(truth, entities, Entities(kinds))

    def rows(self, tags: Sequence[Sequence[str]]) -> Floats:
        """Statistics of tags for the words of every row."""
        if isinstance(self.measure, WordLabels):
            return self.measure.rows(tags, self.truth)
        pairs = ([spans_of_tags(row) for row in rows] for rows in (tags, self.truth))
        return self.measure.rows(*pairs)


def judged(
    judge: Judge, answers: Sequence[Tagged], test: Examples, train: Examples | None
) -> Result:
    """What is said of the answers; baselines learn from `train`, None: there are none."""
    rows = judge.rows([answer.tags for answer in answers])
    wrong = list(wrong_ones(answers, judge.truth, test.table, entities=judge.entities))
    facts: dict[str, Any] = {
        "words": sum(map(len, judge.truth)),
        "wrong": sum(one.tags != truth for one, truth in zip(answers, judge.truth, strict=True)),
        "counts": _counts(judge, rows),
    }
    if judge.entities:
        counts = Counter(one["note"] for one in wrong)
        facts["mistakes"] = {kind: counts[kind] for kind in KINDS}
        facts["sections"] = [_table_of_kinds(facts["mistakes"], wrong)] if wrong else []
    return Result(
        measure=judge.measure,
        rows=rows,
        rivals=[] if train is None else list(_rivals(judge, train, test)),
        table=_table(judge, answers, test.table),
        mistakes=sorted(wrong, key=lambda one: -one["confidence"])[:LIMIT],
        facts=facts,
        notes=_notes(judge, test),
    )


def _counts(judge: Judge, rows: Floats) -> dict[str, dict[str, int]]:
    """Of each type, or label of single words: right, predicted by the model, actual in the data."""
    measure = judge.measure
    names = measure.types if isinstance(measure, Entities) else measure.labels
    counts = rows.sum(0).reshape(3, -1).astype(int)
    keys = ("right", "predicted", "actual")
    return {
        name: dict(zip(keys, counts[:, place].tolist(), strict=True))
        for place, name in enumerate(names)
    }


def _table_of_kinds(counts: dict[str, int], wrong: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many entities were wrong in which way, each with its surest example."""
    surest = {one["note"]: one for one in sorted(wrong, key=lambda one: one["confidence"])}
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


def _notes(judge: Judge, test: Examples) -> list[str]:
    """Types that the model could not answer."""
    true = {tag for row in judge.truth for tag in row}
    if judge.entities:
        known = {label.partition("-")[2] for label in test.labels}
        strange = sorted({tag.partition("-")[2] for tag in true} - known)
    else:
        strange = sorted(true - set(test.labels))
    if not strange:
        return []
    names = ", ".join(strange[:5])
    return [f"The model does not know {names}: what the test rows tag so counts as wrong."]


def _rivals(judge: Judge, train: Examples, test: Examples) -> Iterator[Rival]:
    """Nothing but the commonest tag; and of each word the tag that it had most often in train."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for word, tag in _tagged_words(train.table):
        seen[word][tag] += 1
    usual = sum(seen.values(), Counter[str]()).most_common(1)[0][0]
    usual = "O" if judge.entities else usual
    best = {word: counts.most_common(1)[0][0] for word, counts in seen.items()}
    texts, words = test.table["text"].to_pylist(), words_in(test.table)
    plain = [[usual] * len(row) for row in words]
    looked = [
        [best.get(text[a:b], usual) for a, b in row]
        for text, row in zip(texts, words, strict=True)
    ]  # fmt: skip
    title = "no entity anywhere" if judge.entities else f"always {usual}"
    yield Rival("majority", title, judge.rows(plain))
    yield Rival("dictionary", "each known word's usual tag", judge.rows(looked))


def _tagged_words(table: pa.Table) -> Iterator[tuple[str, str]]:
    rows = zip(table["text"].to_pylist(), words_in(table), tags_in(table), strict=True)
    for text, words, tags in rows:
        for (start, end), tag in zip(words, tags, strict=True):
            yield text[start:end], tag


def _table(judge: Judge, answers: Sequence[Tagged], table: pa.Table) -> pa.Table:
    import pyarrow as pa

    from warmstart.tasks.tagging.decoding import Tagged, predictions

    def said(tags: Sequence[Tagged]) -> list[str]:
        found = predictions(tags, table, entities=judge.entities)
        kept = [[{k: v for k, v in one.items() if k != "score"} for one in row.value]
                for row in found]  # fmt: skip
        return [json.dumps(row, ensure_ascii=False) for row in kept]

    import numpy as np

    truth = [Tagged(row, np.ones(len(row))) for row in judge.truth]
    sure = [prediction.confidence for prediction in
            predictions(answers, table, entities=judge.entities)]  # fmt: skip
    right = [answer.tags == row for answer, row in zip(answers, judge.truth, strict=True)]
    return pa.table(
        {
            "id": pa.array([str(row) for row in range(len(table))]),
            "file": table["_file"],
            "line": table["_line"],
            "text": table["text"],
            "label": pa.array(said(truth), pa.string()),
            "prediction": pa.array(said(answers), pa.string()),
            "confidence": pa.array(sure, pa.float64()),
            "correct": pa.array(right, pa.bool_()),
        }
    )
