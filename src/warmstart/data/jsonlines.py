"""JSON: one object a line, one array of objects, or SQuAD's form; nested values are kept."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.build import objects_to_table
from warmstart.data.files import lines
from warmstart.data.squad import HEAD, is_squad, read_squad
from warmstart.errors import DataError, shown

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
