"""The answers that people gave to a question, however a file writes them, found in the context."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.data.cells import parse_cell
from warmstart.formatting import counted
from warmstart.tasks.base import Drop
from warmstart.tasks.results import column

if TYPE_CHECKING:
    import pyarrow as pa

TRUE = ("true", "1", "yes")
ABSENT = "no answer given; a question without one has an empty list, an empty text or is_impossible"
NOWHERE = "the answer does not stand in the context"
ELSEWHERE = "the answer does not stand at answer_start, and more than once in the context"
UNEQUAL = "answers and answer_start are not equally many"
ANSWER_COLUMNS = ("answers", "answer_text", "is_impossible")


def own_form(table: pa.Table, drop: Drop) -> pa.Table:
    """Question and context, and `answers` as JSON where the table has any: a list of {"text",
    "start"}, empty for a question without answer.

    "was" keeps a wrong position that was mended, null where there was none and the text occurs
    more than once. Rows whose answers cannot be used are dropped with the reason.
    """
    names = ("id", "question", "context", "answers", "_group", "_file", "_line")
    kept, written = np.ones(len(table), bool), list[str]()
    if any(name in table.column_names for name in ANSWER_COLUMNS):
        for row, (context, references) in enumerate(_references(table)):
            spans = references if isinstance(references, str) else located(context, references)
            if isinstance(spans, str):
                kept[row] = False
                drop(row, spans)
            written.append("" if isinstance(spans, str) else json.dumps(spans, ensure_ascii=False))
        table = table.drop_columns([n for n in ("answers",) if n in table.column_names])
        table = table.append_column("answers", column(written, "string"))
    table = table.select([name for name in names if name in table.column_names])
    return table if kept.all() else table.filter(kept)


def read(answers: pa.ChunkedArray) -> list[list[dict[str, Any]]]:
    """The column `answers` of the own form."""
    return [json.loads(entry) for entry in answers.to_pylist()]


def texts_of(answers: pa.ChunkedArray) -> list[list[str]]:
    """The right answers to each question, none for one without answer."""
    return [[span["text"] for span in spans] for spans in read(answers)]


def mended(answers: pa.ChunkedArray) -> tuple[int, int]:
    """How many questions had a wrong position that was mended, and how many none, of several."""
    kinds = [{span["was"] is None for span in spans if "was" in span} for spans in read(answers)]
    return sum(False in row for row in kinds), sum(True in row for row in kinds)


def data_notes(answers: pa.ChunkedArray) -> list[str]:
    """What is worth knowing of the column `answers`, in words."""
    wrong, several = mended(answers)
    notes: list[str] = []
    if wrong:
        notes.append(
            f"{counted(wrong, 'answer')} not at the answer_start given, but just once elsewhere in "
            "the context: mended"
        )
    if several:
        notes.append(
            f"{counted(several, 'answer')} without an answer_start, more than once in the context: "
            "the first place is taken"
        )
    return notes


def located(
    context: str, references: Sequence[tuple[str, int | None]]
) -> list[dict[str, Any]] | str:
    """The references that stand in the context, each with its position; or why there is none."""
    if not references:
        return []
    spans: list[dict[str, Any]] = []
    reason = NOWHERE
    for text, start in references:
        if start is not None and start >= 0 and context.startswith(text, start):
            spans.append({"text": text, "start": start})
            continue
        times = context.count(text)
        if times == 1 or (times and start is None):
            place: dict[str, Any] = {"text": text, "start": context.find(text)}
            spans.append(place | ({} if times == 1 and start is None else {"was": start}))
        elif times:
            reason = ELSEWHERE
    return spans or reason


def _references(table: pa.Table) -> Iterator[tuple[str, list[tuple[str, int | None]] | str]]:
    """Context and references of each row; or a reason in their place."""
    names = ("context", *ANSWER_COLUMNS, "answer_start")
    nothing = [None] * len(table)
    parts = [table[name].to_pylist() if name in table.column_names else nothing for name in names]
    for context, answers, text, impossible, start in zip(*parts, strict=True):
        if impossible is not None and str(impossible).strip().lower() in TRUE:
            yield context or "", []
        elif context is None:
            yield "", []
        else:
            yield context, _pairs(text if answers is None else answers, start)


def _pairs(answers: Any, start: Any) -> list[tuple[str, int | None]] | str:
    """[(text, position or None)] of one row; a reason where that cannot be told."""
    answers, start = parse_cell(answers), parse_cell(start)
    if answers is None:
        return ABSENT
    if isinstance(answers, Mapping):
        start = parse_cell(answers.get("answer_start", answers.get("start")))
        answers = parse_cell(answers.get("text"))
    entries = [] if answers is None else answers if isinstance(answers, list) else [answers]
    if any(isinstance(entry, Mapping) for entry in entries):
        start = [entry.get("answer_start", entry.get("start")) for entry in entries]
        entries = [entry.get("text") for entry in entries]
    starts = start if isinstance(start, list) else [start] * len(entries)
    starts = starts or [None] * len(entries)
    if len(starts) != len(entries):
        return UNEQUAL
    pairs = zip(entries, starts, strict=True)
    return [(str(text), _number(at)) for text, at in pairs if text is not None and str(text) != ""]


def _number(value: Any) -> int | None:
    """A position; None where there is none, and -1, which is wrong anywhere, for no number."""
    if value is None or str(value).strip().lower() in ("", "nan"):
        return None
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return -1
