"""SQuAD's JSON: one object with articles, their paragraphs, and the questions on each of them.

Rajpurkar et al. 2016 (version 1.1) and 2018 (2.0, with unanswerable questions). XQuAD, MLQA and
many others come in the same form; so does `{"data": [row, row, …]}` with flat rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.build import objects_to_table
from warmstart.errors import DataError, shown

HEAD = 8192  # characters that tell the form
DATA = re.compile(r'"data"\s*:\s*\[\s*\{')
QUESTIONS = re.compile(r'"(paragraphs|qas|question)"\s*:')
REMEDY = 'a question is {"question": "…", "answers": [{"text": "…", "answer_start": 0}]}'


def is_squad(head: str) -> bool:
    """Whether a file that begins so (`HEAD` characters) is of this form."""
    return head.lstrip()[:1] == "{" and bool(DATA.search(head) and QUESTIONS.search(head))


def read_squad(path: Path, text: str, limit: int | None) -> pa.Table:
    """The questions as a table: id, title, context, question, answers {text: […], answer_start:
    […]}, is_impossible, and `_line`, which counts the questions from 1.

    Columns that no question has are left out, and other keys of a question are kept. Raises
    `DataError` with the place in the file.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise DataError(f"{path}:{line}: not valid JSON ({shown(error)}); mend the file") from None
    rows = islice(_rows(str(path), found), limit)
    return objects_to_table(str(path), enumerate(rows, 1))


def _rows(file: str, found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for number, article in enumerate(_list(file, "", found, "data")):
        place = f"data[{number}]"
        if not isinstance(article, dict) or "paragraphs" not in article:
            yield _flat(file, place, article)
            continue
        title = {"title": str(article["title"])} if article.get("title") else {}
        for index, paragraph in enumerate(_list(file, place, article, "paragraphs")):
            yield from _questions(file, f"{place}.paragraphs[{index}]", paragraph, title)


def _questions(
    file: str, place: str, paragraph: Any, title: dict[str, str]
) -> Iterator[dict[str, Any]]:
    questions = _list(file, place, paragraph, "qas")
    context = _text(file, place, paragraph, "context")
    for index, entry in enumerate(questions):
        here = f"{place}.qas[{index}]"
        question = _text(file, here, entry, "question")
        row: dict[str, Any] = {**title, "context": context, "question": question}
        row |= {"id": str(entry["id"])} if entry.get("id") is not None else {}
        if "answers" in entry:
            row["answers"] = _answers(file, here, entry["answers"])
        if "is_impossible" in entry:
            row["is_impossible"] = bool(entry["is_impossible"])
        yield row


def _answers(file: str, place: str, answers: Any) -> dict[str, list[Any]]:
    """[{text, answer_start}] as two lists."""
    if not isinstance(answers, list):
        raise _wrong(file, f"{place}.answers", "is no list")
    texts: list[str] = []
    starts: list[int] = []
    for index, answer in enumerate(answers):
        here = f"{place}.answers[{index}]"
        texts.append(_text(file, here, answer, "text"))
        start = answer.get("answer_start")
        if not isinstance(start, int):
            raise _wrong(file, here, "has no whole number as 'answer_start'")
        starts.append(start)
    return {"text": texts, "answer_start": starts}


def _flat(file: str, place: str, row: Any) -> dict[str, Any]:
    if isinstance(row, dict) and "question" in row:
        return row
    raise _wrong(file, place, "has neither 'paragraphs' nor a 'question'")


def _list(file: str, place: str, inside: Any, key: str) -> list[Any]:
    found = inside.get(key) if isinstance(inside, dict) else None
    if not isinstance(found, list):
        raise _wrong(file, place or "the file", f"has no list '{key}'")
    return found


def _text(file: str, place: str, inside: Any, key: str) -> str:
    found = inside.get(key) if isinstance(inside, dict) else None
    if not isinstance(found, str):
        raise _wrong(file, place, f"has no text '{key}'")
    return found


def _wrong(file: str, place: str, what: str) -> DataError:
    return DataError(f"{file}: {place} {what}; in SQuAD's form {REMEDY}")
