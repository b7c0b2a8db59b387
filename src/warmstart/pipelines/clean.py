"""`inspect --fix` and `--split`: copies of the data, and which rows they leave out, and why."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from warmstart.data.columns import OURS
from warmstart.data.ledger import place
from warmstart.data.profiling.columns import Source
from warmstart.data.readers.files import format_of, suffix
from warmstart.data.tables import is_blank, pc
from warmstart.errors import RecipeError, RunError
from warmstart.files import write_atomically
from warmstart.pipelines.reading.rows import ENDINGS, Writer
from warmstart.run import why

PRIORITY = ("test", "validation", "train")
CLEAR = 2 / 3  # share of the rows of a text that one label must have to be believed


class Row(NamedTuple):
    """A row with a text; `key` is equal for texts equal but for case, punctuation and spacing."""

    split: str
    number: int
    key: int
    label: str
    text: str


class Removal(NamedTuple):
    """A row to leave out: why, and the (split, row) of its twin that stays, if there is one."""

    split: str
    row: int
    reason: str
    kept: tuple[str, int] | None = None


def removals(
    parts: Mapping[str, pa.Table], groups: Mapping[str, np.ndarray], keys: Mapping[str, np.ndarray]
) -> list[Removal]:
    """Every row that a clean copy leaves out, in the order of the splits and rows.

    Empty texts and labels; copies, of which the first stays (in test rather than validation rather
    than train); equal texts with different labels, unless two thirds of them agree. A near-copy
    with another label stays, if it is in the same split: that is for a person to decide.

    `groups`: split → one number a row, equal for the same text, also nearly; -1 for rows that were
    not compared. `keys`: split → one number a row, equal for texts equal but for case, punctuation
    and spacing.
    """
    gone: list[Removal] = []
    members: dict[int, list[Row]] = defaultdict(list)
    for split in (name for name in PRIORITY if name in parts):
        table = parts[split]
        empty = {
            int(row): f"empty {role}"
            for role in ("label", "text")
            if role in table.column_names
            for row in np.flatnonzero(is_blank(table[role]))
        }
        gone += [Removal(split, row, reason) for row, reason in empty.items()]
        labels = table["label"] if "label" in table.column_names else pa.nulls(len(table))
        columns = (groups[split], keys[split], labels.to_pylist(), table["text"].to_pylist())
        for row, (group, key, label, text) in enumerate(zip(*columns, strict=True)):
            if group >= 0 and row not in empty:
                members[int(group)].append(Row(split, row, int(key), (label or "").strip(), text))
    for rows in members.values():
        if len(rows) > 1:
            gone += _copies(rows)
    order = list(parts)
    return sorted(gone, key=lambda removal: (order.index(removal.split), removal.row))


def _copies(rows: list[Row]) -> list[Removal]:
    """What to remove of rows that hold the same text, exactly or nearly, in PRIORITY's order."""
    gone: list[Removal] = []
    kept: list[Row] = []
    for split, of_split in groupby(rows, key=lambda row: row.split):
        earlier = list(kept)
        equal: dict[int, list[Row]] = defaultdict(list)
        for row in of_split:
            equal[row.key].append(row)
        for key, same in equal.items():
            if earlier:
                twin = next((row for row in earlier if row.key == key), earlier[0])
                reason = f"copy of a row of {twin.split}"
                gone += [Removal(split, row.number, reason, twin[:2]) for row in same]
                continue
            first, removed = _equal_rows(same)
            gone += removed
            if first is None:
                continue
            twin = next((row for row in kept if row.label == first.label), None)
            if twin is None:
                kept.append(first)
            else:
                gone.append(Removal(split, first.number, "near-copy", twin[:2]))
    return gone


def _equal_rows(rows: list[Row]) -> tuple[Row | None, list[Removal]]:
    """Of rows of one split with equal text: the one that stays, and the others."""
    counts = Counter(row.label for row in rows).most_common()
    majority, most = counts[0]
    if len(counts) > 1 and most < CLEAR * len(rows):
        votes = ", ".join(f"{n} × {name}" for name, n in counts[:5])
        reason = f"equal texts with different labels, none with a clear majority: {votes}"
        return None, [Removal(row.split, row.number, reason) for row in rows]
    first = next(row for row in rows if row.label == majority)
    gone: list[Removal] = []
    for row in rows:
        reason = "copy but for case, punctuation or spacing"
        if row.label != majority:
            reason = f"equal text with another label than {most} of {len(rows)}"
        elif row.text == first.text:
            reason = "exact copy"
        if row is not first:
            gone.append(Removal(row.split, row.number, reason, first[:2]))
    return first, gone


ENDING = {"parquet": ".parquet", "arrow": ".parquet", "json": ".jsonl"}
LEFT_OUT = "left out by the split: empty, or a copy of a row of a given split"


def check_fix(out: Path, source: Source) -> None:
    """Raise before any work is done if the clean copy could not be written to `out`."""
    one_file, is_file = len(source.parts) == 1, out.suffix.lower() in ENDINGS
    if one_file and not is_file:
        raise RecipeError(f"cannot write {out}: give --fix a name ending in {', '.join(ENDINGS)}")
    if not one_file and is_file:
        raise RecipeError(
            f"the data have {len(source.parts)} splits, so --fix {out} must be a folder: give a "
            "name without an ending"
        )
    for path in (out, removed_path(out)):
        _check_free(path)


def check_split(folder: Path) -> None:
    """Raise before any work is done if the splits could not be written to `folder`."""
    if folder.suffix.lower() in ENDINGS:
        raise RecipeError(f"--split {folder} must be a folder: give a name without an ending")
    for path in (folder, removed_path(folder)):
        _check_free(path)


def removed_path(out: Path) -> Path:
    """Beside `clean.csv` or the folder `clean`: `clean.removed.csv`."""
    stem = out.stem if out.suffix.lower() in ENDINGS else out.name
    return out.with_name(f"{stem}.removed.csv")


def write_clean(source: Source, gone: Sequence[Removal], out: Path) -> dict[str, Any]:
    """Write the rows that stay to `out`, and the others to `….removed.csv`. Raises `RunError`."""
    kept: dict[str, pa.Table] = {}
    removed: list[pa.Table] = []
    for split, table in source.whole.items():
        of_split = [removal for removal in gone if removal.split == split]
        stays = np.ones(len(table), bool)
        stays[[removal.row for removal in of_split]] = False
        if not stays.any():
            raise RunError(f"nothing of {split} would stay; mend its labels by hand first")
        kept[split] = table.filter(pa.array(stays))
        if of_split:
            rows = table.take(pa.array([removal.row for removal in of_split]))
            twins = [place(source.whole[r.kept[0]], r.kept[1]) if r.kept else "" for r in of_split]
            removed.append(_with_places(rows, [removal.reason for removal in of_split], twins))
    reasons = Counter(removal.reason.partition(":")[0] for removal in gone)
    if bad := source.ledger.bad_rows:
        reasons.update(reason for _, _, reason, _ in bad)
        places: dict[str, list[Any]] = {
            "removed_from": [file for file, _, _, _ in bad],
            "removed_line": [line for _, line, _, _ in bad],
            "removed_because": [f"{reason}: {why}".rstrip(": ") for _, _, reason, why in bad],
        }
        removed.append(pa.table(places))
    written = _write(source, kept, removed, out, folder=len(source.parts) > 1)
    return {**written, "removed": str(removed_path(out)), "reasons": dict(reasons.most_common())}


def write_split(source: Source, tables: Mapping[str, pa.Table], out: Path) -> dict[str, Any]:
    """Write the rows of `tables` (with `_file` and `_line`, from `splitting.load`) with all of
    their columns to train, validation and test files in `out`; what is in none to
    `….removed.csv`."""
    whole = pa.concat_tables(source.whole.values(), promote_options="permissive")
    number = {at: row for row, at in enumerate(_places(whole))}
    rows = {name: [number[at] for at in _places(table)] for name, table in tables.items()}
    kept = {name: whole.take(pa.array(numbers)) for name, numbers in rows.items() if numbers}
    used = np.zeros(len(whole), bool)
    used[[row for numbers in rows.values() for row in numbers]] = True
    lost = whole.filter(pa.array(~used))
    removed = [_with_places(lost, [LEFT_OUT] * len(lost), [""] * len(lost))] if len(lost) else []
    return _write(source, kept, removed, out, folder=True)


def _write(
    source: Source,
    tables: Mapping[str, pa.Table],
    removed: Sequence[pa.Table],
    out: Path,
    folder: bool,
) -> dict[str, Any]:
    """Write one file, or a folder with a file a split, whole or not at all; what was written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(out) if folder else nullcontext(out.parent) as place:
            place.mkdir(exist_ok=True)
            if removed:
                with Writer(removed_path(out)) as writer:
                    writer.write(pa.concat_tables(removed, promote_options="permissive"))
            for name, table in tables.items():
                file = out.name
                if folder:  # with the ending of the split's source, or the nearest that there is
                    origin, ending = source.origins.get(name, source.origins["train"]), ".parquet"
                    if isinstance(origin, str | os.PathLike) and Path(origin).is_file():
                        own = suffix(Path(origin))
                        own = own if own in ENDINGS else ".csv"
                        ending = ENDING.get(format_of(Path(origin)), own)
                    file = f"{name}{ending}"
                with Writer(place / file) as writer:
                    writer.write(_plain(table))
    except BaseException as error:
        removed_path(out).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RunError(f"cannot write {out}: {why(error)}") from error
        raise
    return {
        "out": str(out),
        "rows": {name: len(table) for name, table in tables.items()},
        "removed_rows": sum(map(len, removed)),
        "removed": str(removed_path(out)) if removed else None,
    }


def _places(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table["_file"].to_pylist(), table["_line"].to_pylist(), strict=True))


def _with_places(table: pa.Table, reasons: list[str], kept: list[str]) -> pa.Table:
    """All columns, after where a row stood, why it is left out, and where its twin stays."""
    places: dict[str, Any] = {
        "removed_from": pc.cast(table["_file"], pa.string()),
        "removed_line": table["_line"],
        "removed_because": pa.array(reasons, pa.string()),
        "kept_at": pa.array(kept, pa.string()),
    }
    return pa.table(places | {name: table[name] for name in _plain(table).column_names})


def _plain(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in OURS if name in table.column_names])


def _check_free(path: Path) -> None:
    if os.path.lexists(path):
        raise RunError(f"{path} exists and is not overwritten; choose another name, or delete it")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise RunError(f"cannot write {path}: {parent} is read-only; choose another name")
