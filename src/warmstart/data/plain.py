"""Plain text files: a text on each line."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from warmstart.data import encoding, files
from warmstart.data.build import with_file
from warmstart.errors import DataError

PLAIN = (".txt", ".md")


def is_plain(path: Path) -> bool:
    """Whether the file is plain text by its name."""
    return path.suffix.lower() in PLAIN and path.is_file()


def lines_of(path: Path, named: str | None = None, limit: int | None = None) -> pa.Table:
    """The lines that hold something, as `text`, `_file` and `_line`.

    `named` is the encoding, where it is known. Raises `DataError` for what is no text.
    """
    rows = enumerate(files.lines(path, encoding.detect(path, named)), 1)
    found = [(line.strip(), number) for number, line in rows if line.strip()][:limit]
    if not found:
        raise DataError(f"{path} has no lines of text")
    columns = {"text": [line for line, _ in found], "_line": [number for _, number in found]}
    return with_file(pa.table(columns), str(path))


def has_header(path: Path, names: Collection[str], named: str | None = None) -> bool:
    """Whether the first line names one of these columns, so that the file is a table."""
    first = next(iter(files.lines(path, encoding.detect(path, named))), "")
    cells = {cell.strip(" \r\n\"'").lower() for cell in re.split("[,;|\t]", first)}
    return bool(cells & {name.lower() for name in names})
