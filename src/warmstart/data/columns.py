"""Which column plays which role, and its values as text."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.cells import as_text
from warmstart.data.ledger import Ledger
from warmstart.data.settings import DELIMITER_NAMES, NO_DELIMITER
from warmstart.data.tables import CHUNK, MAX_CELL, pc, too_long
from warmstart.errors import DataError, UnknownNameError, nearest, shown

OURS = ("_file", "_line")
LISTED = 8  # columns in a message
LOOKED_AT = 5_000  # rows
WORDY, MANY_TO_A_CLASS = 3, 10  # words of a text; rows of a class
SENTENCE = 5  # words
NUMBER = re.compile(r"-?\d+([.,]\d+)?")


def map_roles(
    table: pa.Table,
    roles: Mapping[str, Sequence[str]],
    named: Mapping[str, str],
    required: Collection[str],
    nested: AbstractSet[str] = frozenset(),
    ledger: Ledger | None = None,
) -> pa.Table:
    """The columns of the roles, under the names of the roles, plus `_file` and `_line`.

    `roles` gives for each role the column names that mean it, best first, in any case; `named`
    wins, and may name several columns with commas between, whose texts are joined by a new line.
    Values become strings (3 and 3.0 are "3", a ClassLabel its name), but in the roles of
    `nested` lists and structs stay. A role that is not required may be absent. Raises DataError
    with the columns there are, UnknownNameError for a role that does not exist. The ledger is told
    which column was taken for what, and which are not read.
    """
    for role in named:
        if role not in roles:
            raise UnknownNameError("role", role, roles, "--data.columns")
    file = str(table.column("_file")[0].as_py()) if len(table) else "the data"
    columns = [name for name in table.column_names if name not in OURS]
    assigned = assign(file, columns, roles, named)
    missing = [role for role in roles if role in required and role not in assigned]
    if missing:
        raise _missing(table, columns, roles, missing, assigned)
    if ledger is not None:
        _describe(table, assigned, roles, named, ledger)
    classes = _class_names(table)
    arrays: dict[str, Any] = {}
    for role, column in assigned.items():
        several = columns_in(column, columns)
        if len(several) > 1:
            arrays[role] = _joined(table, several, file, role)
            continue
        values = _chunked(table.column(column))
        if column in classes:
            is_list = pa.types.is_list(values.type) or pa.types.is_large_list(values.type)
            arrays[role] = (_named_lists if is_list else _named)(values, classes[column])
        elif role in nested:
            arrays[role] = values
        else:
            arrays[role] = _strings(values, file, role, column)
            lengths = pc.fill_null(pc.utf8_length(arrays[role]), 0).to_numpy()
            if lengths.max(initial=0) > MAX_CELL:
                row = int((lengths > MAX_CELL).argmax())
                raise too_long(table["_file"][row].as_py(), table["_line"][row].as_py(), column)
    return pa.table(arrays | {name: _chunked(table.column(name)) for name in OURS})


def assign(
    file: str,
    columns: list[str],
    roles: Mapping[str, Sequence[str]],
    named: Mapping[str, str],
) -> dict[str, str]:
    """Role to column: those named by the user first, then by the usual names, each column once.
    Several columns with commas between are read as one text (see `columns_in`)."""
    for role, column in named.items():
        for name in columns_in(column, columns):
            if name not in columns:
                raise DataError(
                    f"{file} has no column '{shown(name)}'.{nearest(name, columns)} Name the "
                    f"column with --data.columns.{role} NAME"
                )
    assigned: dict[str, str] = {}
    for role, candidates in roles.items():
        taken = {name for c in {**assigned, **named}.values() for name in columns_in(c, columns)}
        by_lower: dict[str, str] = {}
        for column in columns:
            if column not in taken:
                by_lower.setdefault(column.strip().lower(), column)
        parts = ([by_lower.get(part) for part in columns_in(c, by_lower)] for c in candidates)
        guess = next((",".join(filter(None, names)) for names in parts if all(names)), None)
        column = named.get(role, guess)
        if column is not None:
            assigned[role] = column
    return assigned


JOINT = "\n"
"""Between the columns that are read as one text."""


def columns_in(named: str, columns: Collection[str]) -> list[str]:
    """The columns that a name stands for: itself, or, where there is none of this name, those
    between its commas, as in title,body."""
    parts = [part.strip() for part in named.split(",")]
    return parts if named not in columns and len(parts) > 1 and all(parts) else [named]


def _joined(table: pa.Table, names: Sequence[str], file: str, role: str) -> pa.ChunkedArray:
    """Several columns as one text a row, a new line between; what is empty is left out."""
    texts = [_strings(_chunked(table.column(name)), file, role, name) for name in names]
    rows = zip(*(values.to_pylist() for values in texts), strict=True)
    whole = [JOINT.join(cell for cell in row if cell and cell.strip()) for row in rows]
    return _chunked(pa.chunked_array([pa.array(whole, pa.string())]))


def _describe(
    table: pa.Table,
    assigned: Mapping[str, str],
    roles: Mapping[str, Sequence[str]],
    named: Mapping[str, str],
    ledger: Ledger,
) -> None:
    """Tell the ledger the columns of each file, once where those of the next are the same."""
    names = table.column_names
    used = {name for column in assigned.values() for name in columns_in(column, names)}
    unused = [name for name in names if name not in OURS and name not in used]
    files = pc.unique(table["_file"]).to_pylist()
    for file in files:
        ledger.describe(file, columns=dict(assigned), unused=unused)
    sentence = in_words(assigned, unused)
    doubts = [
        doubt for name in unused if (doubt := _doubt(table, name, assigned, roles, named))
    ]  # fmt: skip
    if not any(n["kind"] == "columns" and n["columns"] == sentence for n in ledger.notes):
        how = reading_words(ledger.reading.get(files[0], {})) if files else ""
        where = f"{files[0]}{how}: " if files else ""
        message = where + "; ".join([sentence, *doubts])
        plain = all(role == column for role, column in assigned.items())
        ledger.note(
            "columns", message, columns=sentence, unused=unused, plain=plain, loud=bool(doubts)
        )


def reading_words(how: Mapping[str, Any]) -> str:
    """` (cp1250, semicolon, no header)`: how a file of text was read; nothing for others."""
    mark = how.get("delimiter")
    words = [
        "UTF-8" if how.get("encoding") == "utf-8" else how.get("encoding"),
        DELIMITER_NAMES.get(mark, mark) if mark and mark != NO_DELIMITER else None,
        "no header" if how.get("header") is False else None,
        "plain quotes" if how.get("quoting") is False else None,
    ]
    known = [word for word in words if word]
    return f" ({', '.join(known)})" if known else ""


def in_words(assigned: Mapping[str, str], unused: Sequence[str]) -> str:
    """`text = sentence, label = label; not read: question`."""
    plain = {role: column for role, column in assigned.items() if role.isidentifier()}
    parts = [f"{role} = {shown(column, 40)}" for role, column in plain.items()]
    if others := len(assigned) - len(plain):
        parts.append(f"{others} columns of labels")
    more = f" and {len(unused) - LISTED} more" if len(unused) > LISTED else ""
    rest = ", ".join(shown(name, 40) for name in unused[:LISTED]) + more
    return ", ".join(parts) + (f"; not read: {rest}" if unused else "")


def _doubt(
    table: pa.Table,
    name: str,
    assigned: Mapping[str, str],
    roles: Mapping[str, Sequence[str]],
    named: Mapping[str, str],
) -> str:
    """What a column that is not read may be needed for; nothing where the user has named those
    that are."""
    plain = name.strip().lower()
    for role, usual in roles.items():
        if plain in usual and role in assigned and role not in named:
            return f"'{shown(name, 40)}' could be the {role} too (--data.columns.{role} NAME)"
    single = {"text", "label"} <= assigned.keys() and not {"text", "label"} & named.keys()
    values = table[name].slice(0, LOOKED_AT)
    if not single or not pa.types.is_string(values.type) or not len(values):
        return ""
    distinct = len(pc.unique(values)) / len(values)
    words = pc.mean(pc.count_substring_regex(pc.fill_null(values, ""), r"\S+")).as_py()
    if words >= WORDY and distinct > 0.5 and assigned["text"].strip().lower() != "text":
        return (
            f"'{shown(name, 40)}' holds texts too (if the label is about both, take --task pairs)"
        )
    odd_label = assigned["label"].strip().lower() not in ("label", "labels")
    if odd_label and len(values) >= MANY_TO_A_CLASS and distinct * MANY_TO_A_CLASS <= 1:
        return f"'{shown(name, 40)}' holds classes too (--data.columns.label NAME)"
    return ""


def _missing(
    table: pa.Table,
    columns: list[str],
    roles: Mapping[str, Sequence[str]],
    missing: list[str],
    assigned: Mapping[str, str],
) -> DataError:
    file = table["_file"][0].as_py() if len(table) else "the data"
    ours = [role for role in missing if role.isidentifier()] or missing
    listing = ", ".join(shown(column, 30) for column in columns[:30])
    free = sorted(column for column in columns if column not in assigned.values())
    names = [name for role in ours for name in roles[role]]
    guesses = {near for name in names for near in get_close_matches(name, free, 1, 0.5)}
    guess = f" Did you mean '{min(guesses)}'?" if guesses else ""
    if not ours[0].isidentifier():  # a column that a setting of the task names
        name = ours[0].partition(": ")[2]
        return DataError(
            f"{file} has no column '{shown(name)}'; its columns are: {listing}.{guess} Call the "
            "column so in the file, or mend --task.label_columns"
        )
    taken = ""
    for role in ours:
        other = next((o for o in assigned if assigned[o].strip().lower() in roles[role]), None)
        if other is not None:
            taken += f" '{shown(assigned[other])}' would be the {role}, and is taken as {other} "
            taken += "already."
    flags = " ".join(f"--data.columns.{role} NAME" for role in ours)
    if headless(table):
        return no_header(file, listing, dict.fromkeys(ours, "N"))
    return DataError(
        f"{file} has no column for {' and '.join(ours)}; its columns are: {listing}.{taken}{guess} "
        f"Name it with {flags}"
    )


def no_header(
    file: str, listing: str, numbers: Mapping[str, int | str], command: str = ""
) -> DataError:
    """Why the columns of such a file have no names, and how to number them, from 1, behind the
    words of a command; `numbers`: role → number."""
    numbered = " ".join(f"--data.columns.{role} 'column {n}'" for role, n in numbers.items())
    return DataError(
        f"{file}: the first row looks like data, not like the names of columns ({listing}); if the "
        f"file has no header, number its columns: {command}--data.header false {numbered}"
    )


def headless(table: pa.Table) -> bool:
    """Whether the names of the columns look like a row: one is a value of its own column, a number,
    or as long as a sentence."""
    for name in table.column_names:
        if name in OURS or not pa.types.is_string(table[name].type):
            continue
        bare = name.strip()
        if NUMBER.fullmatch(bare) or len(bare.split()) >= SENTENCE:
            return True
        if pc.index(table[name], name).as_py() >= 0:
            return True
    return False


def _chunked(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values in chunks of at most CHUNK rows, without a copy."""
    chunks = [
        chunk.slice(start, CHUNK)
        for chunk in column.chunks
        for start in range(0, len(chunk), CHUNK)
    ]
    return pa.chunked_array(chunks, type=column.type)


def _strings(column: pa.ChunkedArray, file: str, role: str, name: str) -> pa.ChunkedArray:
    """The values as strings, null where there is none."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _strings(column.cast(kind.value_type), file, role, name)
    if pa.types.is_string(kind):
        return column
    if pa.types.is_floating(kind):
        return _floats(column)
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise DataError(
            f"{file}: column '{shown(name)}' holds {kind} values, which cannot be the {role}; name "
            f"another column with --data.columns.{role} NAME"
        )
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise DataError(
            f"{file}: column '{shown(name)}' of type {kind} cannot be read as {role} "
            f"({shown(error)}); name another with --data.columns.{role} NAME"
        ) from None


def _floats(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """3.0 as "3", 0.5 as "0.5" in any width, NaN as null: a label that pandas turned into a float
    is mended."""
    column = column.cast(pa.float32()) if column.type == pa.float16() else column
    distinct = pc.unique(column)
    words = pa.array([as_text(x) for x in distinct.to_numpy(zero_copy_only=False)], pa.string())
    chunks = [words.take(pc.index_in(chunk, value_set=distinct)) for chunk in column.chunks]
    return pa.chunked_array(chunks, type=pa.string())


def _class_names(table: pa.Table) -> dict[str, list[str]]:
    """Column to class names, from the features that `datasets` keeps in the schema; a column of
    lists of classes has those of its items."""
    raw = (table.schema.metadata or {}).get(b"huggingface")
    if not raw:
        return {}
    features = json.loads(raw).get("info", {}).get("features", {})
    names: dict[str, list[str]] = {}
    for name, feature in features.items():
        inner = feature[0] if isinstance(feature, list) and feature else feature
        inner = inner.get("feature", inner) if isinstance(inner, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
            names[name] = inner["names"]
    return names


def _named_lists(column: pa.ChunkedArray, names: list[str]) -> pa.ChunkedArray:
    """Lists of class numbers as lists of their names; null for a number that has none."""
    chunks: list[Any] = []
    for chunk in column.cast(pa.list_(pa.int64())).chunks:
        items = _named(pa.chunked_array([chunk.flatten()], pa.int64()), names).combine_chunks()
        lengths = np.asarray(pc.fill_null(pc.list_value_length(chunk), 0), np.int32)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        chunks.append(pa.ListArray.from_arrays(offsets, items, mask=chunk.is_null()))
    return pa.chunked_array(chunks, pa.list_(pa.string()))


def _named(column: pa.ChunkedArray, names: list[str]) -> pa.ChunkedArray:
    """The names of class numbers; null for -1 and whatever else has no name."""
    words = pa.array(names, pa.string())
    numbers = [np.asarray(pc.fill_null(chunk, -1), np.int64) for chunk in column.chunks]
    chunks = [
        words.take(pa.array(number, mask=(number < 0) | (number >= len(names))))
        for number in numbers
    ]
    return pa.chunked_array(chunks, type=pa.string())
