"""What can be wrong with labels: spellings, a single class, classes too rare, no classes at all."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from warmstart.data.cells import one_name_a_value
from warmstart.data.ledger import Ledger, place
from warmstart.data.tables import pc
from warmstart.errors import DataError, escaped, shown
from warmstart.formatting import counted

UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]")
SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u3000 ]")
FREE_TEXT_ROWS, FREE_TEXT_SHARE = 20, 0.5


class Coded(NamedTuple):
    """Labels as numbers (int64 for each row) and the names that the numbers stand for, sorted."""

    codes: np.ndarray
    names: list[str]


def coded(column: pa.ChunkedArray) -> Coded:
    """The labels of a column without nulls as numbers."""
    names = sorted(pc.unique(column).to_pylist())
    codes = pc.index_in(column, value_set=pa.array(names, pa.string()))
    return Coded(np.asarray(codes, np.int64), names)


def seen(name: str) -> str:
    """What is equal for labels that look alike: those that differ in case, in spaces around them,
    in characters that cannot be seen, or in how a character is put together (é: one, or two)."""
    plain = unicodedata.normalize("NFC", UNSEEN.sub("", name)).casefold()
    return unicodedata.normalize("NFC", " ".join(SPACES.split(plain.strip())))


def tidy(
    parts: dict[str, pa.Table], label: str, merge: bool, ledger: Ledger
) -> dict[str, pa.Table]:
    """The parts with labels free of outer spaces, and with one spelling for each label.

    Raises DataError when labels look alike (see `seen`), unless `merge`.
    """
    values = {name for table in parts.values() for name in pc.unique(table[label]).to_pylist()}
    if to := one_name_a_value(values):
        parts = {name: renamed(table, label, to) for name, table in parts.items()}
        listing = ", ".join(f"{old!r} is read as {new!r}" for old, new in sorted(to.items())[:5])
        ledger.note("labels", f"one name for one value: {listing}", renamed=to)
    counts: Counter[str] = Counter()
    for table in parts.values():
        labels = coded(table[label])
        sizes = np.bincount(labels.codes, minlength=len(labels.names)).tolist()
        counts.update(dict(zip(labels.names, sizes, strict=True)))
    groups: dict[str, list[str]] = {}
    for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        groups.setdefault(seen(name), []).append(name)
    torn = [group for group in groups.values() if len(group) > 1]
    if torn and not merge:
        described = "; ".join(
            " and ".join(f"'{look(name)}' ({counted(counts[name])})" for name in group)
            + f", the last first at {first_row(parts, label, group[-1])}"
            for group in torn[:3]
            for look in [_look(group)]
        )
        more = f"; and {len(torn) - 3} more" if len(torn) > 3 else ""
        raise DataError(
            f"labels that differ only in case, spaces or Unicode form: {described}"
            f"{more}. Mend them, or merge them with --data.merge_labels true"
        )
    for group in torn:
        ledger.note(
            "labels",
            f"merged {', '.join(repr(name) for name in group[1:])} into {group[0].strip()!r}",
            merged={name: counts[name] for name in group[1:]},
            into=group[0].strip(),
        )
    to = {name: group[0].strip() for group in groups.values() for name in group}
    if all(name == other for name, other in to.items()):
        return parts
    return {name: renamed(table, label, to) for name, table in parts.items()}


def _look(group: list[str]) -> Callable[[str], str]:
    """How labels are written in a message, so that they do not look alike."""
    seen_as = {
        " ".join(unicodedata.normalize("NFC", UNSEEN.sub("", name)).split()) for name in group
    }
    return shown if len(seen_as) == len(group) else escaped


def renamed(table: pa.Table, label: str, to: Mapping[str, str]) -> pa.Table:
    """The table with other names for some of its labels."""
    column = table[label]
    old = pc.unique(column)
    new = pa.array([to.get(name, name) for name in old.to_pylist()], pa.string())
    chunks = [new.take(pc.index_in(chunk, value_set=old)) for chunk in column.chunks]
    at = table.column_names.index(label)
    return table.set_column(at, label, pa.chunked_array(chunks, type=pa.string()))


def first_row(parts: dict[str, pa.Table], label: str, name: str) -> str:
    """file:line of the first row with this label."""
    for table in parts.values():
        row = pc.index(table[label], name).as_py()
        if row >= 0:
            return place(table, row)
    return "nowhere"


def check_classes(parts: dict[str, pa.Table], label: str, cutting: bool, ledger: Ledger) -> None:
    """Raises DataError unless the labels of train are classes that can be learned and scored.

    `cutting` says that validation or test are still to be cut from train, which needs two rows of
    every class.
    """
    train = parts["train"]
    labels = coded(train[label])
    file = train["_file"][0].as_py()
    if len(labels.names) == 1:
        raise DataError(
            f"{file}: every row has the label '{shown(labels.names[0])}'; a classifier needs at "
            "least two classes, so add rows of another or name another --data.columns.label"
        )
    if len(train) >= FREE_TEXT_ROWS and len(labels.names) > FREE_TEXT_SHARE * len(train):
        raise DataError(
            f"{file}: the label column has {len(labels.names):,} different values in "
            f"{len(train):,} rows (such as '{shown(labels.names[0], 30)}'), so it looks like free "
            "text or a measurement, not classes; name another with --data.columns.label NAME"
        )
    sizes = np.bincount(labels.codes)
    rare = [name for name, size in zip(labels.names, sizes, strict=True) if size < 2]
    if rare and cutting:
        listing = ", ".join(
            f"'{shown(name, 30)}' ({first_row({'train': train}, label, name)})" for name in rare[:5]
        )
        more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
        raise DataError(
            f"one row alone has the label {listing}{more}; a class needs at least two rows to be "
            "both learned and tested, so add rows, merge the class into another or delete the row"
        )
    if rare:
        message = f"{counted(len(rare), 'class has', 'classes have')} one row in train"
        ledger.note("rare", message, classes=rare)
    for split in (name for name in ("validation", "test") if name in parts):
        strange = sorted(set(pc.unique(parts[split][label]).to_pylist()) - set(labels.names))
        if strange:
            row = first_row({split: parts[split]}, label, strange[0])
            more = f" (and {len(strange) - 1} more such labels)" if len(strange) > 1 else ""
            raise DataError(
                f"{row}: the label '{shown(strange[0])}' of {split} never occurs in train{more}; "
                "add rows of it to train, or correct or delete the row"
            )
