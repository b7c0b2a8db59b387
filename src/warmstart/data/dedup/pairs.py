"""Duplicates as a person reads them: which row is a copy of which, with file, line and label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.dedup.clusters import (
    SIMILARITY,
    Copies,
    Progress,
    blank_texts,
    find_copies,
    straddling_groups,
)
from warmstart.data.tables import pc

__all__ = ["SIMILARITY", "Duplicates", "find_duplicates", "straddling_groups"]

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
    left, right, kind, share = _stars(copies, first)
    sides = {
        "left": _side(parts, copies, left, texts, label),
        "right": _side(parts, copies, right, texts, label),
    }
    kind[(kind == NORMALISED) & _equal(sides["left"], sides["right"], texts)] = EXACT
    conflict = np.zeros(len(left), bool)
    if label is not None:
        differ = pc.not_equal(sides["left"]["label"], sides["right"]["label"])
        conflict = np.asarray(pc.fill_null(differ, False))
    pairs = pa.table(
        {
            **{f"{side}_{name}": column for side, columns in sides.items()
               for name, column in _shown(columns, texts).items()},
            "kind": pa.array(KINDS).take(pa.array(kind)),
            "similarity": pa.array(share, pa.float32()),
            "conflict": pa.array(conflict),
        }
    )  # fmt: skip
    number = first[copies.groups][copies.rows]
    blank = np.flatnonzero(blank_texts(copies.texts)[copies.rows])
    number[blank] = blank
    groups = copies.by_split(number)
    return Duplicates(pairs, groups, _summary(copies, groups, kind, left, right, conflict))


def _stars(
    copies: Copies, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Left row, right row, kind and similarity of every pair, by right row."""
    every = np.arange(len(copies.rows))
    again = np.flatnonzero((first[copies.rows] != every) & ~blank_texts(copies.texts)[copies.rows])
    left, right, share = _nearest(copies, first)
    lefts = np.concatenate([first[copies.rows[again]], first[left]])
    rights = np.concatenate([again, first[right]])
    kind = np.repeat([NORMALISED, NEAR], [len(again), len(left)])
    shares = np.concatenate([np.ones(len(again), np.float32), share])
    order = np.argsort(rights, kind="stable")
    return lefts[order], rights[order], kind[order], shares[order]


def _nearest(copies: Copies, first: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each text that is near an earlier one: that text, itself, and the similarity.

    Of several the most similar of the first split, so that what is shared with test is seen.
    """
    turned = first[copies.left] > first[copies.right]
    left = np.where(turned, copies.right, copies.left)
    right = np.where(turned, copies.left, copies.right)
    split = np.searchsorted(copies.ends, first[left], "right")
    order = np.lexsort((first[left], -copies.similarity, split, right))
    right, at = np.unique(right[order], return_index=True)
    return left[order][at], right, copies.similarity[order][at]


def _side(
    parts: Mapping[str, pa.Table],
    copies: Copies,
    rows: np.ndarray,
    texts: Sequence[str],
    label: str | None,
) -> dict[str, Any]:
    """Split, file, line, label and texts of some of all rows."""
    order = np.argsort(rows, kind="stable")
    wanted = [*texts, "_file", "_line", *([label] if label else [])]
    columns: dict[str, list[Any]] = {name: [] for name in ["split", *wanted]}
    begin = 0
    for split, size in copies.sizes.items():
        inside = rows[order]
        inside = inside[(inside >= begin) & (inside < begin + size)] - begin
        taken = parts[split].select(wanted).take(pa.array(inside))
        columns["split"].append(pa.array([split]).take(pa.array(np.zeros(len(inside), np.int64))))
        for name in wanted:
            kind = pa.int64() if name == "_line" else pa.large_string()
            columns[name].extend(taken[name].cast(kind).chunks)
        begin += size
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    side = {
        name: pa.chunked_array(chunks, chunks[0].type if chunks else pa.large_string())
        .combine_chunks()
        .take(pa.array(back))
        for name, chunks in columns.items()
    }
    side["label"] = side[label] if label else pa.nulls(len(rows), pa.string())
    return side


def _equal(left: dict[str, Any], right: dict[str, Any], texts: Sequence[str]) -> np.ndarray:
    """Which pairs have the same texts to the letter."""
    same = np.ones(len(left["split"]), bool)
    for role in texts:
        same &= np.asarray(pc.fill_null(pc.equal(left[role], right[role]), False))
    return same


def _shown(side: dict[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """The columns of one side in the table of pairs; several texts stand under each other."""
    columns = {
        "split": side["split"], "file": side["_file"], "line": side["_line"],
        "label": side["label"],
    }  # fmt: skip
    text = side[texts[0]]
    if len(texts) > 1:
        text = pc.binary_join_element_wise(
            *(side[role] for role in texts), pa.scalar("\n", pa.large_string())
        )
    columns["text"] = text
    for name in ("split", "file", "label"):
        columns[name] = columns[name].cast(pa.string())
    return columns


def _summary(
    copies: Copies,
    groups: dict[str, np.ndarray],
    kind: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    conflict: np.ndarray,
) -> dict[str, Any]:
    counts = np.bincount(kind, minlength=len(KINDS)).tolist()
    names = list(copies.sizes)
    left_split, right_split = (np.searchsorted(copies.ends, r, "right") for r in (left, right))
    by_splits: dict[str, Any] = {}
    for i, name in enumerate(names):
        within = (left_split == i) & (right_split == i)
        by_splits[name] = {"rows": {name: int(within.sum())}}
    for name, other in combinations(reversed(names), 2):
        rows = {
            name: int(np.isin(groups[name], groups[other]).sum()),
            other: int(np.isin(groups[other], groups[name]).sum()),
        }
        by_splits[f"{name}~{other}"] = {"rows": rows}
    return {
        "pairs": len(kind),
        "by_kind": dict(zip(KINDS, counts, strict=True)),
        "by_splits": by_splits,
        "conflicts": int(conflict.sum()),
    }
