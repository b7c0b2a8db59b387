"""A table of suspicious rows, and labels that a person corrected in it, put back into the data.

The table is CSV with the columns of `COLUMNS`. In `use` stands the right label, `drop` to leave
the row out, or nothing to keep it as it is. A row is found by its file and line, and its text must
still be the same.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from warmstart.data.ledger import Ledger
from warmstart.data.readers.files import check_exists, detect
from warmstart.data.tables import pc
from warmstart.errors import DataError, RunError, nearest, shown
from warmstart.files import write_atomically
from warmstart.formatting import counted

COLUMNS = ("file", "line", "text", "label", "suggested", "confidence", "use")
NEEDED = ("file", "line", "text", "use")
DROP = "drop"
AGAIN = "inspect the data again and correct the new table"
EXCERPT = 1_000  # characters; spreadsheets cut a cell at 32,767


def excerpt(texts: Sequence[str | None]) -> str:
    """The texts of a row as they stand in the table: in one line, and short.

    A text that begins as a formula does gets an apostrophe, so that no spreadsheet computes it.
    """
    whole = " ".join(" | ".join(text or "" for text in texts).split())
    short = whole if len(whole) <= EXCERPT else whole[: EXCERPT - 1] + "…"
    return f"'{short}" if short[:1] in ("=", "+", "-", "@") else short


def write_suspicious(
    path: Path, table: pa.Table, suggested: Sequence[str], confidence: np.ndarray
) -> None:
    """The rows of `table` for a person to decide on, with an empty column `use`.

    In UTF-8 with a mark, so that spreadsheets know it. Raises `RunError` where it cannot be
    written.
    """
    rows = zip(table.to_pylist(), suggested, confidence, strict=True)
    try:
        with (
            write_atomically(path) as part,
            part.open("w", encoding="utf-8-sig", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row, label, p in rows:
                text, own = excerpt([row["text"]]), (row["label"] or "").strip()
                writer.writerow([row["_file"], row["_line"], text, own, label, f"{p:.4f}", ""])
    except OSError as error:
        raise RunError(f"cannot write {path}: {shown(error, 120)}") from None


class Correction(NamedTuple):
    """One row of the table that says what to do; `where` is its place there, as file:line."""

    where: str
    file: str
    line: int
    text: str
    use: str


def correct(
    parts: Mapping[str, pa.Table],
    label: str,
    path: str | Path,
    ledger: Ledger,
    texts: Sequence[str] = ("text",),
) -> dict[str, pa.Table]:
    """The parts with the corrections of the table at `path`.

    What was relabelled goes to the ledger as a note that lists every row, what was left out as a
    drop. Raises `DataError`, with the row of the table, for a row that is not in the data or has
    another text there, for a label that no row has, and for two answers to one row.
    """
    path = Path(path)
    known = {
        word.strip()
        for table in parts.values()
        for word in table[label].unique().to_pylist()
        if word
    }
    corrections = _checked(path, known)
    places = _places(parts, corrections)
    changed = {
        name: _corrected(table, label, texts, places.get(name, {}), ledger)
        for name, table in parts.items()
    }
    relabelled = [row for _, rows in changed.values() for row in rows]
    dropped = sum(correction.use == DROP for correction in corrections)
    ledger.note(
        "corrections",
        f"{path}: {counted(len(relabelled), 'label')} corrected, {counted(dropped)} left out"
        if corrections
        else f"{path} corrects nothing: its column use is empty",
        relabelled=relabelled,
        dropped=dropped,
    )
    return {name: table for name, (table, _) in changed.items()}


def _read(path: Path) -> Iterator[Correction]:
    """The rows whose `use` says something."""
    check_exists(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the CSV file of corrections")
    with path.open(encoding=detect(path, None), newline="") as file:
        head = file.readline().removeprefix("\ufeff")
        delimiter = max(",;\t", key=head.count)  # some spreadsheets write semicolons or tabs
        names = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
        missing = [name for name in NEEDED if name not in names]
        if missing:
            raise DataError(
                f"{path} has no column {missing[0]}; corrections have the columns "
                f"{', '.join(COLUMNS)}, as `warmstart inspect` writes them"
            )
        rows = csv.reader(file, delimiter=delimiter)
        line = 2
        try:
            for cells in rows:
                where, line = f"{path}:{line}", rows.line_num + 2
                row = dict(zip_longest(names, cells[: len(names)], fillvalue=""))
                if not (use := row["use"].strip()):
                    continue
                try:
                    number = int(row["line"])
                except ValueError:
                    raise DataError(
                        f"{where}: the line is '{shown(row['line'], 20)}', not a number; leave the "
                        "columns file and line as they were written"
                    ) from None
                yield Correction(where, row["file"], number, row["text"], use)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(
                f"{path}:{line}: {shown(error, 120)}; save it as CSV in UTF-8 again"
            ) from None


def _checked(path: Path, known: set[str]) -> list[Correction]:
    """The corrections of the table, one a row of the data; `known` are the labels of these."""
    by_place: dict[tuple[str, int], Correction] = {}
    for correction in _read(path):
        other = by_place.setdefault((correction.file, correction.line), correction)
        if other.use != correction.use:
            raise DataError(
                f"{correction.where}: "
                f"{correction.file}:{correction.line} is to be '{shown(correction.use)}' here and "
                f"'{shown(other.use)}' at {other.where}; keep one of the two"
            )
    for where, _, _, _, use in by_place.values():
        if use == DROP and DROP in known:
            raise DataError(
                f"{where}: the data have a label '{DROP}', so it is not clear whether to leave "
                "the row out; change this row in the data themselves"
            )
        if use != DROP and use not in known:
            raise DataError(
                f"{where}: no row has the label '{shown(use)}', and it is not '{DROP}'."
                f"{nearest(use, known)}"
            )
    return list(by_place.values())


def _places(
    parts: Mapping[str, pa.Table], corrections: Sequence[Correction]
) -> dict[str, dict[int, Correction]]:
    """Which row of which part each correction is about."""
    files = {name: set(table["_file"].unique().to_pylist()) for name, table in parts.items()}
    wanted: dict[str, list[Correction]] = {}
    for correction in corrections:
        wanted.setdefault(correction.file, []).append(correction)
    places: dict[str, dict[int, Correction]] = {}
    for file, rows in wanted.items():
        name, real = _part_of(file, files, rows[0].where)
        here = np.flatnonzero(np.asarray(pc.equal(parts[name]["_file"].cast(pa.string()), real)))
        lines = np.asarray(parts[name]["_line"])[here]
        row_at = dict(zip(lines[::-1].tolist(), here[::-1].tolist(), strict=True))
        for correction in rows:
            if correction.line not in row_at:
                raise DataError(
                    f"{correction.where}: {real} has no row at line {correction.line}; {AGAIN}"
                )
            places.setdefault(name, {})[row_at[correction.line]] = correction
    return places


def _part_of(file: str, files: Mapping[str, set[str]], where: str) -> tuple[str, str]:
    """The part and the full name of a file; its folder may have another name by now."""
    for name, known in files.items():
        if file in known:
            return name, file
    alike = [(n, k) for n, known in files.items() for k in known if _name(k) == _name(file)]
    if len(alike) == 1:
        return alike[0]
    known = ", ".join(sorted(name for names in files.values() for name in names))
    many = "several files of that name" if alike else "no such file"
    raise DataError(
        f"{where}: the row is of {shown(file)}, and among the data ({shown(known, 120)}) there is "
        f"{many}; write the file as it is called there"
    )


def _name(file: str) -> str:
    return file.replace("\\", "/").rpartition("/")[2]


def _corrected(
    table: pa.Table,
    label: str,
    texts: Sequence[str],
    rows: Mapping[int, Correction],
    ledger: Ledger,
) -> tuple[pa.Table, list[dict[str, object]]]:
    """The table with its corrections, and which labels were changed."""
    changed: list[dict[str, object]] = []
    keep, mask = np.ones(len(table), bool), np.zeros(len(table), bool)
    values: list[str] = []
    for row, correction in sorted(rows.items()):
        file, line = str(table["_file"][row].as_py()), int(table["_line"][row].as_py())
        text = excerpt([table[name][row].as_py() for name in texts])
        if " ".join(correction.text.split()) != text:
            raise DataError(
                f"{correction.where}: "
                f"{file}:{line} has another text by now ('{shown(text)}'); {AGAIN}"
            )
        before = str(table[label][row].as_py() or "").strip()
        if correction.use == DROP:
            keep[row] = False
            ledger.drop(file, line, "left out by corrections", detail=correction.where)
        elif correction.use != before:
            mask[row] = True
            values.append(correction.use)
            changed.append({"file": file, "line": line, "from": before, "to": correction.use})
    if values:
        at, column = table.column_names.index(label), table[label]
        new = pc.replace_with_mask(column, pa.array(mask), pa.array(values, column.type))
        table = table.set_column(at, label, new)
    return table if keep.all() else table.filter(pa.array(keep)), changed
