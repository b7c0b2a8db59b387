"""CSV, TSV and their kin: the delimiter, the records with their lines, what is wrong in them."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.ledger import BadRow, Ledger
from warmstart.data.readers.files import NOT_TEXT, lines, suffix, why_not_text
from warmstart.data.settings import NO_DELIMITER, Reading
from warmstart.data.tables import (
    MAX_CELL,
    check_names,
    columns_to_table,
    pc,
    safe_names,
    too_long,
)
from warmstart.errors import DataError
from warmstart.formatting import counted

CANDIDATES = ",;\t|"
SAMPLE_LINES, SAMPLE_CHARACTERS = 500, 1 << 18
SEP = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""Excel's first line, which names the delimiter and is no row."""
TYPE = re.compile(r"#TYPE \S+\s*")
"""The first line of PowerShell's Export-Csv."""
CLASS_LIKE = 0.5
"""Distinct values a row up to which a column is taken for one of classes."""
OPEN_QUOTE = "a quote that is not closed"


class QuoteError(DataError):
    """A quote that is not closed, or closed in the middle of a field."""


def read_delimited(path: Path, encoding: str, how: Reading, ledger: Ledger) -> pa.Table:
    """All records of the file as columns of strings, with `_line`. Raises DataError.

    Rows that cannot be read, and those that repeat the header, go to the ledger; the former only
    where `how.bad_rows` is "skip".
    """
    with _cell_limit():
        delimiter = how.delimiter or detect_delimiter(path, encoding, how.usual_delimiter)
        table = _Table(path, encoding, delimiter, how)
        quoted = how.quoting is not False
        try:
            rows = table.parse(quoted)
        except QuoteError:
            if how.quoting or not table.never_quotes():
                raise
            quoted, rows = False, table.parse(False)
        if quoted and how.quoting is None:
            quoted, rows = _without_swallowed(table, rows, ledger)
        if not quoted and how.quoting is None:
            message = f"{path}: quotes are taken as plain characters"
            ledger.note("quotes", message, file=str(path), loud=True)
        ledger.bad(str(path), table.bad)
        ledger.describe(
            str(path), delimiter=delimiter, quoting=quoted, header=how.header is not False
        )
        return rows


def _without_swallowed(table: _Table, rows: pa.Table, ledger: Ledger) -> tuple[bool, pa.Table]:
    """Whether quotes are read as quotes, and the rows; none of them may hold other rows whole.

    A quoted field may have line breaks, and a stray quote may make one field of many rows: then
    its lines have the delimiters of the header, and values that stand in the same column elsewhere.
    """
    if not table.odd:
        return True, rows
    swallowing = [record for record in table.odd if _holds_rows(record, rows, table.delimiter)]
    first = (swallowing or table.odd)[0]
    where = f"{table.path}:{first[0][0]}"
    if (swallowing or table.delimiter == "\t") and table.never_quotes():
        return False, table.parse(False)
    if not swallowing:
        many = counted(len(table.odd), "quoted field holds", "quoted fields hold")
        ledger.note(
            "quotes",
            f"{many} line breaks, and each of its lines could be a row of its own (first: {where}, "
            f"{len(first)} lines); if rows are missing, close that quote, or read quotes as plain "
            "characters with --data.quoting false",
            file=str(table.path),
            loud=True,
        )
        return True, rows
    if table.how.bad_rows == "skip":
        table.refused = {record[0][0] for record in swallowing}
        return True, table.parse(True)
    raise QuoteError(
        f"{where}: the quote opened here is closed {len(first) - 1} lines below, and what is "
        "between looks like rows of their own; close it, double it, or, if the text is meant to "
        "hold them, give --data.quoting true"
    )


def _holds_rows(record: list[tuple[int, str]], rows: pa.Table, delimiter: str) -> bool:
    """Whether half of the lines of a record or more have a value of their column's classes."""
    width = len(rows.column_names) - 1
    seen: dict[int, set[str]] = {}
    for i, name in enumerate(rows.column_names[:-1]):
        values = pc.unique(rows[name])
        if len(values) <= CLASS_LIKE * len(rows):
            seen[i] = {value.strip() for value in values.to_pylist() if value and value.strip()}
    alike = 0
    for _, line in record[:-1]:
        cells = line.rstrip("\r\n").split(delimiter)
        if len(cells) == width:
            alike += any(cells[i].strip() in values for i, values in seen.items())
    return alike > 0 and 2 * alike >= len(record) - 1


def detect_delimiter(path: Path, encoding: str, usual: str | None = None) -> str:
    """The delimiter that gives the most records the width of the header; at least two fields.

    A first line such as `sep=;` says it, and `usual` is taken where it stands in the header.
    """
    named = SEP.fullmatch(next(iter(lines(path, encoding, lenient=True)), ""))
    if named:
        return named.group(1)
    sample = _sample(path, encoding)
    if usual and usual in next(filter(str.strip, sample), ""):
        return usual
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


def _numbered(path: Path, encoding: str, *, lenient: bool) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, without a first line that is about the file."""
    for number, line in enumerate(lines(path, encoding, lenient=lenient), 1):
        if number > 1 or not (SEP.fullmatch(line) or TYPE.fullmatch(line)):
            yield number, line


def _sample(path: Path, encoding: str) -> list[str]:
    """The first lines, by which the form is told."""
    sample: list[str] = []
    size = 0
    for _, line in islice(_numbered(path, encoding, lenient=True), SAMPLE_LINES):
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


class _Lines:
    """Physical lines for `csv.reader`, some of which can be given back to be read anew."""

    def __init__(self, numbered: Iterable[tuple[int, str]]) -> None:
        self.rest, self.back = iter(numbered), deque[tuple[int, str]]()
        self.record: list[tuple[int, str]] = []
        """The lines of the record that is being read, with their numbers."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        entry = self.back.popleft() if self.back else next(self.rest)
        self.record.append(entry)
        return entry[1]

    def give_back(self) -> None:
        """All lines of the record but the first."""
        self.back.extendleft(reversed(self.record[1:]))


@dataclass
class _Table:
    """A file that is parsed, perhaps more than once."""

    path: Path
    encoding: str
    delimiter: str
    how: Reading
    refused: set[int] = field(default_factory=set[int])
    """Lines at which an opening quote is known to be stray."""
    bad: list[BadRow] = field(default_factory=list[BadRow])
    odd: list[list[tuple[int, str]]] = field(default_factory=list[list[tuple[int, str]]])
    """Records over several lines, each of which could be a row."""
    header: list[str] = field(default_factory=list[str])

    @property
    def skips(self) -> bool:
        return self.how.bad_rows == "skip"

    def parse(self, quoted: bool) -> pa.Table:
        """The rows; `bad` and `odd` are those of the last call."""
        self.bad, self.odd, self.header = [], [], []
        rows = self._rows(csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
        first = next(rows, None)
        if not self.header:
            raise DataError(f"{self.path} is empty: it holds no rows; give another file")
        kept = rows if first is None else chain([first], rows)
        return columns_to_table(str(self.path), self.header, islice(kept, self.how.limit))

    def never_quotes(self) -> bool:
        """Whether each line has the delimiters of the first, and no quote is written twice: so are
        files that never quote."""
        doubled = re.compile(rf'[^{re.escape(self.delimiter)}]""[^{re.escape(self.delimiter)}\r\n]')
        counts: set[int] = set()
        for _, line in _numbered(self.path, self.encoding, lenient=self.skips):
            if line.strip():
                if not counts and '"' in line:
                    return False
                counts.add(line.count(self.delimiter))
            if len(counts) > 1 or doubled.search(line):
                return False
        return counts != {0}

    def _reader(self, feed: _Lines, quoting: Any, padded: bool) -> Any:
        return csv.reader(
            feed, delimiter=self.delimiter, quoting=quoting, skipinitialspace=padded, strict=True
        )

    def _rows(self, quoting: Any) -> Iterator[tuple[int, list[str]]]:
        """The line where each record starts, and its cells, below the header."""
        feed = _Lines(_numbered(self.path, self.encoding, lenient=self.skips))
        start = _numbered(self.path, self.encoding, lenient=self.skips)
        top = next((line for _, line in start if line.strip()), "")
        rest = top.split(self.delimiter)[1:]
        padded = bool(rest) and all(cell.startswith(" ") for cell in rest)  # as in `text, label`
        reader = self._reader(feed, quoting, padded)
        while True:
            feed.record.clear()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                problem = self._explained(error, feed.record)
                if not (self.skips and self.header):
                    raise problem from None
                reason = OPEN_QUOTE if isinstance(problem, QuoteError) else "not readable as CSV"
                self.bad.append((feed.record[0][0], reason, str(error)))
                feed.give_back()
                reader = self._reader(feed, quoting, padded)
                continue
            if not cells:
                continue
            line = feed.record[0][0]
            if not self.header and self._is_header(cells):
                continue
            if line in self.refused:
                self.bad.append((line, OPEN_QUOTE, "its lines are rows of their own"))
                feed.give_back()
                reader = self._reader(feed, quoting, padded)
            elif self._is_good(cells, feed):
                if len(feed.record) > 1 and self._is_odd(feed.record):
                    self.odd.append(list(feed.record))
                yield line, cells

    def _is_header(self, cells: list[str]) -> bool:
        """Take the names of the columns from the first record; False if it is a row."""
        if self.how.header is False:
            self.header = [f"column {i}" for i in range(1, len(cells) + 1)]
            return False
        names = safe_names(cell.strip() or f"column {i}" for i, cell in enumerate(cells, 1))
        check_names(f"{self.path}:1", names)
        self.header = names
        return True

    def _is_good(self, cells: list[str], feed: _Lines) -> bool:
        """Whether these are the cells of a row; others are noted as bad. Raises DataError."""
        line, width = feed.record[0][0], len(self.header)
        skips = self.skips
        if skips and (broken := next((x for _, x in feed.record if NOT_TEXT.search(x)), None)):
            self._leave_out(feed, why_not_text(broken, self.encoding), "")
            return False
        if len(cells) != width:
            many = f"{len(cells)} fields where the header has {width}"
            if not skips:
                mark = "a tab" if self.delimiter == "\t" else f"'{self.delimiter}'"
                raise DataError(
                    f"{self.path}:{line}: {many}; quote fields that hold {mark}, name the "
                    "delimiter with --data.delimiter, or leave such rows out with "
                    "--data.bad_rows skip"
                )
            self._leave_out(feed, "wrong number of fields", many)
            return False
        if cells[-1].strip() == self.header[-1] and self._repeats_header(cells):
            self.bad.append((line, "repeats the header", ""))
            return False
        return True

    def _repeats_header(self, cells: list[str]) -> bool:
        """Whether these cells are those of the first row, as where files were joined."""
        return len(cells) > 1 and [cell.strip() for cell in cells] == self.header

    def _leave_out(self, feed: _Lines, reason: str, detail: str) -> None:
        """A bad record; its lines are read anew where one could be a row behind a stray quote."""
        self.bad.append((feed.record[0][0], reason, detail))
        wanted = len(self.header) - 1
        if wanted and any(x.count(self.delimiter) == wanted for _, x in feed.record[1:]):
            feed.give_back()

    def _is_odd(self, record: list[tuple[int, str]]) -> bool:
        """Whether each line of a record but the last has the delimiters of the header."""
        wanted = len(self.header) - 1
        return wanted > 0 and all(text.count(self.delimiter) == wanted for _, text in record[:-1])

    def _explained(self, error: csv.Error, record: list[tuple[int, str]]) -> DataError:
        """What the csv module refused, and where a quote was opened."""
        text = "".join(line for _, line in record)
        below, column, quoted = _failing_field(text, self.delimiter)
        line = (record[0][0] if record else 1) + below
        if "limit" in str(error):
            known = column < len(self.header)
            name = self.header[column] if known else f"number {column + 1}"
            return too_long(str(self.path), line, name, quoted and len(record) > 1)
        if quoted:
            return QuoteError(
                f"{self.path}:{line}: the quote opened here is not closed properly; close it, and "
                'write a quote inside a quoted field twice (""), or leave such rows out with '
                "--data.bad_rows skip"
            )
        return DataError(f"{self.path}:{line}: {error}; mend this line")


def _failing_field(record: str, delimiter: str) -> tuple[int, int, bool]:
    """Of a record the csv module refused: line below its start, column, and whether in quotes."""
    cell = re.compile(rf'"(?:[^"]+|"")*+"?|[^{re.escape(delimiter)}\r\n]*')
    column = start = 0
    while match := cell.match(record, start):
        end = match.end()
        if end - start > MAX_CELL or record[end : end + 1] != delimiter:
            break
        column, start = column + 1, end + 1
    return record.count("\n", 0, start), column, record[start : start + 1] == '"'
