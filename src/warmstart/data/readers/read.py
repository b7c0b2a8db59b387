"""Every kind of source read into one kind of table, with the file and line of each row."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.ledger import Ledger
from warmstart.data.readers import files
from warmstart.data.readers import parquet as columnar
from warmstart.data.readers.conll import read_conll
from warmstart.data.readers.csv import read_delimited
from warmstart.data.readers.encoding import detect
from warmstart.data.readers.jsonl import read_json
from warmstart.data.readers.python import kind_name, read_object
from warmstart.data.tables import check_names, with_file
from warmstart.errors import DataError, RecipeError
from warmstart.formatting import counted


def read(
    source: Any,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    ledger: Ledger,
    limit: int | None = None,
    name: str | None = None,
) -> pa.Table:
    """All columns of one source, plus `_file` (dictionary) and `_line` (int64, from 1).

    `source` is a path or a Python object; `name` is what it is called in messages. `_line` is the
    physical line where a record starts, for columnar files and objects the row number. Counts the
    rows in the ledger. Raises DataError (file, line, remedy) or RecipeError (not a known source).
    """
    is_path = isinstance(source, str | os.PathLike)
    if is_path:
        files.check_local(source)
        path = Path(source).expanduser()
        file = name or str(path)
        table = _read_path(path, delimiter, encoding, limit, ledger)
    else:
        file = name or kind_name(source)
        table = read_object(source, limit)
    check_names(file, table.column_names)
    if not len(table):
        raise DataError(f"{file} has no rows; add some, or give another file")
    if limit is not None and len(table) == limit:
        ledger.note(
            "limit",
            f"only the first {counted(limit)} of {file} {'was' if limit == 1 else 'were'} read",
            file=file,
        )
    ledger.read(file, len(table))
    return with_file(table, file)


def _read_path(
    path: Path, delimiter: str | None, encoding: str | None, limit: int | None, ledger: Ledger
) -> pa.Table:
    files.check_exists(path)
    if path.is_dir():
        if columnar.is_dataset(path):
            return columnar.read_dataset(path, limit)
        raise RecipeError(f"{path} is a folder, and one table was asked for; name a file in it")
    kind = files.format_of(path, encoding)
    if kind == "parquet":
        return columnar.read_parquet(path, limit)
    if kind == "arrow":
        return columnar.read_arrow(path, limit)
    found = detect(path, encoding)
    ledger.note("encoding", f"{path} is read as {found}", file=str(path), encoding=found)
    if kind == "json":
        return read_json(path, found, limit)
    if kind == "conll":
        return read_conll(path, found, limit)
    return read_delimited(path, found, delimiter, limit, ledger)
