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
from warmstart.data.profiling.columns import corrected, read_all
from warmstart.data.splitting import load
from warmstart.errors import RecipeError, RunError
from warmstart.evaluation.inspection import run_checks
from warmstart.evaluation.inspection.base import CheckResult, Context, Progress
from warmstart.files import write_atomically, write_json, write_text
from warmstart.models.base import resolve
from warmstart.models.loading import load_tokenizer
from warmstart.pipelines.clean import check_fix, check_split, removals, write_clean, write_split
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
    named, out = Path(path or "data"), run_folder(out, path, "inspect")
    reading = recipe.data.model_copy(update={"bad_rows": "skip"})  # they are findings
    data = read_all(reading, task.roles, {"text"}, Ledger(), source)
    if recipe.data.corrections and "label" in data.roles:
        data = corrected(data, recipe.data.corrections)
    if fix is not None:
        check_fix(fix, data)
    if split is not None:
        check_split(split)
    base = resolve(recipe.base, revision=recipe.revision)
    ending = named.suffix if named.suffix in ENDINGS else ".csv"
    context = Context(
        data,
        recipe.data,
        base,
        load_tokenizer(base),
        asked_length=task.max_length,
        seed=recipe.seed,
        data=path or "DATA",
        out=out,
        clean_name=f"{named.stem}-clean{ending if len(data.parts) == 1 else ''}",
        use_features=features,
        max_rows=max_rows,
        progress=progress,
    )
    result = run_checks(context)
    summary = {
        "created": now(),
        **result.facts,
        "findings": [finding._asdict() for finding in result.findings],
        "written": _write_copies(recipe, source, context, fix, split),
    }
    _publish(out, summary, result)
    inspection = Inspection(out, summary, result.tables)
    inspection.lines = result.lines
    return inspection


def _write_copies(
    recipe: Recipe, source: Any, context: Context, fix: Path | None, split: Path | None
) -> dict[str, Any]:
    """A clean copy; and train, validation and test as `tune` would cut them, with all columns, of
    the clean copy where there is one."""
    task: Any = recipe.task
    written, parts = dict[str, Any](), context.source.parts
    if fix is not None:
        keys = {name: text_keys(table, ["text"]) for name, table in parts.items()}
        gone = removals(parts, context.duplicates.groups, keys)
        written["fix"] = write_clean(context.source, gone, fix)
    if split is not None:
        lenient = {"max_dropped": 1.0, "bad_rows": "skip"}  # what is left out is told
        data = recipe.data.model_copy(update=lenient)
        if fix is not None:
            unset = {"path": str(fix), "train": None, "validation": None, "test": None}
            data, source = data.model_copy(update=unset), None
        label = "label" if context.source.has_labels else None
        roles = task.roles if label else {"text": task.roles["text"]}
        splits = load(data, roles, set(roles), recipe.seed, Ledger(), source, label)
        whole = read_all(data, task.roles, {"text"}, Ledger(), source)
        tables = {name: getattr(splits, name) for name in ("train", "validation", "test")}
        written["split"] = write_split(whole, tables, split)
    return written


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
