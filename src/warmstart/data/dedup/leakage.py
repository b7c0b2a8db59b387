"""What nearly equal texts mean for splits: leakage, and rows that must not part."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.dedup.clusters import Copies, joined, straddling_groups
from warmstart.data.dedup.exact import PAIRS
from warmstart.data.ledger import Ledger, place
from warmstart.data.tables import SPLITS, pc
from warmstart.formatting import counted

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
    parts: Mapping[str, pa.Table], copies: Copies, leakage: dict[str, Any], ledger: Ledger
) -> None:
    """Add to what `shared_texts` gave, for every two splits, the nearly equal texts.

    Under "near" stand "rows" (of each side, without the equal ones) and "pairs", up to 20:
    [[place, place, similarity]], the most similar first.
    """
    for left, right in combinations([name for name in SPLITS if name in parts], 2):
        pairs = _closest(parts, copies, left, right)
        if not pairs:
            continue
        rows = {
            left: int(near_rows(copies, left, right).sum()),
            right: int(near_rows(copies, right, left).sum()),
        }
        _entry(leakage, left, right)["near"] = {"rows": rows, "pairs": pairs}
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
    parts: Mapping[str, pa.Table], column: str, leakage: dict[str, Any], ledger: Ledger
) -> None:
    """Note, and add under "groups", how many values of the group column two splits share.

    No row is dropped for it. The column is `_group` in `parts`, `column` in the file.
    """
    straddling = straddling_groups(parts, "_group")
    for left, right in combinations([name for name in SPLITS if name in parts], 2):
        both = pc.and_(pc.greater(straddling[left], 0), pc.greater(straddling[right], 0))
        shared = straddling.filter(both)
        if not len(shared):
            continue
        rows = {name: int(pc.sum(shared[name]).as_py()) for name in (left, right)}
        examples = shared["value"][:PAIRS].to_pylist()
        facts = {"column": column, "values": len(shared), "rows": rows, "examples": examples}
        _entry(leakage, left, right)["groups"] = facts
        ledger.note(
            "leakage",
            f"{left} and {right} share {counted(len(shared), 'value')} of the group '{column}': "
            f"{counted(rows[right])} of {right}; all are kept",
            splits=[left, right],
            **facts,
        )


def _entry(leakage: dict[str, Any], left: str, right: str) -> dict[str, Any]:
    """What is known of two splits; without equal texts where nothing is."""
    return leakage.setdefault(f"{left}~{right}", {"rows": {left: 0, right: 0}, "pairs": []})


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
        rows, families = int(big.sum()), len(np.unique(near[big]))
        ledger.note(
            "duplicates",
            f"{counted(rows)} in {counted(families, 'large family', 'large families')} of "
            "texts that resemble each other; they are too many to stay on one side of a split "
            "and are cut like other rows",
            rows=rows,
            families=families,
        )
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


def _closest(
    parts: Mapping[str, pa.Table], copies: Copies, left: str, right: str
) -> list[list[Any]]:
    """[place in left, place in right, similarity] of the most similar texts of two splits."""
    rows = copies.by_split(copies.rows)
    first: dict[str, np.ndarray] = {}
    for name in (left, right):
        first[name] = np.full(len(copies.texts), -1, np.int64)
        first[name][rows[name][::-1]] = np.arange(len(rows[name]) - 1, -1, -1)
    near = np.concatenate([copies.left, copies.right])
    other = np.concatenate([copies.right, copies.left])
    share = np.concatenate([copies.similarity, copies.similarity])
    at = np.flatnonzero(
        (first[left][near] >= 0) & (first[right][other] >= 0)
        & (first[left][other] < 0) & (first[right][near] < 0)
    )  # fmt: skip
    at = at[np.lexsort((first[right][other[at]], -share[at]))][:PAIRS]
    return [
        [place(parts[left], int(first[left][near[i]])),
         place(parts[right], int(first[right][other[i]])), round(float(share[i]), 4)]
        for i in at.tolist()
    ]  # fmt: skip


def note_repeats(
    rows: pa.Table, keys: np.ndarray, codes: np.ndarray | None, side: np.ndarray, ledger: Ledger
) -> None:
    """Note how many rows repeat another one, and which texts carry two labels.

    `rows` has their places, `keys` are equal for equal texts, `codes` are the labels, and `side`
    is the split of each.
    """
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    again = np.delete(np.arange(len(keys)), first)
    if not len(again):
        return
    splits = _splits(side[again], side[again])
    ledger.note(
        "duplicates",
        f"{counted(len(again), 'row repeats', 'rows repeat')} the text of another "
        f"({_listing(splits)}); all are kept",
        rows=len(again),
        splits=splits,
    )
    if codes is None:
        return
    torn = np.flatnonzero(codes != codes[first][group])
    if len(torn):
        texts = first[np.unique(group[torn])]
        splits = _splits(side[texts], side[texts])
        pairs = [
            [place(rows, int(first[group[row]])), place(rows, int(row))] for row in torn[:PAIRS]
        ]
        ledger.note(
            "conflicts",
            f"{counted(len(texts), 'text stands', 'texts stand')} there with more than one label "
            f"({_listing(splits)}), for example {' ~ '.join(pairs[0])}",
            pairs=pairs,
            count=len(texts),
            splits=splits,
        )


def note_near_repeats(
    rows: pa.Table,
    texts: np.ndarray,
    codes: np.ndarray | None,
    side: np.ndarray,
    copies: Copies,
    ledger: Ledger,
) -> None:
    """Note how many texts nearly repeat another, and where their labels differ; `texts` are the
    rows' numbers in `copies`, the rest is as in `note_repeats`."""
    first = np.full(len(copies.texts), -1, np.int64)
    first[texts[::-1]] = np.arange(len(texts) - 1, -1, -1)
    here = (first[copies.left] >= 0) & (first[copies.right] >= 0)
    if not here.any():
        return
    left, right = first[copies.left[here]], first[copies.right[here]]
    later = np.unique(np.maximum(left, right))
    splits = _splits(side[later], side[later])
    ledger.note(
        "duplicates",
        f"{counted(len(later), 'text nearly repeats', 'texts nearly repeat')} another "
        f"({_listing(splits)}); all are kept, on one side of every cut",
        near=True,
        rows=len(later),
        splits=splits,
    )
    torn = np.flatnonzero(codes[left] != codes[right]) if codes is not None else np.zeros(0, int)
    if len(torn):
        sides = np.sort(np.stack([left[torn], right[torn]], 1), axis=1)
        pairs = [[place(rows, int(a)), place(rows, int(b))] for a, b in sides[:PAIRS]]
        splits = _splits(side[left[torn]], side[right[torn]])
        ledger.note(
            "conflicts",
            f"{counted(len(torn), 'pair')} of nearly equal texts with different labels "
            f"({_listing(splits)}), for example {' ~ '.join(pairs[0])}",
            near=True,
            pairs=pairs,
            count=len(torn),
            splits=splits,
        )


def _splits(left: np.ndarray, right: np.ndarray) -> dict[str, int]:
    """How many pairs, of which these are the two sides, lie in each split, or between two."""
    counts = {name: int(((left == at) & (right == at)).sum()) for at, name in enumerate(SPLITS)}
    counts["two splits"] = int((left != right).sum())
    return {name: count for name, count in counts.items() if count}


def _listing(splits: dict[str, Any]) -> str:
    """The counts in words: "3 in train, 1 in test"."""
    return ", ".join(f"{count:,} in {name}" for name, count in splits.items())
