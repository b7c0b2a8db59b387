"""Train, validation and test: gathered, cleaned, kept apart, and cut where they are missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.arrow import pc
from warmstart.data.columns import map_roles
from warmstart.data.duplicates import note_repeats, shared_texts, text_keys
from warmstart.data.fingerprint import fingerprint
from warmstart.data.gather import gather
from warmstart.data.labels import check_classes, coded, tidy
from warmstart.data.ledger import Ledger
from warmstart.data.objects import kind_name
from warmstart.data.settings import Data
from warmstart.data.sources import read
from warmstart.data.stratify import TEST, TRAIN, VALIDATION, cut
from warmstart.errors import DataError

SIDES = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Three tables of role columns, `_file` and `_line`, and what is known about them.

    `given` says which splits came from their own source; the others were cut from train, and have
    no rows if their fraction was 0. `fingerprint` is the sha256 of all that was read in the role
    columns. `leakage` counts the texts that given splits share (see `shared_texts`).
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
) -> Splits:
    """Read, clean and split the data; `source` stands in for `settings.path`.

    Rows without text or label are dropped, and rows of train whose text is in a given validation
    or test split. Which rows are cut off depends on the seed and the rows alone. Raises DataError
    for data that cannot be used, RecipeError for a request that cannot be met.
    """
    parts = _read_all(settings, roles, required, ledger, source)
    stamp = fingerprint(parts)
    texts = [role for role in roles if role in required and role != label]
    label = label if label is not None and label in parts["train"].column_names else None
    parts = {name: _without_empty(table, texts, label, ledger) for name, table in parts.items()}
    if label:
        parts = tidy(parts, label, settings.merge_labels, ledger)
    keys = {name: text_keys(table, texts) for name, table in parts.items()}
    leakage = shared_texts(parts, keys, ledger)
    parts["train"], keys["train"] = _unleaked(parts, keys, ledger)
    ledger.check(settings.max_dropped)
    given = {name: name in parts for name in SIDES}
    shares = _shares(settings, given)
    if label:
        check_classes(parts, label, any(shares.values()), ledger)
    codes = coded(parts["train"][label]).codes if label else None
    note_repeats(keys["train"], codes, ledger)
    codes = np.zeros(len(parts["train"]), np.int64) if codes is None else codes
    side = cut(codes, keys["train"], shares["validation"], shares["test"], seed)
    parts |= _cut_off(parts.pop("train"), side, shares, given)
    for name in SIDES:
        ledger.keep(name, len(parts[name]))
    return Splits(**parts, given=given, fingerprint=stamp, leakage=leakage)


def _read_all(
    settings: Data,
    roles: Mapping[str, Sequence[str]],
    required: Collection[str],
    ledger: Ledger,
    source: Any,
) -> dict[str, pa.Table]:
    parts: dict[str, pa.Table] = {}
    for name, origin in gather(settings, source, ledger).items():
        table = read(
            origin,
            delimiter=settings.delimiter,
            encoding=settings.encoding,
            limit=settings.limit,
            ledger=ledger,
            name=None if isinstance(origin, str | Path) else f"{kind_name(origin)}[{name}]",
        )
        parts[name] = map_roles(table, roles, settings.columns, required)
    return parts


def _without_empty(
    table: pa.Table, texts: Sequence[str], label: str | None, ledger: Ledger
) -> pa.Table:
    """The rows that have all their texts and their label; the others go to the ledger."""
    lost = np.zeros(len(table), bool)
    for role in [*texts, *([label] if label else [])]:
        blank = _blank(table[role])
        if blank.all():
            raise DataError(
                f"{table['_file'][0].as_py()}: the {role} of every row is empty; name another "
                f"column with --data.columns.{role} NAME"
            )
        _drop(table, np.flatnonzero(blank & ~lost), f"empty {role}", ledger)
        lost |= blank
    return table.filter(pa.array(~lost)) if lost.any() else table


def _blank(column: pa.ChunkedArray) -> np.ndarray:
    """Which values are null, empty or nothing but whitespace."""
    blank = np.empty(len(column), bool)
    at = 0
    for chunk in column.chunks:
        empty = pc.equal(pc.utf8_trim_whitespace(chunk), "")
        blank[at : at + len(chunk)] = pc.fill_null(empty, True)
        at += len(chunk)
    return blank


def _unleaked(
    parts: dict[str, pa.Table], keys: dict[str, np.ndarray], ledger: Ledger
) -> tuple[pa.Table, np.ndarray]:
    """Train, and its keys, without the rows whose text is in test or validation."""
    train, own = parts["train"], keys["train"]
    lost = np.zeros(len(train), bool)
    for split in ("test", "validation"):
        if split in parts:
            shared = np.isin(own, keys[split])
            _drop(train, np.flatnonzero(shared & ~lost), f"also in {split}", ledger)
            lost |= shared
    if lost.all():
        file = train["_file"][0].as_py()
        raise DataError(
            f"{file}: every row is also in test or validation; give other rows to train"
        )
    return (train.filter(pa.array(~lost)), own[~lost]) if lost.any() else (train, own)


def _drop(table: pa.Table, rows: np.ndarray, reason: str, ledger: Ledger) -> None:
    lost = table.select(["_file", "_line"]).take(pa.array(rows))
    for file, line in zip(lost["_file"].to_pylist(), lost["_line"].to_pylist(), strict=True):
        ledger.drop(file, line, reason)


def _shares(settings: Data, given: Mapping[str, bool]) -> dict[str, float]:
    """The share of train to cut off for each split that was not given."""
    wanted = {"validation": settings.validation_fraction, "test": settings.test_fraction}
    return {name: 0.0 if given[name] else share for name, share in wanted.items()}


def _cut_off(
    train: pa.Table, side: np.ndarray, shares: Mapping[str, float], given: Mapping[str, bool]
) -> dict[str, pa.Table]:
    """The tables that come out of train: train itself and the splits that were not given."""
    for name, share in shares.items():
        if share and not (side == SIDES[name]).any():
            raise DataError(
                f"{train['_file'][0].as_py()}: {len(train)} rows are too few to cut off a {name} "
                f"split; add rows, or do without with --data.{name}_fraction 0"
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
