"""JSON: one object a line, one array of objects, or SQuAD's form; nested values are kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.build import objects_to_table
from warmstart.data.files import lines
from warmstart.data.squad import HEAD, is_squad, read_squad
from warmstart.errors import DataError, shown

SPACE = re.compile(r"[\s,]*")


def read_json(path: Path, encoding: str, limit: int | None) -> pa.Table:
    """The objects of the file as a table with `_line`. Raises DataError with file and line."""
    first = next((line for line in lines(path, encoding) if line.strip()), "")
    if not first:
        raise DataError(f"{path} is empty: nothing to learn from")
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
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _invalid(path, number, error) from None
        yield number, _object(path, number, value)


def _array(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The elements of one array. The text is held in memory whole."""
    text = "".join(lines(path, encoding))
    decoder = json.JSONDecoder()
    at, line = text.index("[") + 1, 1 + text.count("\n", 0, text.index("["))
    while True:
        after = SPACE.match(text, at)
        end = after.end() if after else at
        line += text.count("\n", at, end)
        if text[end : end + 1] == "]":
            return
        try:
            value, at = decoder.raw_decode(text, end)
        except (ValueError, RecursionError) as error:
            raise _invalid(path, getattr(error, "lineno", line), error) from None
        yield line, _object(path, line, value)
        line += text.count("\n", end, at)


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
