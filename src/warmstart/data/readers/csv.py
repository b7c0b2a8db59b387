"""CSV, TSV and their kin: the delimiter, the records with their lines, what is wrong in them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
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
            if delimiter != "\t" or not _even_tabs(path, encoding):
                raise
            ledger.note("quotes", f"{path}: quotes are taken as plain characters", file=str(path))
            return _parse(path, encoding, delimiter, limit, csv.QUOTE_NONE)


def detect_delimiter(path: Path, encoding: str) -> str:
    """The delimiter that gives the most records the width of the header; at least two fields."""
    sample = _sample(path, encoding)
    favourite = {".tsv": "\t", ".tab": "\t", ".psv": "|"}.get(suffix(path), ",")

    def merit(delimiter: str) -> tuple[float, bool, int]:
        share, width = _consistency(sample, delimiter)
        return share, delimiter == favourite, width

    best = max(CANDIDATES, key=merit)
    return best if merit(best)[2] >= 2 else NO_DELIMITER


def even_share(path: Path, encoding: str, delimiter: str) -> float | None:
    """The share of the records below the first that are as wide as it; None: there are none."""
    with _cell_limit():
        widths = _widths(_sample(path, encoding), delimiter)
    rest = widths[1:]
    return sum(width == widths[0] for width in rest) / len(rest) if rest else None


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


def _consistency(sample: list[str], delimiter: str) -> tuple[float, int]:
    """The share of records as wide as the first, and that width; (0, 0) below two fields."""
    widths = _widths(sample, delimiter)
    if not widths or widths[0] < 2:
        return 0.0, 0
    rest = widths[1:]
    return (sum(w == widths[0] for w in rest) + 1) / (len(rest) + 1), widths[0]


@contextmanager
def _cell_limit() -> Iterator[None]:
    before = csv.field_size_limit(MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _even_tabs(path: Path, encoding: str) -> bool:
    """Whether every line holds the same number of tabs, as in files that never quote."""
    counts = {line.count("\t") for line in lines(path, encoding) if line.strip()}
    return len(counts) == 1


def _parse(path: Path, encoding: str, delimiter: str, limit: int | None, quoting: Any) -> pa.Table:
    padded = _padded_header(path, encoding, delimiter)
    records = _Records(path, lines(path, encoding), delimiter, quoting, padded)
    rows = iter(records)
    _, header = next(rows, (0, None))
    if header is None:
        raise DataError(f"{path} is empty: it holds no rows; give another file")
    records.header = _names(path, header)
    return columns_to_table(str(path), records.header, islice(_even(records, rows), limit))


def _padded_header(path: Path, encoding: str, delimiter: str) -> bool:
    """Whether a space follows every delimiter of the header, as in `text, label`."""
    first = next((line for line in lines(path, encoding) if line.strip()), "")
    fields = first.split(delimiter)[1:]
    return bool(fields) and all(field.startswith(" ") for field in fields)


def _names(path: Path, header: list[str]) -> list[str]:
    names = safe_names(cell.strip() or f"column {i}" for i, cell in enumerate(header, 1))
    check_names(f"{path}:1", names)
    return names


def _even(
    records: _Records, rows: Iterable[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    """The rows, as long as they are as wide as the header."""
    width = len(records.header)
    for line, cells in rows:
        if len(cells) != width:
            seen = "a tab" if records.delimiter == "\t" else f"'{records.delimiter}'"
            raise DataError(
                f"{records.path}:{line}: {len(cells)} fields where the header has {width}; quote "
                f"fields that hold {seen}, or name the delimiter with --data.delimiter"
            )
        yield line, cells


class _Records:
    """Iterates (line where the record starts, cells); errors say where a quote was opened."""

    def __init__(
        self, path: Path, source: Iterable[str], delimiter: str, quoting: Any, padded: bool
    ) -> None:
        self.path, self.delimiter, self.header = path, delimiter, list[str]()
        self._pending: list[str] = []
        self._reader = csv.reader(
            self._watched(source),
            delimiter=delimiter,
            quoting=quoting,
            skipinitialspace=padded,
            strict=True,
        )

    def _watched(self, source: Iterable[str]) -> Iterator[str]:
        for line in source:
            self._pending.append(line)
            yield line

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            start = self._reader.line_num + 1
            self._pending.clear()
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise self._explained(error, start) from None
            if cells:
                yield start, cells

    def _explained(self, error: csv.Error, start: int) -> DataError:
        below, column, quoted = _failing_field("".join(self._pending), self.delimiter)
        line = start + below
        if "limit" in str(error):
            name = self.header[column] if column < len(self.header) else f"number {column + 1}"
            return too_long(str(self.path), line, name, quoted and len(self._pending) > 1)
        if quoted:
            return QuoteError(
                f"{self.path}:{line}: the quote opened here is not closed properly; close it, and "
                'write a quote inside a quoted field twice ("")'
            )
        return DataError(f"{self.path}:{line}: {error}; mend this line")


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
