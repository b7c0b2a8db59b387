"""Arrow tables from rows that arrive one by one, in chunks, so that few rows are Python objects."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from warmstart.data.cells import as_text
from warmstart.errors import DataError, shown

pc: Any = pyarrow.compute  # its functions are made at import, so that no type checker sees them
SPLITS = ("train", "validation", "test")
CHUNK = 4_000  # rows
MAX_CELL = 1_000_000  # characters
MOST_COLUMNS = 5_000
RESERVED = ("_file", "_line")
Record = dict[str, Any]
"""A row as an object: column → value."""


def safe_names(names: Iterable[str]) -> list[str]:
    """Column names with ours (`_file`, `_line`) freed: such a column becomes `source_line`."""
    return [f"source{name}" if name in RESERVED else str(name) for name in names]


def freed(table: pa.Table) -> pa.Table:
    """The table with our names freed, and with the metadata of its schema."""
    renamed = table.rename_columns(safe_names(table.column_names))
    return renamed.replace_schema_metadata(table.schema.metadata)


def check_names(file: str, names: list[str]) -> None:
    """Raises DataError if two columns have the same name, or there are more than a table of texts
    has."""
    if len(names) > MOST_COLUMNS:
        raise DataError(
            f"{file} has {len(names):,} columns, and at most {MOST_COLUMNS:,} are read; is it the "
            "right file, and the right delimiter? Leave out those that hold no text or label"
        )
    for name, times in Counter(names).items():
        if times > 1:
            raise DataError(f"{file}: two columns are called '{shown(name)}'; rename one of them")


def too_long(file: str, line: int, column: str, maybe_quote: bool = False) -> DataError:
    """The error for a cell that no text of a data set should reach."""
    quote = "close the quote that opens here if it is never closed; else " if maybe_quote else ""
    return DataError(
        f"{file}:{line}: the cell in column '{shown(column)}' has more than {MAX_CELL:,} "
        f"characters; {quote}split or shorten the text"
    )


def is_blank(column: pa.ChunkedArray) -> np.ndarray:
    """Which values are null, empty or nothing but whitespace, bool [rows]."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        blank = pc.is_null(column)
    else:
        blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)
    return blank.to_numpy()


def columns_to_table(
    file: str, header: list[str], rows: Iterable[tuple[int, list[str]]]
) -> pa.Table:
    """Rows of strings, each with its line, as a table of `header` and `_line`."""
    schema = pa.schema([(name, pa.string()) for name in header] + [("_line", pa.int64())])
    batches: list[pa.RecordBatch] = []
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK)):
        cells = zip(*(row for _, row in chunk), strict=True)
        arrays = [pa.array(column, pa.string()) for column in cells]
        arrays.append(pa.array([line for line, _ in chunk], pa.int64()))
        batches.append(pa.record_batch(arrays, schema=schema))
    if not batches:
        raise DataError(f"{file} has a header but no rows; add some, or give another file")
    return pa.Table.from_batches(batches, schema)


def objects_to_table(file: str, rows: Iterable[tuple[int, dict[str, Any]]]) -> pa.Table:
    """Objects, each with its line or row number, as a table of all their keys and `_line`.

    Values of one kind keep their type; a column of mixed kinds becomes text, and so do messages
    and tools, each as JSON.
    """
    tables: list[pa.Table] = []
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK)):
        names = list(dict.fromkeys(name for _, row in chunk for name in row))
        check_names(file, names)
        columns = [_column(file, name, chunk) for name in names]
        arrays = dict(zip(safe_names(names), columns, strict=True))
        arrays["_line"] = pa.array([line for line, _ in chunk], pa.int64())
        tables.append(pa.table(arrays))
    if not tables:
        raise DataError(f"{file} has no rows; add some, or give another file")
    return concatenate(tables)


def concatenate(tables: list[pa.Table]) -> pa.Table:
    """One table; a column whose type differs from chunk to chunk beyond repair becomes text."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        kinds: dict[str, set[pa.DataType]] = {}
        for field in (field for table in tables for field in table.schema):
            kinds.setdefault(field.name, set()).add(field.type)
        texts: list[pa.Table] = []
        for table in tables:
            for i, name in enumerate(table.column_names):
                if len(kinds[name] - {pa.null()}) > 1:
                    values = [as_text(value) for value in table.column(i).to_pylist()]
                    table = table.set_column(i, name, pa.array(values, pa.string()))
            texts.append(table)
        return pa.concat_tables(texts, promote_options="permissive")


def with_file(table: pa.Table, file: str) -> pa.Table:
    """The table with `_file` (dictionary-encoded) and, if it has none, `_line` from 1."""
    numbered = "_line" in table.column_names
    names = [n for n in table.column_names if n != "_file"]
    table = table.select(names)
    codes = pa.array(np.zeros(len(table), np.int32))
    table = table.append_column("_file", pa.DictionaryArray.from_arrays(codes, [file]))
    if not numbered:
        table = table.append_column("_line", pa.array(np.arange(1, len(table) + 1)))
    return table


def _column(file: str, name: str, chunk: list[tuple[int, dict[str, Any]]]) -> pa.Array:
    values = [row.get(name) for _, row in chunk]
    for (line, _), value in zip(chunk, values, strict=True):
        if isinstance(value, str) and len(value) > MAX_CELL:
            raise too_long(file, line, name)
    try:
        if _are_messages(values):
            return pa.array([as_text(value) for value in values], pa.string())
        return pa.array(values, from_pandas=True)
    except UnicodeEncodeError:
        raise torn(values, lambda row: f"{file}:{chunk[row][0]}: column '{shown(name)}'") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([as_text(value) for value in values], pa.string())


MESSAGE_KEYS = {"role", "from", "tool_calls", "parameters", "function"}


def _are_messages(values: Sequence[Any]) -> bool:
    """Whether these are lists of messages or tools, whose objects have keys of their own: Arrow
    would give each the keys of all, with nothing behind them, and has no type for an argument that
    is a text in one call and a number in another."""
    lists = (value for value in values if isinstance(value, list) and value)
    first: Any = next(lists, [None])[0]
    return isinstance(first, dict) and bool(MESSAGE_KEYS & first.keys())


def torn(values: Sequence[Any], where: Callable[[int], str]) -> DataError:
    """The error for the first of some values that no encoding can write; `where` it stands."""
    texts = enumerate(as_text(value) or "" for value in values)
    row = next(row for row, text in texts if re.search("[\ud800-\udfff]", text))
    return DataError(
        f"{where(row)} holds half of a character (a lone surrogate such as \\ud83d); mend or "
        "delete the row"
    )


# Rows that are read from a file when they are asked for, so that training need not hold them.


def mapped(table: pa.Table, folder: Path) -> pa.Table:
    """The same table, backed by a file in `folder` that has no name any more: the system frees it
    with the table, and when the process ends. Where that cannot be, the table as it is."""
    path = folder / f".rows-{os.getpid()}"
    if os.name != "posix" or not table.nbytes:
        return table
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    except OSError:  # no room on the disk, or one that cannot be mapped
        return table
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
