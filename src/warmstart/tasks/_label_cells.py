"""Any number of labels in a cell: a list, JSON, a text with a separator, or columns of 0 and 1."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from warmstart.data.ledger import place
from warmstart.errors import DataError, shown

if TYPE_CHECKING:
    import pyarrow as pa

SEPARATORS = (",", ";", "|")
COLUMN = "label: "
"""Before the name of a column of 0 and 1, so that it can be called as anything."""
YES, NO = ("1", "true", "yes"), ("0", "false", "no", "")


def labels_of(table: pa.Table, columns: Sequence[str], separator: str | None) -> list[str] | None:
    """The labels of each row as a JSON list of strings, or None where the table has no labels.

    Args:
        columns: those of 0 and 1, in the table under `COLUMN` and their name.
        separator: between the labels of a text; None: found, "" if there is none.

    Raises `DataError` with file and line.
    """
    if columns:
        if COLUMN + columns[0] not in table.column_names:
            return None
        return _from_flags(table, columns)
    if "labels" not in table.column_names:
        return None
    cells = table["labels"].to_pylist()
    if separator is None:
        separator = found_separator(cell for cell in cells if isinstance(cell, str))
    found: list[str] = []
    for row, cell in enumerate(cells):
        try:
            labels = parsed(cell, separator)
        except ValueError as error:
            raise DataError(f"{place(table, row)}: {error}") from None
        found.append(json.dumps(labels, ensure_ascii=False))
    return found


def parsed(cell: Any, separator: str) -> list[str]:
    """The labels of one cell, each once, in order. Raises `ValueError`."""
    if cell is None:
        return []
    if isinstance(cell, str):
        text = cell.strip()
        listed = _list(text) if text[:1] == "[" else None
        pieces = text.split(separator) if separator else [text]
        values: Iterable[Any] = pieces if listed is None else listed
    elif isinstance(cell, Mapping):
        raise ValueError(f"labels {shown(cell, 60)} is an object; give a list of labels")
    else:
        values = cell if isinstance(cell, list) else [cell]
    names: dict[str, None] = {}
    for value in values:
        if isinstance(value, list | Mapping):
            raise ValueError(f"the label {shown(value, 60)} is no name; give a list of names")
        name = "" if value is None else str(value).strip()
        if name:
            names[name] = None
    return list(names)


def found_separator(cells: Iterable[str]) -> str:
    """What stands between the labels of texts: of those that occur the one that leaves the fewest
    different labels, for a wrong one leaves labels glued together; "" where none occurs."""
    texts = {cell.strip() for cell in cells if cell.strip()[:1] != "["}
    best: tuple[int, int, str] | None = None
    for mark in SEPARATORS:
        used = sum(mark in text for text in texts)
        if used:
            distinct = {piece.strip() for text in texts for piece in text.split(mark)} - {""}
            best = min(best or (len(distinct), -used, mark), (len(distinct), -used, mark))
    return "" if best is None else best[2]


def separator_for(labels: Sequence[str]) -> str:
    """What can stand between these labels so that they can be told apart again."""
    free = [mark for mark in SEPARATORS if not any(mark in label for label in labels)]
    return free[0] if free else "\t"


def _list(text: str) -> list[Any]:
    """A list as JSON or as Python prints it."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list):
            return found
    raise ValueError(f"the labels {shown(text, 60)} begin as a list and are none; mend the row")


def _from_flags(table: pa.Table, columns: Sequence[str]) -> list[str]:
    rows: list[list[str]] = [[] for _ in range(len(table))]
    for column in columns:
        for row, value in enumerate(table[COLUMN + column].to_pylist()):
            word = ("" if value is None else str(value)).strip().lower()
            if word in YES:
                rows[row].append(column)
            elif word not in NO:
                raise DataError(
                    f"{place(table, row)}: column '{shown(column)}' holds '{shown(value)}', and a "
                    "label that is a column is 0 or 1 in each row; mend it, or leave the column "
                    "out of task.label_columns"
                )
    return [json.dumps(row, ensure_ascii=False) for row in rows]
