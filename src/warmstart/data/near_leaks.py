"""What nearly equal texts mean for splits: leakage told, and rows that must not part."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.counting import counted
from warmstart.data.arrow import pc
from warmstart.data.duplicates import PAIRS
from warmstart.data.ledger import Ledger, place
from warmstart.data.near_copies import Copies, joined
from warmstart.data.near_groups import straddling_groups

ORDER = ("train", "validation", "test")
FAMILY = 0.05  # share of train from which texts that resemble each other are a family, not copies
LEAST_FAMILY = 20  # rows


def near_rows(copies: Copies, split: str, other: str) -> np.ndarray:
    """Which rows of a split are near a text of the other one, and equal to none."""
    rows = copies.by_split(copies.rows)
    there = np.zeros(len(copies.texts), bool)
    there[rows[other]] = True
    near = np.zeros(len(copies.texts), bool)
    near[copies.right[there[copies.left]]] = True
    near[copies.left[there[copies.right]]] = True
    return (near & ~there)[rows[split]]


def note_near(
    parts: Mapping[str, pa.Table], copies: Copies, found: dict[str, Any], ledger: Ledger
) -> None:
    """Add to what `shared_texts` found, for every two splits, the nearly equal texts.

    Under "near" stand "rows" (of each side, without the equal ones) and "pairs", up to 20:
    [[place, place, similarity]], the most similar first.
    """
    for left, right in combinations([name for name in ORDER if name in parts], 2):
        pairs = _closest(parts, copies, left, right)
        if not pairs:
            continue
        rows = {
            left: int(near_rows(copies, left, right).sum()),
            right: int(near_rows(copies, right, left).sum()),
        }
        empty: dict[str, Any] = {"rows": {left: 0, right: 0}, "pairs": []}
        found.setdefault(f"{left}~{right}", empty)["near"] = {"rows": rows, "pairs": pairs}
        ledger.note(
            "leakage",
            f"{left} and {right} nearly share texts: {counted(rows[right])} of {right} besides the "
            f"equal ones, for example {pairs[0][0]} ~ {pairs[0][1]} (similarity {pairs[0][2]:.2f})",
            splits=[left, right],
            near=True,
            rows=rows,
            pairs=pairs,
        )


def note_groups(
    parts: Mapping[str, pa.Table], column: str, found: dict[str, Any], ledger: Ledger
) -> None:
    """Note, and add under "groups", how many values of the group column two splits share.

    No row is dropped for it. The column is `_group` in `parts`, `column` in the file.
    """
    straddling = straddling_groups(parts, "_group")
    for left, right in combinations([name for name in ORDER if name in parts], 2):
        shared = straddling.filter(
            pc.and_(pc.greater(straddling[left], 0), pc.greater(straddling[right], 0))
        )
        if not len(shared):
            continue
        rows = {name: int(pc.sum(shared[name]).as_py()) for name in (left, right)}
        examples = shared["value"][:PAIRS].to_pylist()
        empty: dict[str, Any] = {"rows": {left: 0, right: 0}, "pairs": []}
        facts = {"column": column, "values": len(shared), "rows": rows, "examples": examples}
        found.setdefault(f"{left}~{right}", empty)["groups"] = facts
        ledger.note(
            "leakage",
            f"{left} and {right} share {counted(len(shared), 'value')} of the group '{column}': "
            f"{counted(rows[right])} of {right}; all are kept",
            splits=[left, right],
            **facts,
        )


def kept_together(
    keys: np.ndarray, texts: np.ndarray, copies: Copies, values: pa.Array | None, ledger: Ledger
) -> np.ndarray:
    """The keys by which train is cut: equal for rows whose texts or group values hang together.

    `texts` are the rows' numbers in `copies`, `values` the rows' group values. Rows that hang
    together with no other keep their key. Nearly equal texts of more than FAMILY of the rows are
    cut like others, or there would be nothing to cut; that is noted.
    """
    if not len(copies.left) and values is None:
        return keys
    _, own = np.unique(keys, return_inverse=True)
    near = copies.groups[texts]
    sizes = np.bincount(near, minlength=len(copies.texts))
    big = sizes[near] > max(LEAST_FAMILY, FAMILY * len(keys))
    if big.any():
        _note_family(int(big.sum()), len(np.unique(near[big])), ledger)
    base, count = int(own.max(initial=-1)) + 1, len(copies.texts)
    left, right = [own[~big]], [base + near[~big]]
    if values is not None:
        codes = values.dictionary_encode().indices
        known = np.asarray(pc.is_valid(codes))
        numbers = np.asarray(codes.drop_null(), np.int64)
        left.append(own[known])
        right.append(base + count + numbers)
        count += int(numbers.max(initial=-1)) + 1
    whole = joined(base + count, np.concatenate(left), np.concatenate(right))[own]
    least = np.full(base + count, np.iinfo(np.int64).max)
    np.minimum.at(least, whole, keys)
    return least[whole]


def _note_family(rows: int, families: int, ledger: Ledger) -> None:
    ledger.note(
        "duplicates",
        f"{counted(rows)} in {counted(families, 'large family', 'large families')} of "
        "texts that resemble each other; they are too many to stay on one side of a split "
        "and are cut like other rows",
        rows=rows,
        families=families,
    )


def _closest(
    parts: Mapping[str, pa.Table], copies: Copies, left: str, right: str
) -> list[list[Any]]:
    """[place in left, place in right, similarity] of the most similar texts of two splits."""
    rows = copies.by_split(copies.rows)
    first: dict[str, np.ndarray] = {}
    for name in (left, right):
        first[name] = np.full(len(copies.texts), -1, np.int64)
        first[name][rows[name][::-1]] = np.arange(len(rows[name]) - 1, -1, -1)
    one = np.concatenate([copies.left, copies.right])
    other = np.concatenate([copies.right, copies.left])
    share = np.concatenate([copies.similarity, copies.similarity])
    at = np.flatnonzero(
        (first[left][one] >= 0) & (first[right][other] >= 0)
        & (first[left][other] < 0) & (first[right][one] < 0)
    )  # fmt: skip
    at = at[np.lexsort((first[right][other[at]], -share[at]))][:PAIRS]
    return [
        [
            place(parts[left], int(first[left][one[i]])),
            place(parts[right], int(first[right][other[i]])),
            round(float(share[i]), 4),
        ]
        for i in at.tolist()
    ]
