"""Train, validation and test: gathered, cleaned, kept apart, and cut where they are missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.columns import map_roles
from warmstart.data.corrections import correct
from warmstart.data.dedup.clusters import Copies, find_copies, group_values, joined
from warmstart.data.dedup.exact import hashed
from warmstart.data.dedup.leakage import (
    hanging_together,
    kept_together,
    near_rows,
    note_leakage,
    note_repeats,
)
from warmstart.data.labels import check_classes, coded, tidy
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read_splits
from warmstart.data.sampling import TEST, TRAIN, VALIDATION, cut
from warmstart.data.settings import Data
from warmstart.data.tables import is_blank, pc
from warmstart.errors import DataError, shown
from warmstart.formatting import counted

# A stamp of the data, so that a run is not resumed on other rows than it began with.


def fingerprint(parts: Mapping[str, pa.Table]) -> str:
    """sha256 over the values of the role columns, whatever their chunks."""
    whole = hashlib.sha256()
    for split, table in parts.items():
        for role in table.column_names:
            if role not in ("_file", "_line"):
                whole.update(f"{split}\0{role}\0{len(table)}\0".encode())
                whole.update(_column_digest(table[role]))
    return whole.hexdigest()


def _column_digest(column: pa.ChunkedArray) -> bytes:
    values, lengths = hashlib.sha256(), hashlib.sha256()
    for chunk in column.chunks:
        if pa.types.is_string(chunk.type):
            sizes = pc.fill_null(pc.cast(pc.binary_length(chunk), pa.int64()), -1)
            lengths.update(np.ascontiguousarray(sizes).tobytes())
            values.update("".join(filter(None, chunk.to_pylist())).encode())
        else:
            for value in chunk.to_pylist():
                values.update(json.dumps(value, default=str).encode() + b"\n")
    return values.digest() + lengths.digest()


Rows = Callable[[pa.Table, Callable[[int, str], None]], pa.Table]
"""(table, drop(row, reason)) → the table in a task's own form, without the dropped rows."""
SIDES = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Three tables of role columns, `_file` and `_line`, and what is known about them.

    `given` says which splits came from their own source; the others were cut from train, and have
    no rows if their fraction was 0. `fingerprint` is the sha256 of all that was read in the role
    columns. `leakage` counts the texts, nearly equal texts and groups that given splits share (see
    `note_leakage`).
    """

    train: pa.Table
    validation: pa.Table
    test: pa.Table
    given: dict[str, bool]
    fingerprint: str
    leakage: dict[str, Any]


def load(
    settings: Data,
    roles: Mapping[str, Sequence[str]],
    required: Collection[str],
    seed: int,
    ledger: Ledger,
    source: Any = None,
    label: str | None = "label",
    *,
    texts: Sequence[str] | None = None,
    nested: AbstractSet[str] = frozenset(),
    rows: Rows | None = None,
    together: str | None = None,
    strata: Callable[[pa.Table], Sequence[str] | None] | None = None,
    taken: Mapping[int, int] | None = None,
) -> Splits:
    """Read, clean and split the data; `source` stands in for `settings.path`.

    Rows without text or label are dropped, and rows of train whose text is, or nearly is, in a
    given validation or test split. What is cut off never parts texts that are nearly equal, nor
    rows of one value of the group column; it depends on the seed and the rows alone. Raises
    DataError for data that cannot be used, RecipeError for a request that cannot be met.

    Args:
        label: the column of one class a row, or None.
        texts: the columns by which rows are copies of each other; unset: all required but `label`.
        nested: roles whose values may be lists or structs.
        rows: brings the columns of one source into the task's own form; told where rows go.
        together: a column whose rows of one value are not parted where no group is named.
        strata: gives each row of train a word, in the place of `label` where there is none.
        taken: key of a text (`text_keys`) → the side on which it stands in other data of the run,
            and on which it is to stand here where these are cut.
    """
    parts = _read_all(settings, roles, required, ledger, source, nested, rows, label)
    stamp = fingerprint(parts)
    if texts is None:
        texts = [role for role in roles if role in required and role != label]
    label = label if label is not None and label in parts["train"].column_names else None
    parts = _clean(parts, texts, label, settings, ledger)
    targets = [label] if label else [role for role in roles if role not in (*texts, "id")]
    copies = find_copies(parts, texts, settings.similarity, targets=targets)
    keys = copies.by_split(hashed(copies.texts)[copies.rows])
    leakage = note_leakage(parts, keys, copies, settings.group, ledger)
    kept = _unleaked(parts, keys, copies, ledger, near=settings.near_copies == "drop")
    if {"validation", "test"} <= set(parts):
        parts["validation"] = _unseen(parts["validation"], keys, ledger)
    train = parts["train"] = parts["train"].filter(pa.array(kept))
    alike, numbers = keys["train"][kept], copies.by_split(copies.rows)["train"][kept]
    ledger.check(settings.max_dropped)
    given = {name: name in parts for name in SIDES}
    shares = {"validation": settings.validation_fraction, "test": settings.test_fraction}
    shares |= {name: 0.0 for name in shares if given[name]}
    if label:
        check_classes(parts, label, any(shares.values()), ledger)
    codes = coded(train[label]).codes if label else None
    classes = _classes(train, codes, strata)
    own, grouped = alike, "_group" if settings.group else together
    if any(shares.values()):
        values = group_values(train, grouped) if grouped else None
        own = kept_together(own, numbers, copies, values, ledger)
    units = _units(parts["test"], keys["test"], copies, grouped) if "test" in parts else None
    if settings.group:
        parts = {name: table.drop_columns("_group") for name, table in parts.items()}
    seed = seed if settings.split_seed is None else settings.split_seed
    side = _cut(classes, own, shares, seed, _taken(alike, own, taken, shares))
    note_repeats(train, alike, numbers, codes, side, copies, ledger)
    tested = copies.by_split(copies.rows)["test"] if "test" in parts else numbers[side == TEST]
    near = _near_train(numbers[side == TRAIN], tested, copies)
    del copies, keys, alike, numbers, train
    parts |= _cut_off(parts.pop("train"), side, shares, given, own, settings.group or together)
    test = with_units(parts["test"], own[side == TEST] if units is None else units)
    parts["test"] = test.append_column("_near", pa.array(near)) if near.any() else test
    for name in SIDES:
        ledger.keep(name, len(parts[name]))
    return Splits(**parts, given=given, fingerprint=stamp, leakage=leakage)


def _clean(
    parts: Mapping[str, pa.Table],
    texts: Sequence[str],
    label: str | None,
    settings: Data,
    ledger: Ledger,
) -> dict[str, pa.Table]:
    """Without rows that have no text or label, with labels corrected and spelt in one way."""
    clean = {
        name: _some_left(table, _without_empty(table, texts, label, ledger), ledger)
        for name, table in parts.items()
    }
    if label and settings.corrections:
        clean = correct(clean, label, settings.corrections, ledger, texts)
    return tidy(clean, label, settings.merge_labels, ledger) if label else clean


def _classes(
    train: pa.Table,
    codes: np.ndarray | None,
    strata: Callable[[pa.Table], Sequence[str] | None] | None,
) -> np.ndarray:
    """The class by which each row of train is dealt out: of its label, of its word, or none."""
    if codes is not None:
        return codes
    if strata is not None and (words := strata(train)) is not None:
        return coded(pa.chunked_array([pa.array(words, pa.string())])).codes
    return np.zeros(len(train), np.int64)


def own_rows(table: pa.Table, rows: Rows, ledger: Ledger) -> pa.Table:
    """The table in the task's own form; the rows that it cannot use go to the ledger."""

    def drop(row: int, reason: str) -> None:
        ledger.drop(table["_file"][row].as_py(), table["_line"][row].as_py(), reason)

    return rows(table, drop)


def _read_all(
    settings: Data,
    roles: Mapping[str, Sequence[str]],
    required: Collection[str],
    ledger: Ledger,
    source: Any,
    nested: AbstractSet[str],
    rows: Rows | None,
    label: str | None,
) -> dict[str, pa.Table]:
    parts: dict[str, pa.Table] = {}
    for name, _, table in read_splits(settings, source, ledger):
        mapped = map_roles(table, roles, settings.columns, required, nested, ledger)
        if settings.group:
            mapped = mapped.append_column("_group", group_values(table, settings.group))
        own = mapped if rows is None else own_rows(mapped, rows, ledger)
        parts[name] = _some_left(mapped, own, ledger)
    return parts if label is None else _without_hidden(parts, label, ledger)


def _without_hidden(parts: dict[str, pa.Table], label: str, ledger: Ledger) -> dict[str, pa.Table]:
    """Where the labels of test are hidden, as those of a benchmark are (-1, or none at all), the
    rows of validation stand for it, and validation is cut from train."""
    if "test" not in parts or not _is_hidden(parts["test"], label):
        return parts
    if _is_hidden(parts["train"], label):
        return parts  # a column without labels, which is told elsewhere
    test = parts.pop("test")
    file, rows = test["_file"][0].as_py(), counted(len(test))
    ledger.put_aside(file, len(test))
    instead = "a test split is cut from train"
    if "validation" in parts and not _is_hidden(parts["validation"], label):
        parts["test"] = parts.pop("validation")
        instead = "the model is tested on the rows of validation, and validation is cut from train"
    message = f"{file}: the {rows} of test have hidden labels (-1, or none), so {instead}"
    ledger.note("hidden", message, rows=len(test), loud=True)
    return parts


def _is_hidden(table: pa.Table, label: str) -> bool:
    if label not in table.column_names:
        return False
    bare = pc.utf8_trim_whitespace(pc.fill_null(table[label], ""))
    return pc.all(pc.is_in(bare, pa.array(["", "-1", "-1.0"]))).as_py()


def _some_left(before: pa.Table, after: pa.Table, ledger: Ledger) -> pa.Table:
    """The table `after` rows were dropped. Raises DataError if none of those `before` is left."""
    if not len(after):
        raise ledger.nothing_left(before["_file"][0].as_py())
    return after


def _without_empty(
    table: pa.Table, texts: Sequence[str], label: str | None, ledger: Ledger
) -> pa.Table:
    """The rows that have all their texts and their label; the others go to the ledger."""
    lost = np.zeros(len(table), bool)
    for role in [*texts, *([label] if label else [])]:
        if role not in table.column_names:
            file = table["_file"][0].as_py() if len(table) else "the data"
            raise DataError(
                f"{file} has no column for {role}; name it with --data.columns.{role} NAME"
            )
        blank = is_blank(table[role])
        if blank.all():
            raise DataError(
                f"{table['_file'][0].as_py()}: the {role} of every row is empty; name another "
                f"column with --data.columns.{role} NAME"
            )
        ledger.drop_rows(table, blank & ~lost, f"empty {role}")
        lost |= blank
    return table.filter(pa.array(~lost)) if lost.any() else table


def _unleaked(
    parts: dict[str, pa.Table],
    keys: dict[str, np.ndarray],
    copies: Copies,
    ledger: Ledger,
    near: bool,
) -> np.ndarray:
    """Which rows of train stay: those whose text is not (nor, with `near`, nearly) in test or
    validation."""
    train, own = parts["train"], keys["train"]
    lost = np.zeros(len(train), bool)
    given = [split for split in ("test", "validation") if split in parts]
    for words, nearly in (("also in", False), ("nearly also in", True))[: 1 + near]:
        for split in given:
            shared = near_rows(copies, "train", split) if nearly else np.isin(own, keys[split])
            ledger.drop_rows(train, shared & ~lost, f"{words} {split}")
            lost |= shared
    if lost.all():
        file = train["_file"][0].as_py()
        raise DataError(
            f"{file}: every row is also in test or validation, or nearly; give other rows to train"
        )
    return ~lost


def _unseen(validation: pa.Table, keys: dict[str, np.ndarray], ledger: Ledger) -> pa.Table:
    """The rows of a given validation split whose text is not in test: by the others epoch,
    thresholds and temperature would be chosen on test texts."""
    shared = np.isin(keys["validation"], keys["test"])
    ledger.drop_rows(validation, shared, "validation row also in test")
    if shared.all():
        raise DataError(
            f"{validation['_file'][0].as_py()}: every row of validation is also in test; give "
            "other rows, or leave the validation split out, and it is cut from train"
        )
    return validation.filter(pa.array(~shared)) if shared.any() else validation


def _near_train(train: np.ndarray, test: np.ndarray, copies: Copies) -> np.ndarray:
    """Which rows of test nearly repeat a text of train; both are numbers of texts."""
    there, near = np.zeros(len(copies.texts), bool), np.zeros(len(copies.texts), bool)
    there[train] = True
    near[copies.right[there[copies.left]]] = True
    near[copies.left[there[copies.right]]] = True
    return near[test]


def _taken(
    keys: np.ndarray, own: np.ndarray, taken: Mapping[int, int] | None, shares: Mapping[str, float]
) -> np.ndarray:
    """The side on which each row has to stand, -1 where it is free: the latest of those of the rows
    that hang together with it, among the sides that are cut off."""
    sides = np.full(len(keys), -1, np.int64)
    if not taken or not any(shares.values()):
        return sides
    cut_off = {TRAIN, *(SIDES[name] for name, share in shares.items() if share)}
    wanted = np.array([taken.get(key, -1) for key in keys.tolist()], np.int64)
    wanted[~np.isin(wanted, list(cut_off))] = -1
    _, group = np.unique(own, return_inverse=True)
    latest = np.full(int(group.max(initial=-1)) + 1, -1, np.int64)
    np.maximum.at(latest, group, wanted)
    return latest[group]


def _cut(
    classes: np.ndarray, own: np.ndarray, shares: Mapping[str, float], seed: int, side: np.ndarray
) -> np.ndarray:
    """The side of each row; those whose `side` is -1 are dealt out."""
    free = side < 0
    if free.any():
        side = side.copy()
        side[free] = cut(classes[free], own[free], shares["validation"], shares["test"], seed)
    return side


def _units(test: pa.Table, keys: np.ndarray, copies: Copies, grouped: str | None) -> np.ndarray:
    """Numbers [n], equal for rows of a test split that hang together."""
    values = group_values(test, grouped) if grouped and grouped in test.column_names else None
    return hanging_together(keys, copies.by_split(copies.rows)["test"], copies, values)[0]


def with_units(table: pa.Table, units: np.ndarray) -> pa.Table:
    """The table with the column `_unit` where some of its rows hang together: these count as one
    when it is asked how sure a figure is."""
    _, numbers = np.unique(units, return_inverse=True)
    if len(numbers) == numbers.max(initial=-1) + 1:
        return table
    return table.append_column("_unit", pa.array(numbers.reshape(-1).astype(np.int64)))


def row_units(table: pa.Table, groups: np.ndarray | None = None) -> np.ndarray | None:
    """Numbers [n], equal for rows that hang together, and for those of one number in `groups`; None
    where each stands for itself."""
    units = np.asarray(table["_unit"]) if "_unit" in table.column_names else None
    if groups is None or units is None:
        return units if groups is None else groups
    numbers, both = np.unique(groups, return_inverse=True)[1].reshape(-1), len(groups)
    return joined(both + len(groups), units, both + numbers)[units]


def units_of(
    table: pa.Table, texts: Sequence[str], settings: Data, together: str | None
) -> np.ndarray:
    """Numbers [n], equal for rows whose texts are copies, or nearly, or that are of one value of
    the column `_group`, where there is one, or `together`."""
    copies = find_copies({"test": table}, texts, settings.similarity)
    keys = hashed(copies.texts)[copies.rows]
    return _units(table, keys, copies, "_group" if settings.group else together)


def _cut_off(
    train: pa.Table,
    side: np.ndarray,
    shares: Mapping[str, float],
    given: Mapping[str, bool],
    own: np.ndarray,
    group: str | None,
) -> dict[str, pa.Table]:
    """The tables that come out of train: train itself and the splits that were not given.

    Rows of one number in `own` stay on one side: those of one text, or of one value of `group`.
    """
    for name, share in shares.items():
        if share and not (side == SIDES[name]).any():
            held, groups = "", len(np.unique(own))
            if groups < len(own):
                alike = f"one text or one value of '{shown(group)}'" if group else "one text"
                held = f" in {counted(groups, 'group')} that stay together (those of {alike}, "
                held += "or nearly)"
            instead = "do without with --data.validation_fraction 0"
            if name == "test":
                instead = "give rows to test on with --data.test FILE"
            raise DataError(
                f"{train['_file'][0].as_py()}: {counted(len(train), 'row')}{held} "
                f"{'is' if len(train) == 1 else 'are'} too few to cut off a {name} split; add "
                f"{'rows of other kinds' if held else 'rows'}, or {instead}"
            )
    schema, batches = train.schema, train.to_batches()
    del train  # each batch is freed once it is dealt out, so that two copies never stand together
    wanted = [name for name in SIDES if name == "train" or not given[name]]
    dealt: dict[str, list[pa.RecordBatch]] = {name: [] for name in wanted}
    end = len(side)
    while batches:
        batch = batches.pop()
        end -= len(batch)
        here = side[end : end + len(batch)]
        for name, rows in dealt.items():
            rows.append(batch.filter(pa.array(here == SIDES[name])))
    return {name: pa.Table.from_batches(rows[::-1], schema) for name, rows in dealt.items()}
