"""Every kind of source read into one kind of table, and which source holds which split."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.data.ledger import Ledger
from warmstart.data.readers.arrow import (
    is_dataset,
    read_arrow,
    read_dataset,
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
    detected,
    format_of,
    suffix,
)
from warmstart.data.readers.jsonl import read_json
from warmstart.data.readers.objects import is_columns, kind_name, read_object
from warmstart.data.readers.spreadsheet import read_spreadsheet, sheet_of
from warmstart.data.readers.text import is_fasttext, read_fasttext
from warmstart.data.settings import Data, Reading
from warmstart.data.tables import SPLITS, check_names, concatenate, with_file
from warmstart.errors import DataError, HubError, RecipeError, shown
from warmstart.formatting import counted

AS_IT_IS = Reading()


class Files(tuple[Path, ...]):
    """Several files that are one table, such as shards."""


def read(
    source: Any, *, ledger: Ledger, how: Reading = AS_IT_IS, name: str | None = None
) -> pa.Table:
    """All columns of one source, plus `_file` (dictionary) and `_line` (int64, from 1).

    `source` is a path, several `Files` or a Python object; `name` is what it is called in messages.
    `_line` is the physical line where a record starts, for columnar files and objects the row
    number. Counts the rows in the ledger, and tells it how a file was read. Raises DataError (file,
    line, remedy) or RecipeError (not a known source).
    """
    if isinstance(source, Files):
        return _together([read(path, ledger=ledger, how=how) for path in source])
    if isinstance(source, str | os.PathLike):
        check_local(source)
        path = Path(source).expanduser()
        file = name or str(path)
        table = _read_path(path, how, ledger)
    else:
        file = name or kind_name(source)
        table = read_object(source, how.limit)
    check_names(file, table.column_names)
    if not len(table):
        raise DataError(f"{file} has no rows; add some, or give another file")
    if how.limit is not None and len(table) == how.limit:
        were = "was" if how.limit == 1 else "were"
        message = f"only the first {counted(how.limit)} of {file} {were} read"
        ledger.note("limit", message, file=file)
    dropped = ledger.dropped
    table = brought(with_file(table, file), file, ledger)
    ledger.read(file, len(table) + ledger.dropped - dropped)
    if not len(table):
        raise ledger.nothing_left(file)
    return table


def _together(tables: list[pa.Table]) -> pa.Table:
    """One table of files that have the same columns."""
    first = tables[0]
    for table in tables[1:]:
        other = set(first.column_names) ^ set(table.column_names)
        if other:
            raise DataError(
                f"{table['_file'][0].as_py()} and {first['_file'][0].as_py()} are to be one table, "
                f"and only one of them has a column '{shown(min(other))}'; give them the same "
                "columns, or leave one out"
            )
    return concatenate(tables).unify_dictionaries()


def _read_path(path: Path, how: Reading, ledger: Ledger) -> pa.Table:
    path, sheet = sheet_of(path)
    check_exists(path)
    if path.is_dir():
        if is_dataset(path):
            return read_dataset(path, how.limit)
        raise RecipeError(f"{path} is a folder, and one table was asked for; name a file in it")
    kind = format_of(path, how.encoding)
    if kind in ("parquet", "arrow"):
        return (read_parquet if kind == "parquet" else read_arrow)(path, how.limit)
    if kind == "spreadsheet":
        return read_spreadsheet(path, sheet, how, ledger)
    skips = how.bad_rows == "skip"
    encoding, line = detected(path, how.encoding, usual=how.usual_encoding, lenient=skips)
    message = f"{path} is read as {encoding}"
    if line is not None:
        message = (
            f"{path} is not UTF-8, and {encoding} is a guess, which makes “{shown(line, 90)}” of "
            "it; if these letters are wrong, name the encoding with --data.encoding NAME"
        )
    ledger.note("encoding", message, file=str(path), encoding=encoding, loud=line is not None)
    ledger.describe(str(path), encoding=encoding)
    if kind == "conll":
        return read_conll(path, encoding, how, ledger)
    if kind == "json":
        return read_json(path, encoding, how, ledger)
    if is_fasttext(path, encoding):
        return read_fasttext(path, encoding, how.limit)
    return read_delimited(path, encoding, how, ledger)


def read_splits(settings: Data, source: Any, ledger: Ledger) -> Iterator[tuple[str, Any, pa.Table]]:
    """The name of each split, its path or object, and all of its columns; train is among them.

    `source` (a path or Python object) stands in for `settings.path`.
    """
    for name, origin in gather(settings, source, ledger).items():
        own = None if _is_path(origin) else f"{kind_name(origin)}[{name}]"
        yield name, origin, read(origin, ledger=ledger, how=settings.reading, name=own)


def _is_path(origin: Any) -> bool:
    return isinstance(origin, str | os.PathLike | Files)


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
    splits |= {name: _several(file) for name, file in own.items()}
    if "train" not in splits:
        has = f"only {' and '.join(splits)} data were given" if splits else "no data were given"
        raise RecipeError(f"{has}; name a file to train on, or --data.train FILE")
    seen: dict[Any, str] = {}
    for split, origin in splits.items():
        files = origin if isinstance(origin, Files) else [origin]
        for file in files:
            key = os.path.realpath(os.path.expanduser(file)) if _is_path(file) else id(file)
            if seen.setdefault(key, split) != split:
                raise RecipeError(
                    f"{file if _is_path(file) else 'one object'} is given as {seen[key]} and as "
                    f"{split}; a score on rows that were trained on means nothing. Leave "
                    f"--data.{split} out to have one cut off"
                )
    return {name: splits[name] for name in SPLITS if name in splits}


def _expand(origin: Any, ledger: Ledger) -> dict[str, Any]:
    """The splits that one source holds; a source that is one table is train."""
    if isinstance(origin, Mapping) and not is_columns(origin):
        return _by_name(origin, type(origin).__name__, ledger)
    if not isinstance(origin, str | os.PathLike):
        return {"train": one_table(origin)}
    text = os.fspath(origin)
    check_local(text)
    if isinstance(text, str) and is_hub_id(text):
        return _by_name(load_hub(text), text, ledger)
    path = Path(origin).expanduser()
    if not os.path.isdir(path) or is_dataset(path):
        return {"train": _several(path)}
    saved = saved_splits(path)
    return _by_name(saved, str(path), ledger) if saved is not None else _folder(path)


def one_table(origin: Any) -> Any:
    """What `read` takes of a source that is one table: several `Files` of a list of paths or of a
    pattern, all else as it is."""
    if isinstance(origin, list | tuple) and origin and all(map(_is_path, origin)):
        return Files(path for part in origin for path in _paths(part))
    return _several(origin) if isinstance(origin, str | os.PathLike) else origin


def _several(path: str | os.PathLike[str]) -> Any:
    """A path as it is, or the files that a pattern such as `part-*.csv` names."""
    several = _paths(path)
    return Files(several) if len(several) > 1 else several[0]


def _paths(path: str | os.PathLike[str]) -> list[Path]:
    """Raises DataError where nothing fits a pattern."""
    check_local(path)
    whole = Path(path).expanduser()
    if os.path.exists(whole) or not set("*?[") & set(str(whole)):
        return [whole]
    fitting = sorted(Path(name) for name in glob(str(whole), recursive=True))
    fitting = [name for name in fitting if name.is_file()]
    if not fitting:
        raise DataError(f"no file fits {whole}; check the pattern and the folder")
    return fitting


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


SHARD = re.compile(r"[-_.]?\d+([-_]of[-_]\d+)?(-[0-9a-f]{16})?")
"""What stands behind the name of the split where it is in several files."""


def _folder(path: Path) -> dict[str, Any]:
    """The files train.*, validation.* and test.* of a folder, each one file or numbered shards, as
    train-00000-of-00002.parquet; or those of its folder `data`."""
    try:
        files = data_files(path)
        if not files and (path / "data").is_dir():
            files = data_files(path / "data")
    except PermissionError:
        raise DataError(f"folder {path} may not be read: change its permissions") from None
    splits: dict[str, Any] = {}
    for split, aliases in ALIASES.items():
        stems = [(file, file.name.lower().partition(".")[0]) for file in files]
        present = [file for file, stem in stems if stem in aliases]
        shards = [
            file for file, stem in stems for alias in aliases
            if stem.startswith(alias) and SHARD.fullmatch(stem.removeprefix(alias))
        ]  # fmt: skip
        if len(present) > 1 or (present and shards):
            both = " and ".join(file.name for file in [*present, *shards][:2])
            raise DataError(f"{path} holds both {both}; keep one, or name it with --data.{split}")
        if present or shards:
            splits[split] = present[0] if present else Files(shards)
    if "train" not in splits:
        listing = ", ".join(shown(name, 30) for name in sorted(os.listdir(path))[:10]) or "nothing"
        below = [place for place in sorted(path.iterdir()) if place.is_dir()]
        itself = f"the file itself ({files[0]})" if files else "the file itself"
        if not files and below:
            itself = f"one of these folders ({below[0]})"
        raise DataError(
            f"{path} holds no train.csv, train.jsonl or the like ({SUPPORTED}); it holds "
            f"{listing}. Name {itself}, call it train.*, or name several by a "
            f"pattern, as in '{path}/*{files[0].suffix if files else '.csv'}'"
        )
    return splits


def only_file(path: str | os.PathLike[str]) -> Path | None:
    """The one data file of a folder that holds nothing to train on, such as a benchmark's test
    rows."""
    folder = Path(path)
    with suppress(OSError):
        files = data_files(folder) if folder.is_dir() and not is_dataset(folder) else []
        if len(files) == 1 and files[0].name.lower().partition(".")[0] not in ALIASES["train"]:
            return files[0]
    return None


def is_hub_id(path: str) -> bool:
    """Whether `path` can only be meant as owner/name: no such file, and no file extension."""
    known = FORMATS.keys() | PICKLES | SPREADSHEETS
    local = Path(path)
    return ID.fullmatch(path) is not None and not (
        local.exists() or local.parent.is_dir() or suffix(local) in known
    )


@lru_cache(maxsize=1)  # the columns are looked at before all is read
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
