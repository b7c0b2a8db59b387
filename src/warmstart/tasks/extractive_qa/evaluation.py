"""Answers on the test rows, as a table, and the mistakes among them, marked in their passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.metrics.squad import Answers
from warmstart.tasks.base import Examples
from warmstart.tasks.extractive_qa.answers import read, texts_of
from warmstart.tasks.results import TaskResult, column, list_mistakes, prediction_table

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.metrics.base import Floats
    from warmstart.types import Prediction

AROUND = 300  # characters of the context shown on each side
NOTHING = "(no answer)"


def evaluate(
    answers: Sequence[Prediction], test: Examples, train: Examples | None, facts: Mapping[str, Any]
) -> TaskResult:
    """See `Task.evaluate`. Questions on one passage belong together."""
    references = texts_of(test.table["answers"])
    measure = Answers(unanswerable=not all(references) and any(references))
    statistics = measure.rows([answer.value for answer in answers], references)
    contexts = test.table["context"].to_pylist()
    numbers = {context: number for number, context in enumerate(dict.fromkeys(contexts))}
    table = prediction_table(
        test.table,
        {
            **{name: test.table[name] for name in ("question", "context", "answers")},
            "prediction": column([answer.value for answer in answers], "string"),
            "start": column([getattr(answer, "start", None) for answer in answers], "int64"),
            "confidence": column([answer.confidence for answer in answers], "float64"),
            "exact_match": statistics[:, 1],
            "f1": statistics[:, 2],
        },
    )
    if "id" in test.table.column_names:
        table = table.set_column(0, "id", test.table["id"])
    known = texts_of(train.table["answers"]) if train is not None else []
    baselines = ("question_sentence", "question_window")
    if not all(references) or not all(known):
        baselines = ("no_answer", *baselines)
    return TaskResult(
        measure=measure,
        statistics=statistics,
        score=lambda texts: measure.rows(texts, references),
        table=table,
        mistakes=_mistakes(table, answers, test.table, statistics),
        baselines=baselines,
        groups=np.array([numbers[context] for context in contexts], np.int64),
        facts=facts,
    )


def _mistakes(
    predictions: pa.Table, answers: Sequence[Prediction], table: pa.Table, statistics: Floats
) -> list[dict[str, Any]]:
    """Answers that are not exact, those first that were surest and farthest off; each with its
    passage, the true answer and the predicted one marked."""
    sure = np.array([answer.confidence for answer in answers])
    wrong = np.flatnonzero(statistics[:, 1] < 1)
    order = wrong[np.argsort(-(sure * (1 - statistics[:, 2]))[wrong], kind="stable")]

    def describe(row: int) -> dict[str, Any]:
        answer, (spans,) = answers[row], read(table["answers"].slice(row, 1))
        return {
            "text": table["question"][row].as_py(),
            "label": " / ".join(dict.fromkeys(span["text"] for span in spans)) or NOTHING,
            "prediction": answer.value or NOTHING,
            "confidence": answer.confidence,
            "note": f"F1 {statistics[row, 2]:.2f}",
            "context": marked(table["context"][row].as_py(), spans, answer),
        }

    return list_mistakes(predictions, order, describe)


def marked(context: str, spans: Sequence[Mapping[str, Any]], answer: Any) -> str:
    """The part of the context about both answers: [true: …] and [said: …]."""
    places = [("true", s["start"], s["start"] + len(s["text"])) for s in spans[:1]]
    if getattr(answer, "start", None) is not None:
        places.append(("said", answer.start, answer.end))
    if not places:
        return context[: 2 * AROUND] + ("…" if len(context) > 2 * AROUND else "")
    inserts = [(at, 1, f"[{name}: ", -end) for name, at, end in places]
    inserts += [(end, 0, "]", -at) for _, at, end in places]
    low, high = min(place[1] for place in places), max(place[2] for place in places)
    begin, end = max(0, low - AROUND), min(len(context), high + AROUND)
    parts, done = ["…" if begin else ""], begin
    for at, _, mark, _ in sorted(inserts, key=lambda mark: (mark[0], mark[1], mark[3])):
        parts += [context[done:at], mark]
        done = at
    return "".join([*parts, context[done:end], "…" if end < len(context) else ""])
