"""Every kind of source read into one kind of table, and which source holds which split."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.ledger import Ledger
from warmstart.data.readers.arrow import (
    is_dataset,
    kind_name,
    read_arrow,
    read_dataset,
    read_object,
    read_parquet,
    saved_splits,
)
from warmstart.data.readers.conll import read_conll
from warmstart.data.readers.csv import read_delimited
from warmstart.data.readers.exports import brought
from warmstart.data.readers.files import (
    FORMATS,
    PICKLES,
    SPREADSHEETS,
    SUPPORTED,
    check_exists,
    check_local,
    data_files,
    detect,
    format_of,
    suffix,
)
from warmstart.data.readers.jsonl import read_json
from warmstart.data.settings import Data
from warmstart.data.tables import SPLITS, check_names, with_file
from warmstart.errors import DataError, HubError, RecipeError, shown
from warmstart.formatting import counted


def read(
    source: Any,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    ledger: Ledger,
    limit: int | None = None,
    name: str | None = None,
) -> pa.Table:
    """All columns of one source, plus `_file` (dictionary) and `_line` (int64, from 1).

    `source` is a path or a Python object; `name` is what it is called in messages. `_line` is the
    physical line where a record starts, for columnar files and objects the row number. Counts the
    rows in the ledger. Raises DataError (file, line, remedy) or RecipeError (not a known source).
    """
    if isinstance(source, str | os.PathLike):
        check_local(source)
        path = Path(source).expanduser()
        file = name or str(path)
        table = _read_path(path, delimiter, encoding, limit, ledger)
    else:
        file = name or kind_name(source)
        table = read_object(source, limit)
    check_names(file, table.column_names)
    if not len(table):
        raise DataError(f"{file} has no rows; add some, or give another file")
    if limit is not None and len(table) == limit:
        were = "was" if limit == 1 else "were"
        message = f"only the first {counted(limit)} of {file} {were} read"
        ledger.note("limit", message, file=file)
    dropped = ledger.dropped
    table = brought(with_file(table, file), file, ledger)
    ledger.read(file, len(table) + ledger.dropped - dropped)
    if not len(table):
        raise ledger.nothing_left(file)
    return table


def _read_path(
    path: Path, delimiter: str | None, encoding: str | None, limit: int | None, ledger: Ledger
) -> pa.Table:
    check_exists(path)
    if path.is_dir():
        if is_dataset(path):
            return read_dataset(path, limit)
        raise RecipeError(f"{path} is a folder, and one table was asked for; name a file in it")
    kind = format_of(path, encoding)
    if kind in ("parquet", "arrow"):
        return (read_parquet if kind == "parquet" else read_arrow)(path, limit)
    encoding = detect(path, encoding)
    message = f"{path} is read as {encoding}"
    ledger.note("encoding", message, file=str(path), encoding=encoding)
    if kind in ("json", "conll"):
        return (read_json if kind == "json" else read_conll)(path, encoding, limit)
    return read_delimited(path, encoding, delimiter, limit, ledger)


def read_splits(settings: Data, source: Any, ledger: Ledger) -> Iterator[tuple[str, Any, pa.Table]]:
    """The name of each split, its path or object, and all of its columns; train is among them.

    `source` (a path or Python object) stands in for `settings.path`.
    """
    for name, origin in gather(settings, source, ledger).items():
        is_path = isinstance(origin, str | os.PathLike)
        table = read(
            origin,
            delimiter=settings.delimiter,
            encoding=settings.encoding,
            limit=settings.limit,
            ledger=ledger,
            name=None if is_path else f"{kind_name(origin)}[{name}]",
        )
        yield name, origin, table


ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
ALIASES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"),
           "test": ("test",)}  # fmt: skip


def gather(settings: Data, source: Any, ledger: Ledger) -> dict[str, Any]:
    """Split name to something that `read` takes; always with 'train'.

    `source` (a path or Python object) stands in for `settings.path`. Raises RecipeError when the
    request names no train data, or two; DataError when a folder holds none.
    """
    origin = settings.path if source is None else source
    splits = {} if origin is None else _expand(origin, ledger)
    own = {name: file for name in SPLITS if (file := getattr(settings, name)) is not None}
    if origin is not None and "train" in own and set(splits) == {"train"}:
        raise RecipeError("two sources to train on; give either the path or --data.train")
    splits |= own
    if "train" not in splits:
        has = f"only {' and '.join(splits)} data were given" if splits else "no data were given"
        raise RecipeError(f"{has}; name a file to train on, or --data.train FILE")
    seen: dict[Any, str] = {}
    for split, origin in splits.items():
        is_path = isinstance(origin, str | os.PathLike)
        key = os.path.realpath(os.path.expanduser(origin)) if is_path else id(origin)
        if key in seen:
            raise RecipeError(
                f"{origin if is_path else 'one object'} is given as {seen[key]} and as {split}; a "
                "score on rows that were trained on means nothing. Leave "
                f"--data.{split} out to have one cut off"
            )
        seen[key] = split
    return {name: splits[name] for name in SPLITS if name in splits}


def _expand(origin: Any, ledger: Ledger) -> dict[str, Any]:
    """The splits that one source holds; a source that is one table is train."""
    if isinstance(origin, Mapping):
        return _by_name(origin, type(origin).__name__, ledger)
    if not isinstance(origin, str | os.PathLike):
        return {"train": origin}
    text = os.fspath(origin)
    check_local(text)
    if isinstance(text, str) and is_hub_id(text):
        return _by_name(load_hub(text), text, ledger)
    path = Path(origin).expanduser()
    if not os.path.isdir(path) or is_dataset(path):
        return {"train": path}
    saved = saved_splits(path)
    return _by_name(saved, str(path), ledger) if saved is not None else _folder(path)


def _by_name(parts: Mapping[Any, Any], where: str, ledger: Ledger) -> dict[str, Any]:
    """Splits under our names; parts of other names are left out and noted."""
    splits: dict[str, Any] = {}
    for split, aliases in ALIASES.items():
        present = [name for name in parts if str(name).lower() in aliases]
        if len(present) > 1:
            raise DataError(f"{where} has more than one {split} split: {', '.join(present)}")
        if present:
            splits[split] = parts[present[0]]
    unused = [str(name) for name in parts if not any(parts[name] is x for x in splits.values())]
    if "train" not in splits:
        listing = ", ".join(shown(name) for name in parts) or "nothing"
        raise DataError(f"{where} has no train split; it holds {listing}. Name one 'train'")
    if unused:
        ledger.note("unused", f"parts of {where} not used: {', '.join(unused)}", parts=unused)
    return splits


def _folder(path: Path) -> dict[str, Any]:
    """The files train.*, validation.* and test.* of a folder."""
    try:
        files = data_files(path)
    except PermissionError:
        raise DataError(f"folder {path} may not be read: change its permissions") from None
    splits: dict[str, Any] = {}
    for split, aliases in ALIASES.items():
        present = [file for file in files if file.name.lower().partition(".")[0] in aliases]
        if len(present) > 1:
            both = " and ".join(file.name for file in present[:2])
            raise DataError(f"{path} holds both {both}; keep one, or name it with --data.{split}")
        if present:
            splits[split] = present[0]
    if "train" not in splits:
        listing = ", ".join(shown(name, 30) for name in sorted(os.listdir(path))[:10]) or "nothing"
        itself = f" ({files[0]})" if files else ""
        raise DataError(
            f"{path} holds no train.csv, train.jsonl or the like ({SUPPORTED}); it holds "
            f"{listing}. Name the file itself{itself}, or call it train.*"
        )
    return splits


def is_hub_id(path: str) -> bool:
    """Whether `path` can only be meant as owner/name: no such file, and no file extension."""
    known = FORMATS.keys() | PICKLES | SPREADSHEETS
    local = Path(path)
    return ID.fullmatch(path) is not None and not (
        local.exists() or local.parent.is_dir() or suffix(local) in known
    )


def load_hub(name: str) -> Mapping[str, Any]:
    """Split name to `datasets.Dataset`; code of others never runs. Raises HubError."""
    import datasets

    try:
        splits: Any = datasets.load_dataset(name)
    except Exception as error:  # noqa: BLE001 - whatever its transport raises
        raise HubError(
            f"no data set '{name}': there is no such file or folder, and the hub did not give it "
            f"({type(error).__name__}: {shown(error, 120)}). Check the name, the connection and "
            "HF_TOKEN"
        ) from None
    if not isinstance(splits, Mapping):
        raise HubError(f"the hub gave '{name}' as one part; give a data set with named splits")
    return splits
