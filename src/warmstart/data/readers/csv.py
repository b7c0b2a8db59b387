"""CSV, TSV and their kin: the delimiter, the records with their lines, what is wrong in them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.ledger import Ledger
from warmstart.data.readers.files import lines, suffix
from warmstart.data.tables import MAX_CELL, check_names, columns_to_table, safe_names, too_long
from warmstart.errors import DataError

CANDIDATES = ",;\t|"
NO_DELIMITER = "\x1f"  # a one-column file: a character that text does not hold
SAMPLE_LINES, SAMPLE_CHARACTERS = 500, 1 << 18


class QuoteError(DataError):
    """A quote that is not closed, or closed in the middle of a field."""


def read_delimited(
    path: Path, encoding: str, delimiter: str | None, limit: int | None, ledger: Ledger
) -> pa.Table:
    """All records of the file as columns of strings, with `_line`. Raises DataError."""
    with _cell_limit():
        delimiter = delimiter or detect_delimiter(path, encoding)
        try:
            return _parse(path, encoding, delimiter, limit, csv.QUOTE_MINIMAL)
        except QuoteError:
            if delimiter != "\t":
                raise
            if len({line.count("\t") for line in lines(path, encoding) if line.strip()}) != 1:
                raise  # not as even as files are that never quote
            ledger.note("quotes", f"{path}: quotes are taken as plain characters", file=str(path))
            return _parse(path, encoding, delimiter, limit, csv.QUOTE_NONE)


def detect_delimiter(path: Path, encoding: str) -> str:
    """The delimiter that gives the most records the width of the header; at least two fields."""
    sample = _sample(path, encoding)
    favourite = {".tsv": "\t", ".tab": "\t", ".psv": "|"}.get(suffix(path), ",")

    def merit(delimiter: str) -> tuple[float, bool, int]:
        widths = _widths(sample, delimiter)
        if not widths or widths[0] < 2:
            return 0.0, delimiter == favourite, 0
        return widths.count(widths[0]) / len(widths), delimiter == favourite, widths[0]

    best = max(CANDIDATES, key=merit)
    return best if merit(best)[2] >= 2 else NO_DELIMITER


def even_share(path: Path, encoding: str, delimiter: str) -> float | None:
    """The share of the records below the first that are as wide as it; None: there are none."""
    with _cell_limit():
        widths = _widths(_sample(path, encoding), delimiter)
    return (widths.count(widths[0]) - 1) / (len(widths) - 1) if len(widths) > 1 else None


def _sample(path: Path, encoding: str) -> list[str]:
    """The first lines, by which the form is told."""
    sample: list[str] = []
    size = 0
    for line in islice(lines(path, encoding), SAMPLE_LINES):
        sample.append(line)
        size += len(line)
        if size > SAMPLE_CHARACTERS:
            break
    return sample


def _widths(sample: list[str], delimiter: str) -> list[int]:
    """How many fields each record has."""
    widths: list[int] = []
    with suppress(csv.Error):  # a record the sample cuts in two, or one to be reported later
        reader = csv.reader(sample, delimiter=delimiter, strict=True)
        widths.extend(len(row) for row in reader if row)
    return widths


@contextmanager
def _cell_limit() -> Iterator[None]:
    before = csv.field_size_limit(MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _parse(path: Path, encoding: str, delimiter: str, limit: int | None, quoting: Any) -> pa.Table:
    rows = _records(path, encoding, delimiter, quoting)
    _, header = next(rows, (0, None))
    if header is None:
        raise DataError(f"{path} is empty: it holds no rows; give another file")
    return columns_to_table(str(path), header, islice(rows, limit))


def _records(
    path: Path, encoding: str, delimiter: str, quoting: Any
) -> Iterator[tuple[int, list[str]]]:
    """The line where each record starts, and its cells; first the names of the columns."""
    pending: list[str] = []  # the lines of the record that is being read

    def watched() -> Iterator[str]:
        for line in lines(path, encoding):
            pending.append(line)
            yield line

    first = next((line for line in lines(path, encoding) if line.strip()), "")
    rest = first.split(delimiter)[1:]
    padded = bool(rest) and all(field.startswith(" ") for field in rest)  # as in `text, label`
    reader = csv.reader(
        watched(), delimiter=delimiter, quoting=quoting, skipinitialspace=padded, strict=True
    )
    header: list[str] = []
    while True:
        start = reader.line_num + 1
        pending.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _explained(path, error, start, pending, delimiter, header) from None
        if not cells:
            continue
        if not header:
            cells = safe_names(cell.strip() or f"column {i}" for i, cell in enumerate(cells, 1))
            check_names(f"{path}:1", cells)
            header = cells
        elif len(cells) != len(header):
            mark = "a tab" if delimiter == "\t" else f"'{delimiter}'"
            raise DataError(
                f"{path}:{start}: {len(cells)} fields where the header has {len(header)}; quote "
                f"fields that hold {mark}, or name the delimiter with --data.delimiter"
            )
        yield start, cells


def _explained(
    path: Path, error: csv.Error, start: int, record: list[str], delimiter: str, header: list[str]
) -> DataError:
    """What the csv module refused, and where a quote was opened."""
    below, column, quoted = _failing_field("".join(record), delimiter)
    line = start + below
    if "limit" in str(error):
        name = header[column] if column < len(header) else f"number {column + 1}"
        return too_long(str(path), line, name, quoted and len(record) > 1)
    if quoted:
        return QuoteError(
            f"{path}:{line}: the quote opened here is not closed properly; close it, and "
            'write a quote inside a quoted field twice ("")'
        )
    return DataError(f"{path}:{line}: {error}; mend this line")


def _failing_field(record: str, delimiter: str) -> tuple[int, int, bool]:
    """Of a record the csv module refused: line below its start, column, and whether in quotes."""
    field = re.compile(rf'"(?:[^"]+|"")*+"?|[^{re.escape(delimiter)}\r\n]*')
    column = start = 0
    while match := field.match(record, start):
        end = match.end()
        if end - start > MAX_CELL or record[end : end + 1] != delimiter:
            break
        column, start = column + 1, end + 1
    return record.count("\n", 0, start), column, record[start : start + 1] == '"'
