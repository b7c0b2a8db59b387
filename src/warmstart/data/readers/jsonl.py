"""JSON: one object a line, one array of objects, or SQuAD's form; nested values are kept."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from warmstart.data.ledger import BadRow, Ledger
from warmstart.data.readers.exports import spacy_row
from warmstart.data.readers.files import NOT_TEXT, lines, why_not_text
from warmstart.data.settings import Reading
from warmstart.data.tables import Record, objects_to_table
from warmstart.errors import DataError, shown

T = TypeVar("T")
HEAD = 8192  # characters by which SQuAD's form is recognised
DATA = re.compile(r'"data"\s*:\s*\[\s*\{')
TEXT = re.compile(r'"(?:\\.|[^"\\\n])*"')
TOKENS = re.compile(rf"{TEXT.pattern}|[\[\]{{}}]")
"""Texts and brackets of JSON."""
BETWEEN = re.compile(r"\}\s*,\s*\{")
SPACE = re.compile(r"\s*")
QUESTIONS = re.compile(r'"(paragraphs|qas|question)"\s*:')
REMEDY = 'a question is {"question": "…", "answers": [{"text": "…", "answer_start": 0}]}'


def read_json(path: Path, encoding: str, how: Reading, ledger: Ledger) -> pa.Table:
    """The objects of the file as a table with `_line`. Raises DataError with file and line; where
    `how.bad_rows` is "skip", lines that are no objects go to the ledger.

    SQuAD 1.1 (Rajpurkar et al. 2016), 2.0 (2018, with unanswerable questions), XQuAD, MLQA and
    many others are articles, their paragraphs, and the questions on each of them; so is `{"data":
    [row, row, …]}` with flat rows. Of these the columns are id, title, context, question, answers
    {text: […], answer_start: […]}, is_impossible, those that no question has left out, and other
    keys of flat rows; `_line` counts the questions from 1.
    """
    lenient, bad = how.bad_rows == "skip", list[BadRow]()
    whole = partial(lines, path, encoding, lenient=lenient)
    first = next((line for line in whole() if line.strip()), "").lstrip()
    if not first:
        raise DataError(f"{path} is empty: it holds no rows; give another file")
    rows = (
        _array(path, encoding, how, bad) if first[0] == "[" else _by_line(path, encoding, how, bad)
    )
    head = ""  # of a file that is one long line no more is kept
    for line in whole():
        head += line[: HEAD - len(head)]
        if len(head) >= HEAD:
            break
    if first[0] == "{" and DATA.search(head) and QUESTIONS.search(head):
        try:
            content = json.loads("".join(lines(path, encoding)))
        except (ValueError, RecursionError) as error:
            where = f"{path}:{getattr(error, 'lineno', 1)}"
            raise DataError(f"{where}: not valid JSON ({shown(error)}); mend the file") from None
        rows = enumerate(_rows(str(path), content), 1)
    rows = questions_apart(str(path), iter(rows))
    table = objects_to_table(str(path), islice(rows, how.limit))
    ledger.bad(str(path), bad)
    return table


def questions_apart(file: str, rows: Iterator[tuple[int, Record]]) -> Iterator[tuple[int, Record]]:
    """A row for each question of rows that are articles of SQuAD or, as of simpletransformers,
    their paragraphs: {"context": …, "qas": […]}."""
    for line, row in rows:
        if isinstance(row.get("qas"), list) and "context" in row:
            yield from ((line, question) for question in _questions(file, f"row {line}", row, {}))
        elif isinstance(pairs := row.get("annotations"), list) and any(map(spacy_row, pairs)):
            made = (spacy_row(pair) for pair in pairs)  # {"classes": […], "annotations": [pair, …]}
            yield from ((line, own) for own in made if own is not None)
        elif isinstance(row.get("paragraphs"), list):
            yield from ((line, question) for question in _rows(file, {"data": [row]}))
        else:
            yield line, row


def _rows(file: str, content: Mapping[str, Any]) -> Iterator[Record]:
    for number, article in enumerate(_value(file, "the file", content, "data", list)):
        place = f"data[{number}]"
        if not isinstance(article, dict) or "paragraphs" not in article:
            if not isinstance(article, dict) or "question" not in article:
                raise _wrong(file, place, "has neither 'paragraphs' nor a 'question'")
            yield article
            continue
        title = {"title": str(article["title"])} if article.get("title") else {}
        for index, paragraph in enumerate(_value(file, place, article, "paragraphs", list)):
            yield from _questions(file, f"{place}.paragraphs[{index}]", paragraph, title)


def _questions(file: str, place: str, paragraph: Any, title: dict[str, str]) -> Iterator[Record]:
    questions = _value(file, place, paragraph, "qas", list)
    context = _value(file, place, paragraph, "context", str)
    for index, entry in enumerate(questions):
        here = f"{place}.qas[{index}]"
        question = _value(file, here, entry, "question", str)
        row: Record = {**title, "context": context, "question": question}
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
        texts.append(_value(file, here, answer, "text", str))
        start = answer.get("answer_start")
        if not isinstance(start, int):
            raise _wrong(file, here, "has no whole number as 'answer_start'")
        starts.append(start)
    return {"text": texts, "answer_start": starts}


def _value(file: str, place: str, inside: Any, key: str, kind: type[T]) -> T:
    """What stands under the key of an object: a list or a text."""
    value = inside.get(key) if isinstance(inside, dict) else None
    if not isinstance(value, kind):
        raise _wrong(file, place, f"has no {'list' if kind is list else 'text'} '{key}'")
    return value


def _wrong(file: str, place: str, what: str) -> DataError:
    return DataError(f"{file}: {place} {what}; in SQuAD's form {REMEDY}")


def _by_line(
    path: Path, encoding: str, how: Reading, bad: list[BadRow]
) -> Iterator[tuple[int, Record]]:
    lenient = how.bad_rows == "skip"
    for number, line in enumerate(lines(path, encoding, lenient=lenient), 1):
        if not line.strip():
            continue
        if lenient and NOT_TEXT.search(line):
            bad.append((number, why_not_text(line, encoding), ""))
            continue
        try:
            value = json.loads(line, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            if not lenient:
                raise _invalid(path, number, error) from None
            bad.append((number, "not valid JSON", _why(error)))
            continue
        if isinstance(value, dict) or not lenient or spacy_row(value) is not None:
            yield number, _object(path, number, value)
        else:
            bad.append((number, "not a JSON object", shown(value, 30)))


def _array(
    path: Path, encoding: str, how: Reading, bad: list[BadRow]
) -> Iterator[tuple[int, Record]]:
    """The elements of one array. The text is held in memory whole."""
    lenient = how.bad_rows == "skip"
    text = "".join(lines(path, encoding, lenient=lenient))
    decoder = json.JSONDecoder(object_pairs_hook=_unique_keys)
    at = _next(text, text.index("[") + 1)
    line, counted = 1, 0
    ended = text[at : at + 1] == "]"
    while not ended and not (lenient and at >= len(text)):
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            where = getattr(error, "lineno", line)
            end = _end(text, at) if lenient else 0
            if not end:
                raise _invalid(path, where, error) from None
            bad.append((where, "not valid JSON", _why(error)))
        else:
            if lenient and NOT_TEXT.search(text, at, end):
                bad.append((line, why_not_text(text[at:end], encoding), ""))
            elif lenient and not (isinstance(value, dict) or spacy_row(value) is not None):
                bad.append((line, "not a JSON object", shown(value, 30)))
            else:
                yield line, _object(path, line, value)
        at = _next(text, end)
        ended = text[at : at + 1] == "]"
        if (
            not ended
            and text[at : at + 1] != ","
            and not (lenient and text[at : at + 1] in ("", "{"))
        ):
            error = json.JSONDecodeError("Expecting ',' or ']' after the element", text, at)
            raise _invalid(path, error.lineno, error)
        at = _next(text, at + (text[at : at + 1] == ","))
    at = _next(text, at + 1)
    if at < len(text):  # which would be lost
        line = 1 + text.count("\n", 0, at)
        raise DataError(
            f"{path}:{line}: text after the end of the array: '{shown(text[at : at + 60], 30)}'; "
            "put all rows into one array, or write one object a line without brackets"
        )


def _end(text: str, start: int) -> int:
    """Where a broken element of an array ends: at the bracket that closes it, else before the next
    line that begins as an element does, or where the file is cut off; 0 where nothing says so."""
    depth = 0
    for match in TOKENS.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(match[0], 0)
        if not depth and match[0] in "}]":
            behind, inside = _next(text, match.end()), text[start : match.end()]
            open_quote = len(BETWEEN.findall(inside)) > len(BETWEEN.findall(TEXT.sub("", inside)))
            if text[behind : behind + 1] in (",", "]") and not open_quote:
                return match.end()
            break
    begun = text.rfind("\n", 0, start) + 1
    again = re.compile(r",?\s*\n" + re.escape(text[begun:start].replace("[", "")) + r"(?=\{)")
    if match := again.search(text, start):
        return match.start()
    cut_off = text.rstrip()[-1] != "]" and not BETWEEN.search(text, start)
    return len(text) if cut_off else 0


def _unique_keys(pairs: list[tuple[str, Any]]) -> Record:
    """An object each key of which stands in it once. Raises `ValueError`."""
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"'{shown(counts.most_common(1)[0][0])}' has two values")
    return value


def _next(text: str, at: int) -> int:
    """Where the first character from `at` on stands that is no space."""
    match = SPACE.match(text, at)
    return match.end() if match else at


def _invalid(path: Path, line: int, error: Exception) -> DataError:
    return DataError(
        f"{path}:{line}: not valid JSON ({_why(error)}); mend or delete this line, or leave such "
        "rows out with --data.bad_rows skip"
    )


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, character {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else shown(error)


def _object(path: Path, line: int, value: Any) -> Record:
    if isinstance(value, dict):
        return value
    if (row := spacy_row(value)) is not None:
        return row
    raise DataError(
        f"{path}:{line}: {shown(value, 30)} is not a JSON object; each line must look like "
        '{"text": "...", "label": "..."}'
    )
