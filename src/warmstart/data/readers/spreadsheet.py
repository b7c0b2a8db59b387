"""Workbooks of Excel (.xlsx, .xlsm), read by openpyxl: the values, never the formulas or macros."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.ledger import BadRow, Ledger
from warmstart.data.settings import Reading
from warmstart.data.tables import MOST_COLUMNS, Record, objects_to_table
from warmstart.errors import DataError, RecipeError, nearest, shown
from warmstart.formatting import counted

WORKBOOKS = {".xlsx", ".xlsm"}
AS_CSV = "save it as CSV (UTF-8) and give that file"
MOST_ROWS = 1_048_576  # of a sheet, by the format
LARGEST, MOST_TIMES = 2_000_000_000, 200  # bytes unpacked; times the packed size


def sheet_of(path: Path) -> tuple[Path, str | None]:
    """The workbook and the sheet of a name such as `answers.xlsx#May`."""
    name, mark, sheet = path.name.rpartition("#")
    if mark and not path.exists() and Path(name.lower()).suffix in WORKBOOKS:
        return path.with_name(name), sheet
    return path, None


def read_spreadsheet(path: Path, sheet: str | None, how: Reading, ledger: Ledger) -> pa.Table:
    """The rows of a sheet below its first filled row, which has the names of the columns.

    Formulas give the value that the program which saved the file had computed. `_line` is the row
    of the sheet. A sheet that stands alone, or is the only filled one that is not hidden, need not
    be named. Raises `DataError`, and `RecipeError` without openpyxl or where there are several.
    """
    try:
        import openpyxl
    except ImportError:
        raise RecipeError(
            f"{path} is a workbook, which openpyxl reads; install it (pip install "
            f"'warmstart[xlsx]'), or {AS_CSV}"
        ) from None
    bad = list[BadRow]()
    try:
        _check_size(path)
        book: Any = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            name, rows = _chosen(path, book, sheet)
            table = objects_to_table(str(path), islice(_records(path, rows, how, bad), how.limit))
        finally:
            book.close()
    except (DataError, RecipeError):
        raise
    except Exception as error:  # noqa: BLE001 - openpyxl raises what its parsers raise
        raise DataError(
            f"{path} is not a workbook that can be read ({shown(error, 60)}); {AS_CSV}"
        ) from None
    ledger.bad(str(path), bad)
    ledger.describe(str(path), sheet=name)
    ledger.note("sheet", f"{path} is read from its sheet '{shown(name)}'", file=str(path))
    return table


def _check_size(path: Path) -> None:
    """Refuse a small file that unpacks to a very large one."""
    with zipfile.ZipFile(path) as packed:
        size = sum(part.file_size for part in packed.infolist())
    if size > LARGEST or size > MOST_TIMES * max(path.stat().st_size, 1_000_000):
        raise DataError(
            f"{path} unpacks to {size:,} bytes, far more than a table of texts; {AS_CSV}"
        )


def _chosen(
    path: Path, book: Any, sheet: str | None
) -> tuple[str, Iterator[tuple[int, list[Any]]]]:
    """The name of the sheet that is meant, and its rows."""
    names = [own.title for own in book.worksheets]
    if sheet is not None and sheet not in names:
        raise DataError(f"{path} has no sheet '{shown(sheet)}'.{nearest(sheet, names)}")
    seen = [own.title for own in book.worksheets if own.sheet_state == "visible"] or names
    filled = [sheet] if sheet else [own for own in seen if next(_rows(book[own]), None)]
    if len(filled) > 1:
        listing = ", ".join(f"'{shown(name, 30)}'" for name in filled[:10])
        raise RecipeError(
            f"{path} has {counted(len(filled), 'filled sheet')} ({listing}); name one, as in "
            f"'{path}#{shown(filled[0], 30)}'"
        )
    if not filled:
        raise DataError(f"{path} is empty: it holds no rows; give another file")
    return filled[0], _rows(book[filled[0]])


def _rows(sheet: Any) -> Iterator[tuple[int, list[Any]]]:
    """The number and the values of each row that holds one, without empty cells at its end."""
    sheet.reset_dimensions()  # what the file says of them may be anything
    for number, cells in enumerate(sheet.iter_rows(values_only=True, max_row=MOST_ROWS), 1):
        last = next((at for at in range(len(cells), 0, -1) if cells[at - 1] not in (None, "")), 0)
        if last:
            yield number, list(cells[:last])


def _records(
    path: Path, rows: Iterator[tuple[int, list[Any]]], how: Reading, bad: list[BadRow]
) -> Iterator[tuple[int, Record]]:
    _, header = next(rows)
    if len(header) > MOST_COLUMNS:
        raise DataError(
            f"{path} has {len(header):,} columns, and at most {MOST_COLUMNS:,} are read"
        )
    names = [str(name if name is not None else f"column_{n}") for n, name in enumerate(header, 1)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: two columns are called '{shown(twice)}'; rename one of them")
    for number, cells in rows:
        if len(cells) <= len(names):
            yield number, dict(zip(names, cells, strict=False))
        elif how.bad_rows == "skip":
            bad.append((number, "more cells than the header", counted(len(cells), "cell")))
        else:
            raise DataError(
                f"{path}:{number}: {counted(len(cells), 'cell')}, and the header has {len(names)}; "
                "mend the row, or leave such rows out with --data.bad_rows skip"
            )
