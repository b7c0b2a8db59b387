"""`inspect`: look at the data before anything is trained; say what is wrong and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.config.recipe import Recipe
from warmstart.data.dedup.exact import text_keys
from warmstart.data.ledger import Ledger
from warmstart.data.profiling.columns import Source, corrected, read_all
from warmstart.data.readers.read import only_file
from warmstart.data.readers.text import lines_of
from warmstart.data.splitting import load
from warmstart.data.tables import RESERVED
from warmstart.errors import DataError, RecipeError, RunError, typed
from warmstart.evaluation.inspection import run_checks
from warmstart.evaluation.inspection.base import CheckResult, Context, Progress
from warmstart.evaluation.inspection.tasks import flat_text
from warmstart.files import write_atomically, write_json, write_text
from warmstart.models.base import resolve
from warmstart.models.loading import load_tokenizer
from warmstart.pipelines.clean import check_fix, check_split, removals, write_clean, write_split
from warmstart.pipelines.reading.recognise import (
    NO_TASK,
    PLAIN,
    check_columns,
    for_base,
    recognise,
    sample_for,
    taking,
    texts_in,
)
from warmstart.pipelines.reading.rows import ENDINGS, Writer
from warmstart.reporting.inspection import render_inspection
from warmstart.run import now, run_folder, why
from warmstart.tasks.pairs import BETWEEN

MAX_ROWS = 20_000


class Inspection:
    """An inspection. `summary` is a plain dict; `tables` maps names to pandas DataFrames."""

    def __init__(self, path: Path, summary: dict[str, Any], tables: Mapping[str, pa.Table]) -> None:
        self.path, self.summary, self.arrow_tables = path, summary, tables
        self.lines: dict[str, str] = {}  # of figures, for the terminal
        self.next: list[tuple[str, str]] = []  # commands, and what each does

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
    recipe = _with_data(recipe, source)
    path = recipe.data.path or recipe.data.train
    named, out = Path(path or "data"), run_folder(out, path, "inspect")
    recipe, kind, why_so = _recognised(recipe, source)
    task: Any = recipe.task
    copies = kind not in NO_TASK and "text" in task.roles
    if fix or split:
        _check_copies(copies, kind)
    data, own, left_out = read_for(kind, recipe, source)
    if recipe.data.corrections and "label" in data.roles:
        data = corrected(data, recipe.data.corrections)
    if fix is not None:
        check_fix(fix, data)
    if split is not None:
        check_split(split)
    base = resolve(recipe.base, revision=recipe.revision)
    context = Context(
        data,
        recipe.data,
        base,
        load_tokenizer(base),
        asked_length=task.max_length,
        seed=recipe.seed,
        data=path or "DATA",
        out=out,
        clean_name=_clean_name(named, len(data.parts)),
        kind=kind,
        own=own,
        left_out=left_out,
        copies=copies,
        use_features=features and kind not in ("pairs", *NO_TASK),
        max_rows=max_rows,
        progress=progress,
        template=getattr(task, "template", None),
    )
    result = run_checks(context)
    result.lines = {"read for": f"{kind}{why_so}", **result.lines}
    summary = {
        "created": now(),
        **result.facts,
        "findings": [finding._asdict() for finding in result.findings],
        "written": _write_copies(recipe, source, context, fix, split),
    }
    _publish(out, summary, result)
    inspection = Inspection(out, summary, result.tables)
    inspection.lines = result.lines
    inspection.next = _next_steps(context)
    return inspection


def _with_data(recipe: Recipe, source: Any) -> Recipe:
    """The recipe with the file that is read. Raises `RecipeError` where there are no data."""
    if source is None and recipe.data.path is None and recipe.data.train is None:
        raise RecipeError("no data: name a file or folder, or give --data.train FILE")
    if source is None and recipe.data.path:
        return _with_file(recipe, recipe.data.path)
    return recipe


def _with_file(recipe: Recipe, path: str) -> Recipe:
    """The recipe, with the file in the place of a folder that holds it alone, as a benchmark's."""
    data = recipe.data.model_copy(update={"path": str(only_file(path) or path)})
    return recipe.model_copy(update={"data": data})


def _clean_name(data: Path, parts: int) -> str:
    """What a clean copy could be called: a file, or of several splits a folder."""
    ending = data.suffix if data.suffix in ENDINGS else ".csv"
    return f"{data.stem}-clean{ending if parts == 1 else ''}"


def _check_copies(copies: bool, kind: str) -> None:
    """Raise `RecipeError` where no clean copy can be written of such rows."""
    if not copies:
        raise RecipeError(
            "--fix and --split write copies of single texts with their labels, and these rows are "
            f"for {kind}; leave them out, and mend what the report lists by hand"
        )


def _next_steps(context: Context) -> list[tuple[str, str]]:
    """Commands that these rows can be given to, and what each does."""
    data, steps = typed(context.data), list[tuple[str, str]]()
    if context.copies:
        clean = "a clean copy, and every removed row with its reason beside it"
        steps.append((f"warmstart inspect {data} --fix {typed(context.clean_name)}", clean))
    verb = {PLAIN: "pretrain"}.get(context.kind, None if context.kind in NO_TASK else "tune")
    if verb is not None:
        what = "what training would do with the data"
        usual: str = Recipe.model_fields["base"].default
        base = "" if context.base.name == usual else f" --base {typed(context.base.name)}"
        steps.append((f"warmstart {verb} {data}{base} --dry-run", what))
    return steps


def _recognised(recipe: Recipe, source: Any) -> tuple[Recipe, str, str]:
    """The recipe with the task that the columns say; what the rows are for, and why in words."""
    table = sample_for(recipe, source)
    known = None if table is None else recognise(table)
    known = known and for_base(known, recipe)
    if known is None:
        if table is not None:
            check_columns(table, typed(recipe.data.path or recipe.data.train or "DATA"), "inspect")
        return recipe, recipe.task.part_name(), ""
    reason = f", by the columns {known.reason}" if known.columns else ""
    if known.task in NO_TASK:
        return recipe, known.task, reason
    return taking(known.task, recipe), known.task, reason


def read_for(
    kind: str, recipe: Recipe, source: Any
) -> tuple[Source, dict[str, pa.Table], Counter[str]]:
    """The data with one text a row, which the checks of texts read; split → the rows in the task's
    own form; and the rows that it cannot use, by their reasons."""
    settings = recipe.data.model_copy(update={"bad_rows": "skip"})  # they are findings
    if kind in NO_TASK:
        lines = _lines(recipe, source)
        data = read_all(settings, {}, (), Ledger(), source if lines is None else lines)
        parts = {
            split: _with_text(table, [flat_text(row) for row in _plain(table).to_pylist()])
            for split, table in data.whole.items()
        }
        return replace(data, parts=parts), data.whole, Counter()
    task: Any = recipe.task
    if task.label == "label" and "text" in task.roles:
        return read_all(settings, task.roles, {"text"}, Ledger(), source), {}, Counter()
    required = set(task.roles) if task.required is None else task.required
    data = read_all(settings, task.roles, required, Ledger(), source, task.nested)
    own, whole, parts = dict[str, pa.Table](), dict[str, pa.Table](), dict[str, pa.Table]()
    reasons: Counter[str] = Counter()
    for split, table in data.parts.items():
        lost: dict[int, str] = {}
        own[split] = rows = task.rows(table, lost.setdefault)
        reasons.update(lost.values())
        if not len(rows):
            raise DataError(
                f"{table['_file'][0].as_py()}: task {kind} can use none of these rows "
                f"({next(iter(lost.values()))}); name other columns with --data.columns.ROLE NAME"
            )
        kept = np.setdiff1d(np.arange(len(table)), list(lost))
        whole[split] = data.whole[split].take(pa.array(kept))
        names = [name for name in task.texts if name in rows.column_names]
        cells = (rows[name].to_pylist() for name in names)
        texts = [BETWEEN.join(filter(None, row)) for row in zip(*cells, strict=True)]
        parts[split] = _with_text(rows, texts)
    return replace(data, parts=parts, whole=whole), own, reasons


def _with_text(table: pa.Table, texts: list[str]) -> pa.Table:
    """One text a row, its label where there is a column of labels, and where the row stands."""
    kept = [name for name in ("label", "_file", "_line") if name in table.column_names]
    return table.select(kept).append_column("text", pa.array(texts, pa.string()))


def _plain(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in RESERVED if name in table.column_names])


def _lines(recipe: Recipe, source: Any) -> pa.Table | None:
    """The lines of files of plain text; None for anything else."""
    path = recipe.data.path or recipe.data.train
    tables = [lines_of(file) for file in texts_in(Path(path))] if path and source is None else []
    if not tables:
        return None
    return pa.concat_tables(table.drop_columns(["_file"]) for table in tables)


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
