"""JSON: one object a line, one array of objects, or SQuAD's form; nested values are kept."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.readers.files import lines
from warmstart.data.tables import objects_to_table
from warmstart.errors import DataError, shown

# SQuAD's JSON: one object with articles, their paragraphs, and the questions on each of them.
#
# Rajpurkar et al. 2016 (version 1.1) and 2018 (2.0, with unanswerable questions). XQuAD, MLQA and
# many others come in the same form; so does `{"data": [row, row, …]}` with flat rows.

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


SPACE = re.compile(r"\s*")


def read_json(path: Path, encoding: str, limit: int | None) -> pa.Table:
    """The objects of the file as a table with `_line`. Raises DataError with file and line."""
    first = next((line for line in lines(path, encoding) if line.strip()), "")
    if not first:
        raise DataError(f"{path} is empty: it holds no rows; give another file")
    if first.lstrip()[0] == "{" and is_squad(_head(path, encoding)):
        return read_squad(path, "".join(lines(path, encoding)), limit)
    rows = _array(path, encoding) if first.lstrip()[0] == "[" else _by_line(path, encoding)
    return objects_to_table(str(path), islice(rows, limit))


def _head(path: Path, encoding: str) -> str:
    """The beginning of the text, by which its form is told."""
    found, length = list[str](), 0
    for line in lines(path, encoding):
        found.append(line[:HEAD])
        length += len(line)
        if length >= HEAD:
            break
    return "".join(found)[:HEAD]


def _by_line(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines(path, encoding), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise _invalid(path, number, error) from None
        yield number, _object(path, number, value)


def _array(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The elements of one array. The text is held in memory whole."""
    text = "".join(lines(path, encoding))
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    at = _next(text, text.index("[") + 1)
    line, counted = 1, 0
    if text[at : at + 1] == "]":
        _check_end(path, text, at + 1)
        return
    while True:
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise _invalid(path, getattr(error, "lineno", line), error) from None
        yield line, _object(path, line, value)
        at = _next(text, at)
        if text[at : at + 1] == "]":
            _check_end(path, text, at + 1)
            return
        if text[at : at + 1] != ",":
            error = json.JSONDecodeError("Expecting ',' or ']' after the element", text, at)
            raise _invalid(path, error.lineno, error)
        at = _next(text, at + 1)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object each key of which stands in it once. Raises `ValueError`."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"'{shown(counts.most_common(1)[0][0])}' has two values")
    return found


def _next(text: str, at: int) -> int:
    """Where the first character from `at` on stands that is no space."""
    found = SPACE.match(text, at)
    return found.end() if found else at


def _check_end(path: Path, text: str, at: int) -> None:
    """Raises DataError if anything follows the array, which would be lost."""
    at = _next(text, at)
    if at < len(text):
        line = 1 + text.count("\n", 0, at)
        raise DataError(
            f"{path}:{line}: text after the end of the array: '{shown(text[at : at + 60], 30)}'; "
            "put all rows into one array, or write one object a line without brackets"
        )


def _invalid(path: Path, line: int, error: Exception) -> DataError:
    if isinstance(error, json.JSONDecodeError):
        why = f"{error.msg}, character {error.colno}"
    else:
        why = "nested too deeply" if isinstance(error, RecursionError) else shown(error)
    return DataError(f"{path}:{line}: not valid JSON ({why}); mend or delete this line")


def _object(path: Path, line: int, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise DataError(
        f"{path}:{line}: {shown(value, 30)} is not a JSON object; each line must look like "
        '{"text": "...", "label": "..."}'
    )
