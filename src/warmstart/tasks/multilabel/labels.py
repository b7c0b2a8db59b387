"""Any number of labels in a cell: a list, a text with a separator, or columns of 0 and 1."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.data.cells import WHOLE, as_text, parse_cell
from warmstart.data.ledger import place
from warmstart.errors import DataError, nearest, shown
from warmstart.formatting import counted

if TYPE_CHECKING:
    import pyarrow as pa


SEPARATORS = (",", ";", "|")
COLUMN = "label: "
"""Before the name of a column of 0 and 1, so that it can be called as anything."""
YES, NO = ("1", "true", "yes"), ("0", "false", "no", "")
SET, UNSET = ("1", "1.0", "true"), ("0", "0.0", "false")
"""Items of a vector."""
REPEATED = 3  # rows of a cell
NAMED = 5  # labels that are named in a message


def labels_of(
    table: pa.Table, columns: Sequence[str], separator: str | None, names: Sequence[str] = ()
) -> list[str] | None:
    """The labels of each row as a JSON list of strings, or None where the table has no labels.

    Args:
        columns: those of 0 and 1, in the table under `COLUMN` and their name.
        separator: between the labels of a text; None: guessed, "" if there is none.
        names: of the places of vectors of 0 and 1, in order.

    Raises `DataError` with file and line.
    """
    if columns:
        if COLUMN + columns[0] not in table.column_names:
            return None
        return _from_flags(table, columns)
    if "labels" not in table.column_names:
        return None
    cells = table["labels"].to_pylist()
    if separator is None:
        separator = guess_separator(cell for cell in cells if isinstance(cell, str))
    lists: list[list[str]] = []
    for row, cell in enumerate(cells):
        try:
            lists.append(parsed(cell, separator))
        except ValueError as error:
            raise DataError(f"{place(table, row)}: {error}") from None
    if are_vectors(lists):
        lists = _from_vectors(table, lists, names)
    return [json.dumps(list(dict.fromkeys(labels)), ensure_ascii=False) for labels in lists]


def parsed(cell: Any, separator: str) -> list[str]:
    """The labels of one cell, in order. Raises `ValueError`."""
    if cell is None:
        return []
    value = parse_cell(cell)
    if isinstance(value, str):
        text = value.strip()
        if text[:1] in ("[", "{"):
            raise ValueError(
                f"the labels {shown(text, 60)} begin as a list and are none; mend the row"
            )
        value = text.split(separator) if separator else [text]
    elif isinstance(value, Mapping):
        raise ValueError(f"labels {shown(value, 60)} is an object; give a list of labels")
    labels: list[str] = []
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, list | Mapping):
            raise ValueError(f"the label {shown(entry, 60)} is no name; give a list of names")
        name = "" if entry is None else str(entry).strip()
        labels += [name] if name else []
    return labels


def are_vectors(lists: Sequence[Sequence[str]]) -> bool:
    """Whether the labels are a 0 or 1 for each of several labels whose names are not told: nothing
    but these two, and one of them twice in a row, or equally many in every row."""
    filled = [labels for labels in lists if labels]
    if not filled or not all(name.lower() in SET + UNSET for labels in filled for name in labels):
        return False
    sizes = {len(labels) for labels in filled}
    return any(len(set(labels)) < len(labels) for labels in filled) or sizes == {2}


def _from_vectors(
    table: pa.Table, lists: Sequence[Sequence[str]], names: Sequence[str]
) -> list[list[str]]:
    """The names of the places that hold a 1. Raises `DataError`."""
    width = len(names) or max(map(len, lists))
    if not names:
        raise DataError(
            f"{table['_file'][0].as_py()}: the labels are vectors of 0 and 1, {width} in a row, "
            "and do not say what these stand for; name them in order: --task.names a,b,c"
        )
    for row, labels in enumerate(lists):
        if labels and len(labels) != width:
            raise DataError(
                f"{place(table, row)}: a vector of {counted(len(labels), 'label')}, and task.names "
                f"has {width}; mend the row, or name as many as there are"
            )
    return [
        [name for name, sign in zip(names, labels, strict=False) if sign.lower() in SET]
        for labels in lists
    ]


def separator_in(table: pa.Table) -> str | None:
    """What stands between the labels of a table; None where no cell says it."""
    if "labels" not in table.column_names:
        return None
    cells = [cell for cell in table["labels"].to_pylist() if isinstance(cell, str)]
    cells = [cell for cell in cells if isinstance(parse_cell(cell), str)]
    marked = any(mark in cell for cell in cells for mark in SEPARATORS)
    return guess_separator(cells) if marked else None


def guess_separator(cells: Iterable[str]) -> str:
    """What stands between the labels of texts: of those that occur the one that leaves the fewest
    different labels, for a wrong one leaves labels glued together; "" where none occurs, and where
    the cells are better not split (see `_are_whole`)."""
    every = [cell.strip() for cell in cells if isinstance(parse_cell(cell), str)]
    texts = {cell for cell in every if cell}
    best: tuple[int, int, str] | None = None
    for mark in SEPARATORS:
        used = sum(mark in text for text in texts)
        if used:
            distinct = {piece.strip() for text in texts for piece in text.split(mark)} - {""}
            best = min(best or (len(distinct), -used, mark), (len(distinct), -used, mark))
    if best is None or _are_whole(len(every), texts, best[2]):
        return ""
    return best[2]


def _are_whole(rows: int, texts: set[str], mark: str) -> bool:
    """Whether cells are labels as they are, such as `Food, Drink & Tobacco`: they come back whole,
    their pieces make no other cells, and there would be more labels if they were split."""
    pieces = Counter(piece for text in texts for piece in {p.strip() for p in text.split(mark)})
    parts = {p.strip() for text in texts if mark in text for p in text.split(mark)} - {""}
    again = sum(pieces[part] > 1 for part in parts)
    return len(texts) <= len(pieces) and 2 * again < len(parts) and rows >= REPEATED * len(texts)


def separator_for(labels: Sequence[str]) -> str:
    """What can stand between these labels so that they can be told apart again."""
    free = [mark for mark in SEPARATORS if not any(mark in label for label in labels)]
    return free[0] if free else "\t"


def _from_flags(table: pa.Table, columns: Sequence[str]) -> list[str]:
    rows: list[list[str]] = [[] for _ in range(len(table))]
    for column in columns:
        for row, value in enumerate(table[COLUMN + column].to_pylist()):
            word = WHOLE.sub("", (as_text(value) or "").strip().lower())
            if word in YES:
                rows[row].append(column)
            elif word not in NO:
                raise DataError(
                    f"{place(table, row)}: column '{shown(column)}' holds '{shown(value)}', and a "
                    "label that is a column is 0 or 1 in each row; mend it, or leave the column "
                    "out of task.label_columns"
                )
    return [json.dumps(row, ensure_ascii=False) for row in rows]


def sets_in(table: pa.Table) -> list[list[str]]:
    """The labels of each row."""
    return [json.loads(cell) for cell in table["labels"].to_pylist()]


def rarest(sets: Sequence[Iterable[str]]) -> list[str]:
    """Of each row's labels the one that fewest rows have; nothing where there are none. The order
    of Sechidis et al. 2011."""
    counts = Counter(name for names in sets for name in set(names))
    return [min(names, key=lambda name: (counts[name], name), default="") for names in sets]


def label_targets(table: pa.Table, labels: Sequence[str]) -> np.ndarray | None:
    """1 where a row has a label, else 0 [n, K]; None where the table has no labels.

    Labels that are not among `labels` count for nothing here (`unknown_labels` names them). Raises
    `DataError` where none of them is known.
    """
    if "labels" not in table.column_names:
        return None
    number = {label: index for index, label in enumerate(labels)}
    targets = np.zeros((len(table), len(labels)), np.int64)
    unknown: dict[str, int] = {}
    for row, names in enumerate(sets_in(table)):
        for name in names:
            if name in number:
                targets[row, number[name]] = 1
            else:
                unknown.setdefault(name, row)
    if unknown and not targets.any():
        name, row = next(iter(unknown.items()))
        raise DataError(
            f"{place(table, row)}: the model does not know the label '{shown(name)}', nor any "
            f"other label of these rows.{nearest(name, labels)} If a cell holds several labels, "
            "say what stands between them with --task.separator"
        )
    return targets


def unknown_labels(table: pa.Table, labels: Sequence[str]) -> str:
    """A sentence about labels that the model never saw, or nothing."""
    known = set(labels)
    counts = Counter(name for names in sets_in(table) for name in names if name not in known)
    if not counts:
        return ""
    names = listed([name for name, _ in counts.most_common()])
    return (
        f"{counted(len(counts), 'label')} of the test rows without any row in train: not scored, "
        f"though the model misses each: {names} ({counted(counts.total(), 'time')})."
    )


def listed(names: Sequence[str]) -> str:
    """The first labels of some, for a message."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(shown(name, 30) for name in names[:NAMED]) + more
