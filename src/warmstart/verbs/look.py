"""All that an inspection looks at, in order, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from warmstart.recipe import Recipe

if TYPE_CHECKING:
    from warmstart.data.near import Duplicates
    from warmstart.data.profile import Source
    from warmstart.verbs.clean import Removal

Progress = Callable[[str, int, int], None]


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
        from warmstart.data.duplicates import text_keys
        from warmstart.verbs.clean import removals

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
    from warmstart.evaluate import inspection_facts as facts
    from warmstart.evaluate.inspection_findings import findings
    from warmstart.evaluate.inspection_labels import balance, judge
    from warmstart.models.backbone import load_tokenizer
    from warmstart.models.catalog import resolve

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
        from warmstart.data.near import straddling_groups

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
    from warmstart.data.near import find_duplicates
    from warmstart.data.profile import blank

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
    from warmstart.data.profile_text import as_array

    return table.set_column(table.column_names.index("text"), "text", as_array(table["text"]))
