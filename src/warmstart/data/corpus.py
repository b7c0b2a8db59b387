"""A corpus: documents read from files, filtered, held out, and freed of copies.

Documents are held out before copies are looked for, so that no held-out document has a copy in
train; every document that is left out stands in the ledger with its reason.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from glob import glob
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pyarrow as pa

from warmstart.data.columns import map_roles
from warmstart.data.dedup.clusters import Copies, find_copies
from warmstart.data.dedup.exact import hashed
from warmstart.data.dedup.leakage import near_rows, note_leakage
from warmstart.data.ledger import Ledger
from warmstart.data.quality import cleaned
from warmstart.data.readers.files import check_exists, check_local, detect, lines, suffix
from warmstart.data.readers.read import ALIASES, read_splits
from warmstart.data.readers.text import PLAIN, is_plain
from warmstart.data.settings import Corpus, Data
from warmstart.data.splitting import SIDES, Splits, fingerprint
from warmstart.data.tables import with_file
from warmstart.errors import DataError
from warmstart.formatting import counted

Unit = Literal["file", "paragraph", "line"]
LONGEST_PATH = 1_000
TABLES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")
FEW = 10  # documents, of which whole ones are not held out but the end of each


class Documents(NamedTuple):
    """What a document is, and what is left out besides those that are empty."""

    unit: Unit = "file"
    """Of plain text; of a table it is a row."""
    names: Sequence[str] = ("text",)
    """Names of a table's column of texts, in order."""
    quality: bool = False
    """Whether what is hardly text is left out."""
    duplicates: bool = True
    """Whether documents of train that repeat an earlier one are left out."""


def load_corpus(
    settings: Data, how: Documents, seed: int, ledger: Ledger, source: Any = None
) -> Splits:
    """Read documents and split them. Raises `DataError` for what cannot be used.

    Plain text files are documents by `how.unit`; a folder's files stand in train, or, where it has
    folders or files of these names, in train, validation and test. Of tables every row is a
    document. Splits that are not given are cut from train: whole documents, or of fewer than ten
    the last part of each, at the end of a line.
    """
    parts = {name: cleaned(table, ledger, quality=how.quality)
             for name, table in _read(settings, how, source, ledger).items()}  # fmt: skip
    stamp = fingerprint(parts)
    whole = {name: name in parts for name in SIDES}
    shares = {name: 0.0 if whole[name] else share for name, share in
              (("validation", settings.validation_fraction), ("test", settings.test_fraction))
              }  # fmt: skip
    parts |= _held_out(parts["train"], shares, seed, ledger)
    for name in SIDES:
        parts.setdefault(name, parts["train"].slice(0, 0))
    copies = find_copies(parts, ["text"], settings.similarity)
    keys = copies.by_split(hashed(copies.texts)[copies.rows])
    leakage = note_leakage(parts, keys, copies, None, ledger)
    lost = np.zeros(len(parts["train"]), bool)
    for split in ("test", "validation"):
        shared = np.isin(keys["train"], keys[split]) | near_rows(copies, "train", split)
        ledger.drop_rows(parts["train"], shared & ~lost, f"also in {split}, or nearly")
        lost |= shared
    if how.duplicates:
        again = _note_copies(parts["train"], copies, keys["train"], lost, ledger)
        lost |= again
    parts["train"] = parts["train"].filter(pa.array(~lost))
    if not len(parts["train"]):
        raise DataError("no document is left to train on; see the reasons above, or give more text")
    for name in SIDES:
        ledger.keep(name, len(parts[name]))
    train, validation, test = (parts[name] for name in ("train", "validation", "test"))
    return Splits(train, validation, test, whole, stamp, leakage)


def load_mixture(
    settings: Data, how: Documents, seed: int, ledger: Ledger, source: Any = None,
    more: Mapping[str, Corpus] | None = None,
) -> Splits:  # fmt: skip
    """As `load_corpus`, with other corpora that are learned along as `corpora`, each with documents
    of its own held out for the test. No document of train has a copy that is held out anywhere."""
    main = load_corpus(settings, how, seed, ledger, source)
    others: dict[str, Splits] = {}
    for name, corpus in (more or {}).items():
        columns = {} if corpus.text is None else {"text": corpus.text}
        own = {"path": corpus.path, "train": None, "validation": None, "test": None,
               "columns": columns, "validation_fraction": 0.0}  # fmt: skip
        try:
            others[name] = load_corpus(settings.model_copy(update=own), how, seed, ledger)
        except DataError as error:
            raise DataError(f"corpus {name}: {error}") from None
    if not others:
        return main
    return _without_leaks(main, others, settings.similarity, ledger)


def _without_leaks(
    main: Splits, others: Mapping[str, Splits], similarity: float, ledger: Ledger
) -> Splits:
    """The corpora without documents of train that another one holds out."""
    every = {"": main, **others}
    parts = {"train": _stacked([own.train for own in every.values()]),
             "test": _stacked([t for own in every.values() for t in (own.validation, own.test)])
             }  # fmt: skip
    copies = find_copies(parts, ["text"], similarity)
    keys = copies.by_split(hashed(copies.texts)[copies.rows])
    lost = np.isin(keys["train"], keys["test"]) | near_rows(copies, "train", "test")
    kept, at = dict[str, Splits](), 0
    for name, own in every.items():
        gone = lost[at : (at := at + len(own.train))]
        ledger.drop_rows(own.train, gone, "another corpus holds it out, or nearly")
        ledger.keep("train", -int(gone.sum()))
        kept[name] = replace(own, train=own.train.filter(pa.array(~gone)))
        if not len(kept[name].train):
            raise DataError(f"corpus {name or 'to train on'}: no document is left to train on; "
                            "each of them is held out by another corpus")  # fmt: skip
    stamp = hashlib.sha256("".join(own.fingerprint for own in every.values()).encode()).hexdigest()
    main = kept.pop("")
    return replace(main, corpora=kept, fingerprint=stamp)


def _stacked(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables([table.select(["text"]) for table in tables]).combine_chunks()


def read_documents(data: Any, settings: Data, how: Documents) -> pa.Table:
    """The documents on which a trained model is evaluated: those of test, where a folder has such,
    else all. Raises `DataError` where there are none."""
    ledger, source = Ledger(), None if isinstance(data, str | Path) else data
    settings = settings.model_copy(update={"path": None if source is not None else str(data)})
    parts = _read(settings, how, source, ledger)
    return cleaned(parts.get("test", parts["train"]), ledger, quality=how.quality)


def _note_copies(
    train: pa.Table, copies: Copies, keys: np.ndarray, lost: np.ndarray, ledger: Ledger
) -> np.ndarray:
    """Which documents of train, of those that are left, repeat an earlier one [n]; each with the
    place of that one goes into the ledger."""
    groups = copies.groups[copies.by_split(copies.rows)["train"]]
    first, again = dict[int, int](), np.zeros(len(lost), bool)
    files, lines_of = train["_file"].to_pylist(), train["_line"].to_pylist()
    for row in np.flatnonzero(~lost):
        earlier = first.setdefault(int(groups[row]), int(row))
        if earlier != row:
            again[row] = True
            near = "" if keys[row] == keys[earlier] else ", nearly"
            place = f"{files[earlier]}:{lines_of[earlier]}"
            ledger.drop(files[row], lines_of[row], f"repeats an earlier document{near}", place)
    return again


def _read(settings: Data, how: Documents, source: Any, ledger: Ledger) -> dict[str, pa.Table]:
    """The documents of each split, as `text`, `_file` and `_line`."""
    origin = settings.path if source is None else source
    several = _several(origin)
    if several:
        return _stacked_splits([
            _read(settings.model_copy(update={"path": str(path)}), how, None, ledger)
            for path in several
        ])  # fmt: skip
    if isinstance(origin, str | Path):
        check_local(origin)
        path = Path(origin).expanduser()
        plain = _plain_files(path)
        if plain:
            files = sum(map(len, plain.values()))
            ledger.note("corpus", f"{path}: {counted(files, 'file')} of plain text, a document a "
                        f"{how.unit}", loud=True)  # fmt: skip
            _note_others(path, ledger)
            return {name: _documents(files, how.unit, settings, ledger)
                    for name, files in plain.items()}  # fmt: skip
    listed = isinstance(origin, list | tuple) and all(isinstance(text, str) for text in origin)
    if listed or isinstance(origin, Iterator) or type(origin).__name__ == "IterableDataset":
        name = "list" if listed else "stream"
        rows = iter(cast("Iterable[Any]", origin))
        return {"train": _streamed(rows, name, how.names, settings.limit, ledger)}
    parts: dict[str, pa.Table] = {}
    for name, _, table in read_splits(settings, source, ledger):
        parts[name] = map_roles(
            table, {"text": how.names}, settings.columns, {"text"}, ledger=ledger
        )
    return parts


def _several(origin: Any) -> list[Path]:
    """The paths where several are meant: a list of them, or a pattern of text files. Raises
    `DataError` where most of a list are paths, and one is not there."""
    if isinstance(origin, list | tuple) and origin:
        some: list[Any] = list(origin)
        if all(isinstance(p, str | Path) and len(str(p)) < LONGEST_PATH for p in some):
            paths = [path for p in some for path in _matching(str(p)) or [Path(p).expanduser()]]
            missing = [path for path in paths if not os.path.exists(path)]
            if not missing:
                return paths
            if len(missing) < len(paths) / 2:
                check_exists(missing[0])
    paths = _matching(origin) if isinstance(origin, str) else []
    return paths if any(map(is_plain, paths)) else []


def _matching(pattern: str) -> list[Path]:
    """The files of a pattern, by name; none where it is a path or a text."""
    if len(pattern) >= LONGEST_PATH or not set(pattern) & set("*?[") or os.path.exists(pattern):
        return []
    return [Path(name) for name in sorted(glob(pattern, recursive=True))]


def _stacked_splits(parts: Sequence[Mapping[str, pa.Table]]) -> dict[str, pa.Table]:
    """The documents of several sources by split."""
    columns = ["text", "_file", "_line"]
    stacked: dict[str, pa.Table] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        tables = [part[name].select(columns) for part in parts if name in part]
        tables = [t.set_column(0, "text", t["text"].cast(pa.large_string())) for t in tables]
        stacked[name] = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    return stacked


def _streamed(
    rows: Iterator[Any], name: str, names: Sequence[str], limit: int | None, ledger: Ledger
) -> pa.Table:
    """Documents that are given one after the other: texts, or dictionaries with one of `names`.

    They are read to the end, or to the limit, before training begins: what is held out, and which
    are copies, is decided over all of them. Raises `DataError` for anything else.
    """
    texts: list[str] = []
    for number, row in enumerate(islice(rows, limit), 1):
        if isinstance(row, Mapping):
            table = cast("Mapping[str, Any]", row)
            own = [table[key] or "" for key in names if key in table]  # null is empty, as in a file
            row = own[0] if own else None
        if not isinstance(row, str):
            raise DataError(
                f"document {number} of the {name} is no text: give texts, or dictionaries with a "
                f"key such as '{names[0]}'"
            )
        texts.append(row)
    ledger.read(name, len(texts))
    return with_file(pa.table({"text": pa.array(texts, pa.large_string())}), name)


def _note_others(folder: Path, ledger: Ledger) -> None:
    """Tables beside text files of a folder are not read, and that is said."""
    if folder.is_dir():
        tables = sorted(file.name for file in folder.rglob("*") if suffix(file) in TABLES)
        if tables:
            ledger.note("corpus", f"{folder}: {counted(len(tables), 'table')} beside the text "
                        f"files are not read (such as {tables[0]}); name them too to read both",
                        loud=True)  # fmt: skip


def _plain_files(path: Path) -> dict[str, list[Path]]:
    """The text files of each split; empty where there are none (or only tables)."""
    if is_plain(path):
        check_exists(path)
        return {"train": [path]}
    if not path.is_dir():
        return {}
    splits: dict[str, list[Path]] = {}
    for split, names in ALIASES.items():
        for name in names:
            inside = _below(path / name) if (path / name).is_dir() else []
            endings = [*PLAIN, *(f"{ending}.gz" for ending in PLAIN)]
            single = [path / f"{name}{ending}" for ending in endings]
            splits.setdefault(split, []).extend(inside or filter(Path.is_file, single))
    splits = {name: files for name, files in splits.items() if files}
    if splits and "train" not in splits:
        raise DataError(
            f"{path} holds documents for {' and '.join(splits)} and none to train on; put them "
            "into its folder train/"
        )
    return splits or ({"train": files} if (files := _below(path)) else {})


def _below(folder: Path) -> list[Path]:
    """The text files of a folder at any depth, by name; links out of it are not followed."""
    inside = folder.resolve()
    return sorted(
        file for file in folder.rglob("*")
        if suffix(file) in PLAIN and file.is_file() and file.resolve().is_relative_to(inside)
    )  # fmt: skip


def _documents(files: list[Path], unit: Unit, settings: Data, ledger: Ledger) -> pa.Table:
    tables: list[pa.Table] = []
    for file in files:
        texts, numbers = list[str](), list[int]()
        for number, text in islice(_units(file, unit, settings.encoding), settings.limit):
            texts.append(text)
            numbers.append(number)
        ledger.read(str(file), len(texts))
        rows = {"text": pa.array(texts, pa.large_string()), "_line": pa.array(numbers, pa.int64())}
        tables.append(with_file(pa.table(rows), str(file)))
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def _units(file: Path, unit: Unit, encoding: str | None) -> Iterator[tuple[int, str]]:
    """Each document of a text file with the line that it begins in; line breaks are kept."""
    block, begun = list[str](), 1
    for number, line in enumerate(lines(file, detect(file, encoding)), 1):
        bare = line.rstrip("\r\n")
        plain = bare if bare == line else f"{bare}\n"
        if unit == "line":
            yield number, plain.rstrip("\n")
            continue
        if unit == "paragraph" and not line.strip():
            if block:
                yield begun, "".join(block).rstrip("\n")
            block = []
            continue
        if not block:
            begun = number
        block.append(plain)
    if block:
        text = "".join(block)
        yield begun, text if unit == "file" else text.rstrip("\n")


def _held_out(
    train: pa.Table, shares: dict[str, float], seed: int, ledger: Ledger
) -> dict[str, pa.Table]:
    """Train and the splits that are cut from it."""
    wanted = {name: share for name, share in shares.items() if share}
    if not wanted:
        return {"train": train}
    if len(train) < FEW:
        return _ends(train, wanted, ledger)
    order = np.random.default_rng(seed).permutation(len(train))
    parts, at = dict[str, pa.Table](), 0
    for name, share in wanted.items():
        count = max(1, round(share * len(train)))
        parts[name] = train.take(pa.array(np.sort(order[at : at + count])))
        at += count
    return {"train": train.take(pa.array(np.sort(order[at:]))), **parts}


def _ends(train: pa.Table, shares: dict[str, float], ledger: Ledger) -> dict[str, pa.Table]:
    """Of few documents the last part of each is held out, and counts as a document of its own."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("train", *shares)}
    for row in train.to_pylist():
        text, line = str(row["text"]), int(row["_line"])
        cuts, left = [0], 1.0 - sum(shares.values())
        for share in shares.values():
            place = text.rfind("\n", 0, max(1, round(left * len(text)))) + 1
            cuts.append(max(place or round(left * len(text)), cuts[-1]))
            left += share
        cuts.append(len(text))
        for name, (begin, end) in zip(rows, pairwise(cuts), strict=True):
            if text[begin:end].strip():
                at = line + text.count("\n", 0, begin)
                rows[name].append({**row, "text": text[begin:end], "_line": at})
    more = sum(map(len, rows.values())) - len(train)
    ledger.read("(documents that were cut in parts)", more)
    ledger.note("held out", f"the corpus has {counted(len(train), 'document')}: of each the last "
                f"{sum(shares.values()):.0%} is held out")  # fmt: skip
    return {name: pa.Table.from_pylist(some, train.schema) for name, some in rows.items()}
