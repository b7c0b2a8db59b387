"""`inspect`: look at the data before anything is trained; say what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from warmstart.config.recipe import Recipe
from warmstart.data.ledger import Ledger
from warmstart.errors import RecipeError, RunError
from warmstart.files import write_atomically, write_json
from warmstart.run import check_free, check_writable, free_path, now, why

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.data.dedup.pairs import Duplicates
    from warmstart.data.profiling.columns import Source
    from warmstart.pipelines.clean import Removal


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
    from warmstart.data.profiling.columns import corrected, read_all
    from warmstart.pipelines import clean as copies

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
    from warmstart.pipelines.output_file import ENDINGS

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
    from warmstart.data.profiling.columns import read_all
    from warmstart.data.splitting import load
    from warmstart.pipelines.clean import write_split

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
    from warmstart.pipelines.output_file import Writer
    from warmstart.reporting.inspection import write_inspection

    try:
        with write_atomically(out) as fresh:
            fresh.mkdir(parents=True)
            write_inspection(fresh / "report.html", summary, tables)
            write_json(fresh / "inspection.json", summary)
            if write_suspicious is not None:
                write_suspicious(fresh / "suspicious.csv")
            with Writer(fresh / "duplicates.csv") as writer:
                writer.write(tables["duplicates"])
            if out.is_dir():
                out.rmdir()
    except OSError as error:
        raise RunError(f"cannot write to {out}: {why(error)}; choose another --out") from error


# All that an inspection looks at, in order, and what it makes of it.


@dataclass
class Seen:
    """What was found: the facts with their findings, tables, and what a clean copy needs."""

    summary: dict[str, Any]
    tables: dict[str, pa.Table]
    source: Source
    groups: dict[str, np.ndarray]
    write_suspicious: Callable[[Path], None] | None = None

    def removals(self) -> list[Removal]:
        """The rows that a clean copy leaves out."""
        from warmstart.data.dedup.exact import text_keys
        from warmstart.pipelines.clean import removals

        parts = self.source.parts
        keys = {name: text_keys(_filled(table), ["text"]) for name, table in parts.items()}
        return removals(parts, self.groups, keys)


def look(
    recipe: Recipe,
    source: Source,
    asked: Mapping[str, Any],
    features: bool,
    max_rows: int,
    progress: Progress | None,
) -> Seen:
    """Everything; `features` says whether the base is to judge labels, on at most `max_rows`."""
    from warmstart.evaluation.inspection import facts
    from warmstart.evaluation.inspection.findings import findings
    from warmstart.evaluation.inspection.labels import balance, judge
    from warmstart.models.base import resolve
    from warmstart.models.loading import load_tokenizer

    task: Any = recipe.task
    base = resolve(recipe.base, revision=recipe.revision)
    tokenizer = load_tokenizer(base)
    most = min(tokenizer.model_max_length, 1 << 20)
    rows = facts.all_rows(source.parts)
    summary: dict[str, Any] = {**asked, "base": base.name, **facts.basics(source, recipe.data)}
    summary["classes"] = facts.classes(source, rows.labels)
    backend = tokenizer.backend_tokenizer
    longest = min(task.max_length, most)
    summary["lengths"], _ = facts.lengths(rows, backend, longest, most, progress)
    summary["texts"], odd = facts.oddities(rows)
    summary["personal"], personal = facts.personal(rows, progress)
    summary["languages"], languages = facts.languages(rows, recipe.seed, progress)
    labelled = "label" in source.roles
    summary["giveaways"] = (
        facts.giveaways(source, rows, recipe.seed)
        if labelled
        else {"columns": [], "words": [], "sorted_by_label": False}
    )
    copies, groups = _duplicates(recipe, source, progress)
    summary["group"] = group = recipe.data.group
    summary["duplicates"] = facts.duplicate_facts(copies, groups)
    if group:
        from warmstart.data.dedup.pairs import straddling_groups

        summary["duplicates"]["straddling"] = len(straddling_groups(source.whole, group))
    joined = np.concatenate([groups[name] for name in source.parts])
    judged = judge(
        base if features and labelled else None,
        rows, joined, recipe.seed, max_rows, min(longest, 128), progress,
    )  # fmt: skip
    summary["noise"], summary["learning_curve"] = judged.noise_facts, judged.curve
    summary["balance"] = balance(summary["classes"])
    summary["findings"] = findings(summary)
    tables = {
        "columns": pa.Table.from_pylist(summary["columns"]),
        "classes": _class_table(summary["classes"]),
        "cuts": pa.Table.from_pylist(summary["lengths"]["cuts"]),
        "texts": odd,
        "languages": languages,
        "personal_data": personal,
        "duplicates": facts.hidden(copies.pairs),
        "suspicious": judged.listing,
        "findings": pa.Table.from_pylist(summary["findings"]),
    }
    return Seen(summary, tables, source, groups, judged.write)


def _duplicates(
    recipe: Recipe, source: Source, progress: Progress | None
) -> tuple[Duplicates, dict[str, np.ndarray]]:
    """The copies among the rows that have a text (and a label); groups for all rows, else -1."""
    from warmstart.data.dedup.pairs import find_duplicates
    from warmstart.data.profiling.columns import blank

    label = "label" if "label" in source.roles else None
    full: dict[str, np.ndarray] = {}
    parts: dict[str, pa.Table] = {}
    for name, table in source.parts.items():
        full[name] = ~blank(table["text"]) & (True if label is None else ~blank(table[label]))
        parts[name] = table.filter(pa.array(full[name]))
    similarity = recipe.data.similarity
    found = find_duplicates(parts, ["text"], label, similarity, progress=progress)
    groups: dict[str, np.ndarray] = {}
    for name, rows in full.items():
        groups[name] = np.full(len(rows), -1, np.int64)
        groups[name][rows] = found.groups[name]
    return found, groups


def _class_table(classes: Mapping[str, Any] | None) -> pa.Table:
    if classes is None:
        return pa.table({"label": pa.array([], pa.string())})
    return pa.Table.from_pylist([{"label": n, **own} for n, own in classes["counts"].items()])


def _filled(table: pa.Table) -> pa.Table:
    """The table without nulls among its texts."""
    from warmstart.data.profiling.text import as_array

    return table.set_column(table.column_names.index("text"), "text", as_array(table["text"]))
