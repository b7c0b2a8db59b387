"""Checks of texts that stand there twice: between splits, under two labels, within a split."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from warmstart.data.dedup.pairs import straddling_groups
from warmstart.data.profiling.pii import mask
from warmstart.data.tables import pc
from warmstart.errors import typed
from warmstart.evaluation.inspection.base import NOTE, SEVERE, WORTH, CheckResult, Context, n_rows
from warmstart.evaluation.sentences import share
from warmstart.formatting import counted

MANY_CONFLICTS, MANY_REPEATS = 0.01, 0.005  # shares of the rows


def check_leakage(context: Context) -> CheckResult:
    """Copies in all, and texts and groups that stand in train and in another split as well."""
    duplicates, sizes = context.duplicates, context.source.sizes
    pairs, groups = duplicates.pairs, duplicates.groups
    kinds = {row["values"]: row["counts"] for row in pc.value_counts(pairs["kind"]).to_pylist()}
    leaked = {
        split: int(np.isin(numbers[numbers >= 0], groups["train"]).sum())
        for split, numbers in groups.items()
        if split != "train"
    }
    facts = {**duplicates.summary, "by_kind": kinds, "repeats": repeats(groups), "leaked": leaked}
    result = CheckResult({"duplicates": facts}, tables={"duplicates": _masked(pairs)})
    by_kind = ", ".join(f"{n:,} {kind}" for kind, n in kinds.items())
    result.lines["copies"] = counted(len(pairs), "pair") + (f" ({by_kind})" if by_kind else "")
    if any(leaked.values()):
        parts = " and ".join(
            f"{n:,} of the {sizes[split]:,} {split} rows ({share(n / max(sizes[split], 1))})"
            for split, n in leaked.items()
            if n
        )
        result.add(
            "leakage", SEVERE, sum(leaked.values()),
            f"{parts} also stand in train, word for word or nearly, so the score would flatter.",
            "tune leaves their copies out of train by itself; a copy of the data without them: "
            f"{context.fix_flag}")  # fmt: skip
    if group := context.settings.group:
        facts["straddling"] = n = len(straddling_groups(context.source.whole, group))
        if n:
            result.add(
                "group_leakage", SEVERE, n,
                f"{counted(n, 'value')} of {group} {'stands' if n == 1 else 'stand'} on more "
                "than one side of the given splits.",
                "cut the splits anew: give train alone, with "
                f"--data.group {typed(group)} --split FOLDER")  # fmt: skip
    return result


def check_conflicts(context: Context) -> CheckResult:
    """Equal texts with different labels."""
    result = CheckResult()
    if n := context.duplicates.summary["conflicts"]:
        many = n > MANY_CONFLICTS * len(context.source.table)
        result.add(
            "conflict", SEVERE if many else WORTH, n,
            f"{n_rows(n, 'repeats', 'repeat')} the text of another under a different label; at "
            "most one of the two is right.",
            "decide them by hand (duplicates.csv, conflict = true); a copy that keeps a clear "
            f"majority only: {context.fix_flag}")  # fmt: skip
    return result


def check_repeats(context: Context) -> CheckResult:
    """Texts that stand in one split more than once."""
    result, sizes = CheckResult(), context.source.sizes
    counts = {split: n for split, n in repeats(context.duplicates.groups).items() if n}
    if counts:
        total = sum(counts.values())
        parts = ", ".join(
            f"{n:,} of {split} ({share(n / max(sizes[split], 1))})" for split, n in counts.items()
        )
        result.add(
            "duplicates", WORTH if total > MANY_REPEATS * sum(sizes.values()) else NOTE, total,
            f"{n_rows(total, 'repeats', 'repeat')} the text of another row of the same split, "
            f"word for word or nearly, counting more than once: {parts}.",
            f"drop them: {context.fix_flag}; tune keeps copies on one side when it cuts a split",
        )  # fmt: skip
    return result


def repeats(groups: dict[str, np.ndarray]) -> dict[str, int]:
    """Split → rows whose text, exactly or nearly, stands in an earlier row of it."""
    compared = {split: numbers[numbers >= 0] for split, numbers in groups.items()}
    return {split: len(rows) - len(np.unique(rows)) for split, rows in compared.items()}


def _masked(pairs: pa.Table) -> pa.Table:
    """The pairs with the personal data in their texts hidden."""
    for name in ("left_text", "right_text"):
        texts = [mask(text or "") for text in pairs[name].to_pylist()]
        position = pairs.column_names.index(name)
        pairs = pairs.set_column(position, name, pa.array(texts, pa.string()))
    return pairs
