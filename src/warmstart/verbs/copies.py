"""Copies of the data written by `inspect --fix` and `--split`, with what they leave out."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from warmstart.data.arrow import pc
from warmstart.data.columns import OURS
from warmstart.data.ledger import place
from warmstart.errors import RecipeError, RunError
from warmstart.run import why
from warmstart.verbs.clean import Place, Removal
from warmstart.verbs.labelled import ENDINGS, Writer

if TYPE_CHECKING:
    from warmstart.data.profile import Source

ENDING = {"parquet": ".parquet", "arrow": ".parquet", "json": ".jsonl"}
LEFT_OUT = "left out by the split: empty, or a copy of a row of a given split"


def check_fix(out: Path, source: Source) -> None:
    """Raise before any work is done if the clean copy could not be written to `out`."""
    one_file = len(source.parts) == 1
    if one_file and out.suffix.lower() not in ENDINGS:
        raise RecipeError(f"cannot write {out}: give --fix a name ending in {', '.join(ENDINGS)}")
    if not one_file and out.suffix.lower() in ENDINGS:
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
    for split, table in source.whole.items():
        stay = np.ones(len(table), bool)
        stay[[one.row for one in gone if one.split == split]] = False
        if not stay.any():
            raise RunError(f"nothing of {split} would stay; mend its labels by hand first")
        kept[split] = table.filter(pa.array(stay))
    removed = _removed(source, gone)
    _write(source, kept, removed, out)
    reasons = Counter(one.reason.partition(":")[0] for one in gone)
    return {
        "out": str(out),
        "removed": str(removed_path(out)),
        "rows": {name: len(table) for name, table in kept.items()},
        "removed_rows": len(gone),
        "reasons": dict(reasons.most_common()),
    }


def write_split(source: Source, tables: Mapping[str, pa.Table], out: Path) -> dict[str, Any]:
    """Write the rows of `tables` (with `_file` and `_line`, from `splits.load`) with all of their
    columns to train, validation and test files in `out`; what is in none to `….removed.csv`."""
    whole = pa.concat_tables(source.whole.values(), promote_options="permissive")
    number = {place: row for row, place in enumerate(_places(whole))}
    kept: dict[str, pa.Table] = {}
    used = np.zeros(len(whole), bool)
    for name, table in tables.items():
        rows = np.array([number[place] for place in _places(table)], np.int64)
        used[rows] = True
        if len(rows):
            kept[name] = whole.take(pa.array(rows))
    lost = whole.filter(pa.array(~used))
    removed = _with_places(lost, [LEFT_OUT] * len(lost), [""] * len(lost)) if len(lost) else None
    _write(source, kept, removed, out, folder=True)
    return {
        "out": str(out),
        "rows": {name: len(table) for name, table in kept.items()},
        "removed_rows": len(lost),
        "removed": str(removed_path(out)) if len(lost) else None,
    }


def _write(
    source: Source,
    tables: Mapping[str, pa.Table],
    removed: pa.Table | None,
    out: Path,
    folder: bool | None = None,
) -> None:
    """One file, or a folder with a file a split; whole or not at all."""
    if folder is None:
        folder = len(source.parts) > 1
    fresh = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            fresh.mkdir()
            for name, table in tables.items():
                with Writer(fresh / f"{name}{_ending(source, name)}") as writer:
                    writer.write(_plain(table))
        if removed is not None:
            with Writer(removed_path(out)) as writer:
                writer.write(removed)
        if folder:
            os.replace(fresh, out)
        else:
            with Writer(out) as writer:
                writer.write(_plain(next(iter(tables.values()))))
    except BaseException as error:
        removed_path(out).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RunError(f"cannot write {out}: {why(error)}") from error
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _removed(source: Source, gone: Sequence[Removal]) -> pa.Table | None:
    """The removed rows with all columns, their place, the reason, and the place of the twin."""
    tables: list[pa.Table] = []
    for split, table in source.whole.items():
        if own := [one for one in gone if one.split == split]:
            rows = table.take(pa.array([one.row for one in own]))
            kept = [_place(source, one.kept) for one in own]
            tables.append(_with_places(rows, [one.reason for one in own], kept))
    return pa.concat_tables(tables, promote_options="permissive") if tables else None


def _place(source: Source, kept: Place | None) -> str:
    return place(source.whole[kept[0]], kept[1]) if kept else ""


def _places(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table["_file"].to_pylist(), table["_line"].to_pylist(), strict=True))


def _with_places(table: pa.Table, reasons: list[str], kept: list[str]) -> pa.Table:
    """All columns, after where a row stood, why it is left out, and where its twin stays."""
    found: dict[str, Any] = {
        "removed_from": pc.cast(table["_file"], pa.string()),
        "removed_line": table["_line"],
        "removed_because": pa.array(reasons, pa.string()),
        "kept_at": pa.array(kept, pa.string()),
    }
    rest = _plain(table)
    return pa.table(found | {name: rest[name] for name in rest.column_names})


def _plain(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in OURS if name in table.column_names])


def _ending(source: Source, split: str) -> str:
    """The ending of a split's file: its source's, or the nearest that can be written."""
    from warmstart.data.files import format_of, suffix

    origin = source.origins.get(split, source.origins["train"])
    if not isinstance(origin, str | os.PathLike) or not Path(origin).is_file():
        return ".parquet"
    path = Path(origin)
    kind = format_of(path)
    return ENDING.get(kind, suffix(path) if suffix(path) in ENDINGS else ".csv")


def _check_free(path: Path) -> None:
    if os.path.lexists(path):
        raise RunError(f"{path} exists and is not overwritten; choose another name, or delete it")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise RunError(f"cannot write {path}: {parent} is read-only; choose another name")
