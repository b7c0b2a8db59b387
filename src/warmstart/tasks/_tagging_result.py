"""Tags on the test rows, judged: by entity or by word, beside baselines, with what was wrong."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warmstart.scores.spans import Entities, spans_of_tags, types_of
from warmstart.scores.words import WordLabels
from warmstart.tasks._tagged import tags_in, words_in
from warmstart.tasks._tagging_mistakes import KINDS, wrong_ones
from warmstart.tasks.base import Examples, Result, Rival

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.scores.measure import Floats
    from warmstart.tasks._tagging_answers import Tagged

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

    from warmstart.tasks._tagging_answers import Tagged, predictions

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
