"""Which source holds which split."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmstart.data.ledger import Ledger
from warmstart.data.readers.files import SUPPORTED, check_local, data_files
from warmstart.data.readers.hub import is_hub_id, load_hub
from warmstart.data.readers.parquet import is_dataset, saved_splits
from warmstart.data.settings import Data
from warmstart.errors import DataError, RecipeError, shown

ALIASES = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


def gather(settings: Data, source: Any, ledger: Ledger) -> dict[str, Any]:
    """Split name to something that `read` takes; always with 'train'.

    `source` (a path or Python object) stands in for `settings.path`. Raises RecipeError when the
    request names no train data, or two; DataError when a folder holds none.
    """
    origin = settings.path if source is None else source
    named = {
        name: value
        for name, value in (
            ("train", settings.train),
            ("validation", settings.validation),
            ("test", settings.test),
        )
        if value is not None
    }
    found = {} if origin is None else _expand(origin, ledger)
    if origin is not None and "train" in named and set(found) == {"train"}:
        raise RecipeError("two sources to train on; give either the path or --data.train")
    parts = {**found, **named}
    if "train" not in parts:
        has = f"only {' and '.join(parts)} data were given" if parts else "no data were given"
        raise RecipeError(f"{has}; name a file to train on, or --data.train FILE")
    _refuse_twice(parts)
    return {name: parts[name] for name in ALIASES if name in parts}


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
    found: dict[str, Any] = {}
    for split, aliases in ALIASES.items():
        present = [name for name in parts if str(name).lower() in aliases]
        if len(present) > 1:
            raise DataError(f"{where} has more than one {split} split: {', '.join(present)}")
        if present:
            found[split] = parts[present[0]]
    unused = [str(name) for name in parts if not any(parts[name] is x for x in found.values())]
    if "train" not in found:
        listing = ", ".join(shown(name) for name in parts) or "nothing"
        raise DataError(f"{where} has no train split; it holds {listing}. Name one 'train'")
    if unused:
        ledger.note("unused", f"parts of {where} not used: {', '.join(unused)}", parts=unused)
    return found


def _folder(path: Path) -> dict[str, Any]:
    """The files train.*, validation.* and test.* of a folder."""
    try:
        files = data_files(path)
    except PermissionError:
        raise DataError(f"folder {path} may not be read: change its permissions") from None
    found: dict[str, Any] = {}
    for split, aliases in ALIASES.items():
        present = [file for file in files if file.name.lower().partition(".")[0] in aliases]
        if len(present) > 1:
            both = " and ".join(file.name for file in present[:2])
            raise DataError(f"{path} holds both {both}; keep one, or name it with --data.{split}")
        if present:
            found[split] = present[0]
    if "train" not in found:
        listing = ", ".join(shown(name, 30) for name in sorted(os.listdir(path))[:10]) or "nothing"
        raise DataError(
            f"{path} holds no train.csv, train.jsonl or the like ({SUPPORTED}); it holds "
            f"{listing}. Name the file itself, or call it train.*"
        )
    return found


def _refuse_twice(parts: Mapping[str, Any]) -> None:
    """Raises RecipeError if one file or object is given for two splits."""
    seen: dict[Any, str] = {}
    for split, origin in parts.items():
        is_path = isinstance(origin, str | os.PathLike)
        key = os.path.realpath(os.path.expanduser(origin)) if is_path else id(origin)
        if key in seen:
            name = str(origin) if is_path else "one object"
            raise RecipeError(
                f"{name} is given as {seen[key]} and as {split}; a score on rows that were "
                f"trained on means nothing. Leave --data.{split} out to have one cut off"
            )
        seen[key] = split
