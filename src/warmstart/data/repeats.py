"""Texts that stand there more than once, and their labels: told once their splits are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.counting import counted
from warmstart.data.duplicates import PAIRS
from warmstart.data.ledger import Ledger, place
from warmstart.data.near_copies import Copies
from warmstart.data.stratify import TEST, TRAIN, VALIDATION

NAMES = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}


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
        f"({_said(splits)}); all are kept",
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
            f"({_said(splits)}), for example {' ~ '.join(pairs[0])}",
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
    one, other = first[copies.left[here]], first[copies.right[here]]
    later = np.unique(np.maximum(one, other))
    splits = _splits(side[later], side[later])
    ledger.note(
        "duplicates",
        f"{counted(len(later), 'text nearly repeats', 'texts nearly repeat')} another "
        f"({_said(splits)}); all are kept, on one side of every cut",
        near=True,
        rows=len(later),
        splits=splits,
    )
    torn = np.flatnonzero(codes[one] != codes[other]) if codes is not None else np.zeros(0, int)
    if len(torn):
        sides = np.sort(np.stack([one[torn], other[torn]], 1), axis=1)
        pairs = [[place(rows, int(a)), place(rows, int(b))] for a, b in sides[:PAIRS]]
        splits = _splits(side[one[torn]], side[other[torn]])
        ledger.note(
            "conflicts",
            f"{counted(len(torn), 'pair')} of nearly equal texts with different labels "
            f"({_said(splits)}), for example {' ~ '.join(pairs[0])}",
            near=True,
            pairs=pairs,
            count=len(torn),
            splits=splits,
        )


def _splits(one: np.ndarray, other: np.ndarray) -> dict[str, int]:
    """How many pairs, of which these are the two sides, lie in each split, or between two."""
    found = {name: int(((one == at) & (other == at)).sum()) for at, name in NAMES.items()}
    found["two splits"] = int((one != other).sum())
    return {name: count for name, count in found.items() if count}


def _said(splits: dict[str, Any]) -> str:
    """The counts in words: "3 in train, 1 in test"."""
    return ", ".join(f"{count:,} in {name}" for name, count in splits.items())
