"""`inspect`: look at the data before anything is trained; say what is wrong and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.data.ledger import Ledger
from warmstart.errors import RecipeError, RunError
from warmstart.recipe import Recipe
from warmstart.run import check_free, check_writable, free_path, now, why, write_json

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[str, int, int], None]
MAX_ROWS = 20_000


class Inspection:
    """What was found. `summary` is a plain dict; `tables` maps names to pandas DataFrames."""

    def __init__(self, path: Path, summary: dict[str, Any], tables: Mapping[str, pa.Table]) -> None:
        self.path, self.summary = path, summary
        self.tables: Mapping[str, Any] = _Frames(tables)

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The gravest first: {"kind", "severity", "message", "rows", "remedy"}."""
        return self.summary["findings"]

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    def __repr__(self) -> str:
        return f"Inspection('{self.path}', {len(self.findings)} findings)"


class _Frames(Mapping[str, Any]):
    """Tables that become DataFrames when they are asked for."""

    def __init__(self, tables: Mapping[str, pa.Table]) -> None:
        self._tables = dict(tables)

    def __getitem__(self, name: str) -> Any:
        return self._tables[name].to_pandas()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __repr__(self) -> str:
        return f"tables({', '.join(self._tables)})"


def inspect(
    recipe: Recipe,
    source: Any = None,
    *,
    out: Path | None = None,
    fix: Path | None = None,
    split: Path | None = None,
    features: bool = True,
    max_rows: int = MAX_ROWS,
    progress: Progress | None = None,
) -> Inspection:
    """See `api.inspect`. Raises `WarmstartError`; nothing is written before the data are read."""
    from warmstart.data.profile import corrected, read_all
    from warmstart.verbs import copies
    from warmstart.verbs.look import look

    asked: Any = recipe.task
    if "text" not in asked.roles:
        raise RecipeError(
            f"inspect looks at single texts and their labels, and task {asked.part_name()} has no "
            "column of these; leave --task out to look at one column of texts"
        )
    if source is None and recipe.data.path is None and recipe.data.train is None:
        raise RecipeError("no data: name a file or folder, or give --data.train FILE")
    out = out or free_path(f"{stem(recipe)}-inspect")
    check_free(out)
    check_writable(out)
    task: Any = recipe.task
    read = read_all(recipe.data, task.roles, {"text"}, Ledger(), source)
    if recipe.data.corrections and "label" in read.roles:
        read = corrected(read, recipe.data.corrections)
    if fix is not None:
        copies.check_fix(fix, read)
    if split is not None:
        copies.check_split(split)
    name = recipe.data.path or recipe.data.train or "DATA"
    asked = {"data": name, "out": str(out), "clean_name": _clean_name(name, len(read.parts))}
    seen = look(recipe, read, asked, features, max_rows, progress)
    written: dict[str, Any] = {}
    if fix is not None:
        written["fix"] = copies.write_clean(read, seen.removals(), fix)
    if split is not None:
        written["split"] = _split(recipe, source, fix, split, "label" in read.roles)
    created = now()
    summary = {"created": created, **seen.summary, "written": written}
    _publish(out, summary, seen.tables, seen.write_suspicious)
    return Inspection(out, summary, seen.tables)


def stem(recipe: Recipe) -> str:
    """What an inspection is called that was given no name: after its data."""
    source = recipe.data.path or recipe.data.train or "data"
    return Path(source).resolve().stem or "data"


def _clean_name(data: str, splits: int) -> str:
    """A name to suggest for a clean copy."""
    from warmstart.verbs.labelled import ENDINGS

    path = Path(data)
    if splits > 1:
        return f"{path.stem}-clean"
    ending = path.suffix if path.suffix in ENDINGS else ".csv"
    return f"{path.stem.lower() if path.stem == 'DATA' else path.stem}-clean{ending}"


def _split(
    recipe: Recipe, source: Any, fixed: Path | None, out: Path, labelled: bool
) -> dict[str, Any]:
    """Train, validation and test as `tune` would cut them, with all columns; of the clean copy
    where there is one."""
    from warmstart.data.profile import read_all
    from warmstart.data.splits import load
    from warmstart.verbs.copies import write_split

    task: Any = recipe.task
    data = recipe.data.model_copy(update={"max_dropped": 1.0})  # what is left out is written down
    if fixed is not None:
        unset = {"path": str(fixed), "train": None, "validation": None, "test": None}
        data, source = data.model_copy(update=unset), None
    roles = task.roles if labelled else {"text": task.roles["text"]}
    label = "label" if labelled else None
    found = load(data, roles, set(roles), recipe.seed, Ledger(), source, label)
    whole = read_all(data, task.roles, {"text"}, Ledger(), source)
    tables = {name: getattr(found, name) for name in ("train", "validation", "test")}
    return write_split(whole, tables, out)


def _publish(
    out: Path,
    summary: dict[str, Any],
    tables: Mapping[str, pa.Table],
    write_suspicious: Callable[[Path], None] | None,
) -> None:
    """The files of an inspection; the folder is there whole or not at all."""
    import shutil

    from warmstart.evaluate.inspection import write_inspection
    from warmstart.verbs.labelled import Writer

    fresh = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        fresh.mkdir(parents=True)
        write_inspection(fresh / "report.html", summary, tables)
        write_json(fresh / "inspection.json", summary)
        if write_suspicious is not None:
            write_suspicious(fresh / "suspicious.csv")
        with Writer(fresh / "duplicates.csv") as writer:
            writer.write(tables["duplicates"])
        if out.is_dir():
            out.rmdir()
        os.replace(fresh, out)
    except OSError as error:
        raise RunError(f"cannot write to {out}: {why(error)}; choose another --out") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
