"""Writing rows with their labels, a part at a time: CSV, TSV, JSONL or Parquet, whole or not."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from warmstart.errors import RecipeError, RunError, shown
from warmstart.files import write_atomically
from warmstart.run import why

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")


def check_out(out: Path, source: Any) -> None:
    """Raises before any work is done if `out` cannot be written, or is what is read."""
    if out.suffix.lower() not in ENDINGS:
        raise RecipeError(f"cannot write {out}: give --out a name ending in {', '.join(ENDINGS)}")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise RunError(f"cannot write {out}: there is no folder {out.parent}; make it first")
    if out.is_dir() or not os.access(parent, os.W_OK):
        what = "it is a folder" if out.is_dir() else f"{out.parent} is read-only"
        raise RunError(f"cannot write {out}: {what}; choose another --out")
    if isinstance(source, str | Path) and os.path.exists(source) and out.exists():
        if os.path.samefile(source, out):
            raise RecipeError(f"--out {out} is the file that is read; give another name")
    if os.path.lexists(out):
        raise RunError(f"{out} exists; choose another --out, or remove it first")


class Writer:
    """A context in which tables of the same columns are written one after the other.

    The file takes its name when the context ends well, and leaves nothing behind otherwise.
    Raises `RunError` when the disk is full or read-only.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._stack = ExitStack()
        self._put: Callable[[pa.Table], None] | None = None

    def __enter__(self) -> Writer:
        return self

    def write(self, table: pa.Table) -> None:
        """Add the rows of a table."""
        try:
            if self._put is None:
                self._put = self._begin(table)
            self._put(table)
        except OSError as error:
            raise RunError(f"cannot write {self.out}: {why(error)}") from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        except (OSError, pa.ArrowException) as problem:
            if kind is None:
                raise RunError(f"cannot write {self.out}: {shown(problem, 120)}") from problem

    def _begin(self, table: pa.Table) -> Callable[[pa.Table], None]:
        ending = self.out.suffix.lower()
        part = self._stack.enter_context(write_atomically(self.out))
        if ending == ".parquet":
            from pyarrow.parquet import ParquetWriter

            return self._stack.enter_context(ParquetWriter(part, table.schema)).write_table
        file = self._stack.enter_context(part.open("w", encoding="utf-8", newline=""))
        if ending == ".jsonl":
            return lambda chunk: file.writelines(_lines(chunk))
        rows = csv.writer(file, delimiter="\t" if ending == ".tsv" else ",", lineterminator="\n")
        rows.writerow(table.column_names)
        return lambda chunk: rows.writerows(zip(*map(_cells, chunk.columns), strict=True))


def _lines(table: pa.Table) -> list[str]:
    return [json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in table.to_pylist()]


def _cells(column: pa.ChunkedArray) -> list[Any]:
    """Values as they may stand in CSV: lists and structs as JSON, nothing as an empty field."""
    values = column.to_pylist()
    if pa.types.is_nested(column.type):
        return ["" if v is None else json.dumps(v, ensure_ascii=False, default=str) for v in values]
    return ["" if value is None else value for value in values]
