"""`inspect`: look at the data before anything is trained; say what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from warmstart.config.recipe import Recipe
from warmstart.data.dedup.exact import text_keys
from warmstart.data.ledger import Ledger
from warmstart.data.profiling.columns import Source, corrected, read_all
from warmstart.data.splitting import load
from warmstart.data.tables import pc
from warmstart.errors import RecipeError, RunError
from warmstart.evaluation.inspection import run_checks
from warmstart.evaluation.inspection.base import CheckResult, Context, Progress
from warmstart.files import write_atomically, write_json, write_text
from warmstart.models.base import resolve
from warmstart.models.loading import load_tokenizer
from warmstart.pipelines.clean import (
    check_fix,
    check_split,
    removals,
    write_clean,
    write_split,
)
from warmstart.pipelines.rows import ENDINGS, Writer
from warmstart.reporting.inspection import render_inspection
from warmstart.run import now, run_folder, why

MAX_ROWS = 20_000


class Inspection:
    """An inspection. `summary` is a plain dict; `tables` maps names to pandas DataFrames."""

    def __init__(self, path: Path, summary: dict[str, Any], tables: Mapping[str, pa.Table]) -> None:
        self.path, self.summary, self.arrow_tables = path, summary, tables
        self.lines: dict[str, str] = {}  # of figures, for the terminal

    @cached_property
    def tables(self) -> dict[str, Any]:
        """Name → DataFrame; made at the first use, since pandas takes its time to load."""
        return {name: table.to_pandas() for name, table in self.arrow_tables.items()}

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
    task: Any = recipe.task
    if "text" not in task.roles:
        raise RecipeError(
            f"inspect looks at single texts and their labels, and task {task.part_name()} has no "
            "column of these; leave --task out to look at one column of texts"
        )
    path = recipe.data.path or recipe.data.train
    if source is None and path is None:
        raise RecipeError("no data: name a file or folder, or give --data.train FILE")
    out = run_folder(out, path, "inspect")
    data = read_all(recipe.data, task.roles, {"text"}, Ledger(), source)
    if recipe.data.corrections and "label" in data.roles:
        data = corrected(data, recipe.data.corrections)
    if fix is not None:
        check_fix(fix, data)
    if split is not None:
        check_split(split)
    context = _context(recipe, data, out, features, max_rows, progress)
    result = run_checks(context)
    written: dict[str, Any] = {}
    if fix is not None:
        keys = {
            split: text_keys(pa.table({"text": pc.fill_null(table["text"], "")}), ["text"])
            for split, table in data.parts.items()
        }
        written["fix"] = write_clean(
            data, removals(data.parts, context.duplicates.groups, keys), fix
        )
    if split is not None:
        written["split"] = _split(recipe, source, fix, split, "label" in data.roles)
    summary = {
        "created": now(),
        "data": context.data,
        "out": str(out),
        "clean_name": context.clean_name,
        "base": context.base.name,
        **result.facts,
        "findings": [finding._asdict() for finding in result.findings],
        "written": written,
    }
    _publish(out, summary, result)
    inspection = Inspection(out, summary, result.tables)
    inspection.lines = result.lines
    return inspection


def _context(
    recipe: Recipe,
    data: Source,
    out: Path,
    features: bool,
    max_rows: int,
    progress: Progress | None,
) -> Context:
    """What the checks look at, with the tokenizer of the base loaded."""
    task: Any = recipe.task
    base = resolve(recipe.base, revision=recipe.revision)
    tokenizer = load_tokenizer(base)
    base_limit = min(tokenizer.model_max_length, 1 << 20)
    path = recipe.data.path or recipe.data.train
    stem, ending = Path(path or "data").stem, Path(path or "data").suffix
    if len(data.parts) > 1:
        ending = ""
    elif ending not in ENDINGS:
        ending = ".csv"
    return Context(
        data,
        recipe.data,
        base,
        tokenizer.backend_tokenizer,
        max_length=min(task.max_length, base_limit),
        base_limit=base_limit,
        seed=recipe.seed,
        data=path or "DATA",
        out=out,
        clean_name=f"{stem}-clean{ending}",
        use_features=features,
        max_rows=max_rows,
        progress=progress,
    )


def _split(
    recipe: Recipe, source: Any, clean: Path | None, out: Path, has_labels: bool
) -> dict[str, Any]:
    """Train, validation and test as `tune` would cut them, with all columns; of the clean copy
    where there is one."""
    task: Any = recipe.task
    data = recipe.data.model_copy(update={"max_dropped": 1.0})  # what is left out is written down
    if clean is not None:
        unset = {"path": str(clean), "train": None, "validation": None, "test": None}
        data, source = data.model_copy(update=unset), None
    roles = task.roles if has_labels else {"text": task.roles["text"]}
    label = "label" if has_labels else None
    splits = load(data, roles, set(roles), recipe.seed, Ledger(), source, label)
    whole = read_all(data, task.roles, {"text"}, Ledger(), source)
    tables = {name: getattr(splits, name) for name in ("train", "validation", "test")}
    return write_split(whole, tables, out)


def _publish(out: Path, summary: dict[str, Any], result: CheckResult) -> None:
    """The files of an inspection; the folder is there whole or not at all."""
    try:
        with write_atomically(out) as fresh:
            fresh.mkdir(parents=True)
            write_text(fresh / "report.html", render_inspection(summary, result.tables))
            write_json(fresh / "inspection.json", summary)
            with Writer(fresh / "duplicates.csv") as writer:
                writer.write(result.tables["duplicates"])
            for name, write in result.files.items():
                write(fresh / name)
            if out.is_dir():
                out.rmdir()
    except OSError as error:
        raise RunError(f"cannot write to {out}: {why(error)}; choose another --out") from error
