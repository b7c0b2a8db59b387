"""Duplicates as a person reads them: which row is a copy of which, with file, line and label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.dedup.clusters import SIMILARITY, Copies, Progress, blank_texts, find_copies
from warmstart.data.tables import pc

KINDS = ("exact", "normalised", "near")
EXACT, NORMALISED, NEAR = range(3)


@dataclass(frozen=True, slots=True, eq=False)
class Duplicates:
    """Copies among the rows of all splits.

    `pairs` has one row a pair: left_split, left_file, left_line, left_label, left_text, the same
    for right, `kind` (one of KINDS), `similarity` (the share of words, 1 for equal texts) and
    `conflict` (the labels differ). Each row that is a copy of an earlier one is the right side of
    one pair; test rows are earlier than validation rows, and these than train rows. `groups` has an
    int64 for each row: rows of one number are copies of each other, directly or by way of others.
    """

    pairs: pa.Table
    groups: dict[str, np.ndarray]
    summary: dict[str, Any]


def find_duplicates(
    parts: Mapping[str, pa.Table],
    texts: Sequence[str],
    label: str | None,
    similarity: float = SIMILARITY,
    progress: Progress | None = None,
) -> Duplicates:
    """Every copy of an earlier row, within and between splits; see `find_copies` for what is near.

    `parts` are tables with the roles `texts`, `_file` and `_line`, and `label` if it is not None;
    rows without text are no copies. The summary counts pairs, kinds, conflicts, and for each split
    and each two splits the rows concerned.
    """
    copies = find_copies(parts, texts, similarity, progress)
    first = np.unique(copies.rows, return_index=True)[1]
    blank = blank_texts(copies.texts)[copies.rows]
    left, right, kind, share = _stars(copies, first, blank)
    table = pa.concat_tables(_rows(name, parts[name], texts, label) for name in copies.sizes)
    sides = {"left": table.take(pa.array(left)), "right": table.take(pa.array(right))}

    def equal(name: str) -> np.ndarray:
        same = pc.equal(sides["left"][name], sides["right"][name])
        return np.asarray(pc.fill_null(same, name == "label"))

    equal_texts = np.logical_and.reduce([equal(f"text:{role}") for role in texts])
    kind[(kind == NORMALISED) & equal_texts] = EXACT
    conflict = ~equal("label")
    columns = {
        f"{side}_{name}": _text(rows, texts) if name == "text" else rows[name]
        for side, rows in sides.items()
        for name in ("split", "file", "line", "label", "text")
    }
    columns["kind"] = pa.array(KINDS).take(pa.array(kind))
    columns["similarity"] = pa.array(share, pa.float32())
    columns["conflict"] = pa.array(conflict)
    groups = copies.by_split(
        np.where(blank, np.arange(len(blank)), first[copies.groups][copies.rows])
    )
    ends = (np.searchsorted(copies.ends, rows, "right") for rows in (left, right))
    summary = {
        "pairs": len(kind),
        "by_kind": dict(zip(KINDS, np.bincount(kind, minlength=3).tolist(), strict=True)),
        "by_splits": _by_splits(groups, *ends),
        "conflicts": int(conflict.sum()),
    }
    return Duplicates(pa.table(columns), groups, summary)


def _stars(
    copies: Copies, first: np.ndarray, blank: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Left row, right row, kind and similarity of every pair, by right row.

    An equal text stands beside its first row, a near one beside the earlier text that is nearest:
    of several the most similar of the first split, so that what is shared with test is seen.
    """
    again = np.flatnonzero((first[copies.rows] != np.arange(len(copies.rows))) & ~blank)
    ends = np.stack([first[copies.left], first[copies.right]])
    left, right = ends.min(0), ends.max(0)
    split = np.searchsorted(copies.ends, left, "right")
    order = np.lexsort((left, -copies.similarity, split, right))
    order = order[np.unique(right[order], return_index=True)[1]]
    lefts = np.concatenate([first[copies.rows[again]], left[order]])
    rights = np.concatenate([again, right[order]])
    kind = np.repeat([NORMALISED, NEAR], [len(again), len(order)])
    shares = np.concatenate([np.ones(len(again), np.float32), copies.similarity[order]])
    order = np.argsort(rights, kind="stable")
    return lefts[order], rights[order], kind[order], shares[order]


def _rows(split: str, table: pa.Table, texts: Sequence[str], label: str | None) -> pa.Table:
    """Split, file, line, label and texts of all rows of a split."""
    nothing = pa.nulls(len(table), pa.string())
    return pa.table(
        {
            "split": pa.repeat(split, len(table)),
            "file": table["_file"].cast(pa.string()),
            "line": table["_line"].cast(pa.int64()),
            "label": table[label].cast(pa.string()) if label else nothing,
            **{f"text:{role}": table[role].cast(pa.large_string()) for role in texts},
        }
    )


def _text(rows: pa.Table, texts: Sequence[str]) -> Any:
    """Several texts of a row stand under each other."""
    columns = [rows[f"text:{role}"] for role in texts]
    separator = pa.scalar("\n", pa.large_string())
    return columns[0] if len(texts) == 1 else pc.binary_join_element_wise(*columns, separator)


def _by_splits(
    groups: dict[str, np.ndarray], left: np.ndarray, right: np.ndarray
) -> dict[str, dict[str, dict[str, int]]]:
    """The pairs within each split, whose numbers are `left` and `right`, and the rows of every two
    splits that stand in both."""
    counts = {
        name: {"rows": {name: int(((left == i) & (right == i)).sum())}}
        for i, name in enumerate(groups)
    }
    for name, other in combinations(reversed(groups), 2):
        here, there = groups[name], groups[other]
        rows = {name: int(np.isin(here, there).sum()), other: int(np.isin(there, here).sum())}
        counts[f"{name}~{other}"] = {"rows": rows}
    return counts
