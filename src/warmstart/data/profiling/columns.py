"""What the data are, before anything is trained: files, splits, columns, classes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.columns import OURS, map_roles
from warmstart.data.ledger import Ledger
from warmstart.data.readers.csv import NO_DELIMITER, detect_delimiter
from warmstart.data.readers.files import format_of
from warmstart.data.readers.python import kind_name
from warmstart.data.readers.read import read
from warmstart.data.readers.splits import gather
from warmstart.data.settings import Data
from warmstart.data.tables import pc
from warmstart.errors import DataError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", NO_DELIMITER: "none"}
GROUP_NAMES = {
    *("author", "author_id", "user", "user_id", "username", "speaker", "speaker_id", "customer"),
    *("customer_id", "patient", "patient_id", "thread", "thread_id", "conversation"),
    *("conversation_id", "dialogue_id", "document", "document_id", "doc_id", "doc", "article_id"),
    *("session", "session_id", "group", "group_id", "template", "topic_id", "video_id", "book"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Everything that was read.

    `whole`: split → all columns with `_file` and `_line`. `parts`: split → the role columns, row
    for row the same. `origins`: split → the path or object. `roles`: role → its column.
    """

    whole: dict[str, pa.Table]
    parts: dict[str, pa.Table]
    origins: dict[str, Any]
    roles: dict[str, str]
    ledger: Ledger


def read_all(
    settings: Data,
    roles: Mapping[str, Sequence[str]],
    required: Collection[str],
    ledger: Ledger,
    source: Any = None,
) -> Source:
    """Read every split with all of its columns; nothing is dropped. Raises `DataError`.

    A role that is not in `required` may be absent, but then it must be absent from every split.
    """
    whole: dict[str, pa.Table] = {}
    parts: dict[str, pa.Table] = {}
    origins = gather(settings, source, ledger)
    for name, origin in origins.items():
        is_path = isinstance(origin, str | Path)
        whole[name] = read(
            origin,
            delimiter=settings.delimiter,
            encoding=settings.encoding,
            limit=settings.limit,
            ledger=ledger,
            name=None if is_path else f"{kind_name(origin)}[{name}]",
        )
        parts[name] = map_roles(whole[name], roles, settings.columns, required)
    found = [set(table.column_names) for table in parts.values()]
    for role in sorted(set.union(*found) - set.intersection(*found)):
        lacking = next(name for name, table in parts.items() if role not in table.column_names)
        raise DataError(
            f"{lacking} has no {role} column and another split has one; name it in all of them "
            f"alike, or with --data.columns.{role} NAME"
        )
    return Source(whole, parts, origins, _columns_of(whole["train"], roles, settings), ledger)


def corrected(source: Source, path: str) -> Source:
    """The source with the labels that a person corrected, without the rows that are to go. Raises
    `DataError`; what was changed stands in the ledger."""
    from warmstart.data.corrections import correct

    numbered = {
        name: table.append_column("_row", pa.array(np.arange(len(table))))
        for name, table in source.parts.items()
    }
    parts = correct(numbered, "label", path, source.ledger)
    column = source.roles["label"]
    whole: dict[str, pa.Table] = {}
    for name, table in parts.items():
        rows = source.whole[name].take(table["_row"].combine_chunks())
        at = rows.column_names.index(column)
        same = rows[column].type == table["label"].type
        changed = not same or not rows[column].equals(table["label"])
        whole[name] = rows.set_column(at, column, table["label"]) if changed else rows
    parts = {name: table.drop_columns(["_row"]) for name, table in parts.items()}
    return replace(source, whole=whole, parts=parts)


def _columns_of(
    table: pa.Table, roles: Mapping[str, Sequence[str]], settings: Data
) -> dict[str, str]:
    """Role → the column that plays it; `map_roles` chose it by the same rule."""
    found: dict[str, str] = {}
    for role, candidates in roles.items():
        taken = {*found.values(), *settings.columns.values()}
        free = {c.strip().lower(): c for c in reversed(table.column_names) if c not in taken}
        guess = next((free[name] for name in candidates if name in free), None)
        column = settings.columns.get(role, guess)
        if column is not None:
            found[role] = column
    return found


def file_facts(source: Source, settings: Data) -> list[dict[str, Any]]:
    """Of each split: file, rows, bytes, format, encoding, delimiter (None where not known)."""
    encodings = {n["file"]: n["encoding"] for n in source.ledger.notes if n["kind"] == "encoding"}
    found: list[dict[str, Any]] = []
    for name, origin in source.origins.items():
        table = source.whole[name]
        row: dict[str, Any] = {"split": name, "file": table["_file"][0].as_py()}
        row |= {"rows": len(table), "bytes": None, "format": "object"}
        row |= {"encoding": None, "delimiter": None}
        path = Path(origin).expanduser() if isinstance(origin, str | os.PathLike) else None
        if path is not None and path.is_file():
            row |= {"bytes": path.stat().st_size, "format": format_of(path, settings.encoding)}
            row["encoding"] = encodings.get(str(path))
            if row["format"] == "delimited" and row["encoding"]:
                mark = settings.delimiter or detect_delimiter(path, row["encoding"])
                row["delimiter"] = DELIMITERS.get(mark, mark)
        elif path is not None:
            row["format"] = "datasets folder"
        found.append(row)
    return found


def column_facts(source: Source) -> list[dict[str, Any]]:
    """Of each column: type, role, distinct values, share that is empty, what is odd about it."""
    by_column = {column: role for role, column in source.roles.items()}
    found: list[dict[str, Any]] = []
    tables = list(source.whole.values())
    names = dict.fromkeys(name for t in tables for name in t.column_names if name not in OURS)
    for name in names:
        columns = [t[name] for t in tables if name in t.column_names]
        rows = sum(len(column) for column in columns)
        empty = sum(int(blank(column).sum()) for column in columns)
        distinct = _distinct(columns)
        kind = columns[0].type
        row: dict[str, Any] = {"column": name, "type": _kind_words(kind)}
        row |= {"role": by_column.get(name), "rows": rows, "distinct": distinct}
        row |= {"empty": empty / max(rows, 1), "verdict": ""}
        if empty == rows:
            row["verdict"] = "empty"
        elif distinct == 1:
            row["verdict"] = "constant"
        elif pa.types.is_nested(kind) or pa.types.is_binary(kind):
            row["verdict"] = "not text"
        elif distinct == rows - empty and rows > 1:
            row["verdict"] = "every value is different"
        found.append(row)
    return found


def looks_like_group(row: Mapping[str, Any]) -> bool:
    """Whether a column, by its facts, says which rows belong together: named so, and repeated."""
    name = str(row["column"]).strip().lower()
    return row["role"] is None and name in GROUP_NAMES and 1 < row["distinct"] <= 0.7 * row["rows"]


def blank(column: pa.ChunkedArray) -> np.ndarray:
    """Which values are null, empty or nothing but whitespace (bool, one a row)."""
    if not pa.types.is_string(column.type):
        return _numpy(pc.is_null(column), bool)
    return _numpy(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True), bool)


def class_counts(parts: Mapping[str, pa.Table], label: str) -> dict[str, dict[str, int]]:
    """Label → split → rows, the largest class first; rows without a label are not counted."""
    counted = {
        name: Counter(value.strip() for value in table[label].to_pylist() if value)
        for name, table in parts.items()
    }
    total: Counter[str] = sum(counted.values(), Counter())
    names = sorted((n for n in total if n), key=lambda name: (-total[name], name))
    return {name: {split: own[name] for split, own in counted.items()} for name in names}


def _distinct(columns: list[pa.ChunkedArray]) -> int:
    if pa.types.is_nested(columns[0].type):
        return len({str(value) for column in columns for value in column.to_pylist()})
    if len(columns) == 1:
        return int(pc.count_distinct(columns[0]).as_py())
    values: set[Any] = set()
    for column in columns:
        values.update(pc.unique(column).to_pylist())
    return len(values - {None})


def _kind_words(kind: pa.DataType) -> str:
    """The type as a person would call it."""
    if pa.types.is_dictionary(kind):
        return _kind_words(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "true or false"
    if pa.types.is_integer(kind):
        return "whole numbers"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "numbers"
    return str(kind) if len(str(kind)) <= 30 else str(kind)[:29] + "…"


def _numpy(values: pa.ChunkedArray, kind: Any) -> np.ndarray:
    parts = [np.asarray(chunk, kind) for chunk in values.chunks]
    return np.concatenate(parts) if parts else np.empty(0, kind)
