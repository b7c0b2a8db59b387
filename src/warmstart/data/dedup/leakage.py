"""What equal and nearly equal texts mean for splits: leakage, and rows that must not part."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.dedup.clusters import Copies, joined, straddling_groups
from warmstart.data.ledger import Ledger, place
from warmstart.data.tables import SPLITS, pc
from warmstart.formatting import counted

PAIRS = 20  # examples of shared texts that are kept
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


def note_leakage(
    parts: Mapping[str, pa.Table],
    keys: Mapping[str, np.ndarray],
    copies: Copies,
    group: str | None,
    ledger: Ledger,
) -> dict[str, Any]:
    """What every two splits share, noted; no row is dropped for it.

    `keys` are equal for equal texts; `group` is the name of the column `_group` in the file. Keys
    are "train~test" and so on; values {"rows": {"train": n, "test": m}, "pairs": up to 20 [[place,
    place]]}. Under "near" stand the rows without the equal ones, and [[place, place, similarity]],
    the most similar first; under "groups" column, values, rows and examples.
    """
    leakage: dict[str, Any] = {}
    pairs_of_splits = list(combinations([name for name in SPLITS if name in parts], 2))

    def note(left: str, right: str, under: str, share: str, **facts: Any) -> None:
        empty = {"rows": {left: 0, right: 0}, "pairs": []}
        entry = leakage.setdefault(f"{left}~{right}", empty)
        (entry.setdefault(under, {}) if under else entry).update(facts)
        near = {"near": True} if under == "near" else {}
        message = f"{left} and {right} {share}"
        ledger.note("leakage", message, splits=[left, right], **near, **facts)

    for left, right in pairs_of_splits:
        in_left = np.flatnonzero(np.isin(keys[left], keys[right]))
        in_right = np.flatnonzero(np.isin(keys[right], keys[left]))
        if len(in_left):
            twins = [int(np.argmax(keys[left] == keys[right][row])) for row in in_right[:PAIRS]]
            pairs = _places(parts[left], twins, parts[right], in_right)
            share = f"share texts: {counted(len(in_right))} of {right}, for example "
            rows = {left: len(in_left), right: len(in_right)}
            note(left, right, "", share + " ~ ".join(pairs[0]), rows=rows, pairs=pairs)
    for left, right in pairs_of_splits:
        if pairs := _closest(parts, copies, left, right):
            rows = {
                name: int(near_rows(copies, name, other).sum())
                for name, other in ((left, right), (right, left))
            }
            share = (
                f"nearly share texts: {counted(rows[right])} of {right} "
                f"({rows[right] / len(parts[right]):.1%}) besides the equal ones, for example "
                f"{pairs[0][0]} ~ {pairs[0][1]} (similarity {pairs[0][2]:.2f})"
            )
            note(left, right, "near", share, rows=rows, pairs=pairs)
    straddling = straddling_groups(parts, "_group") if group else pa.table({})
    for left, right in pairs_of_splits if group else ():
        both = pc.and_(pc.greater(straddling[left], 0), pc.greater(straddling[right], 0))
        shared = straddling.filter(both)
        if len(shared):
            rows = {name: int(pc.sum(shared[name]).as_py()) for name in (left, right)}
            share = (
                f"share {counted(len(shared), 'value')} of the group '{group}': "
                f"{counted(rows[right])} of {right}; all are kept"
            )
            facts = {"column": group, "values": len(shared), "rows": rows}
            examples = shared["value"][:PAIRS].to_pylist()
            note(left, right, "groups", share, **facts, examples=examples)
    return leakage


def kept_together(
    keys: np.ndarray, texts: np.ndarray, copies: Copies, values: pa.Array | None, ledger: Ledger
) -> np.ndarray:
    """The keys by which train is cut: equal for rows whose texts or group values hang together, see
    `hanging_together`. Large families are noted."""
    whole, big = hanging_together(keys, texts, copies, values)
    if big.any():
        rows, families = int(big.sum()), len(np.unique(copies.groups[texts][big]))
        ledger.note(
            "duplicates",
            f"{counted(rows)} in {counted(families, 'large family', 'large families')} of "
            "texts that resemble each other; they are too many to stay on one side of a split "
            "and are cut like other rows",
            rows=rows,
            families=families,
        )
    return whole


def hanging_together(
    keys: np.ndarray, texts: np.ndarray, copies: Copies, values: pa.Array | None
) -> tuple[np.ndarray, np.ndarray]:
    """Keys that are equal for rows whose texts or group values hang together, and which rows are of
    large families.

    `texts` are the rows' numbers in `copies`, `values` the rows' group values. Rows that hang
    together with no other keep their key. Nearly equal texts of more than FAMILY of the rows do not
    count as copies, or there would be nothing to cut.
    """
    if not len(copies.left) and values is None:
        return keys, np.zeros(len(keys), bool)
    _, own = np.unique(keys, return_inverse=True)
    near = copies.groups[texts]
    sizes = np.bincount(near, minlength=len(copies.texts))
    big = sizes[near] > max(LEAST_FAMILY, FAMILY * len(keys))
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
    return least[whole], big


def _first_rows(copies: Copies, texts: np.ndarray) -> np.ndarray:
    """The first of some rows, whose texts have these numbers, that has each text; -1: none."""
    first = np.full(len(copies.texts), -1, np.int64)
    first[texts[::-1]] = np.arange(len(texts) - 1, -1, -1)
    return first


def _places(left: pa.Table, rows: Any, right: pa.Table, others: Any) -> list[list[Any]]:
    """The places of the first PAIRS pairs of rows."""
    pairs = zip(rows[:PAIRS], others[:PAIRS], strict=True)
    return [[place(left, int(a)), place(right, int(b))] for a, b in pairs]


def _closest(
    parts: Mapping[str, pa.Table], copies: Copies, left: str, right: str
) -> list[list[Any]]:
    """[place in left, place in right, similarity] of the most similar texts of two splits."""
    rows = copies.by_split(copies.rows)
    here, there = _first_rows(copies, rows[left]), _first_rows(copies, rows[right])
    near = np.concatenate([copies.left, copies.right])
    other = np.concatenate([copies.right, copies.left])
    share = np.concatenate([copies.similarity, copies.similarity])
    at = np.flatnonzero(
        (here[near] >= 0) & (there[other] >= 0) & (here[other] < 0) & (there[near] < 0)
    )
    at = at[np.lexsort((there[other[at]], -share[at]))][:PAIRS]
    places = _places(parts[left], here[near[at]], parts[right], there[other[at]])
    return [[*pair, round(float(share[i]), 4)] for pair, i in zip(places, at, strict=True)]


def note_repeats(
    rows: pa.Table,
    keys: np.ndarray,
    texts: np.ndarray,
    codes: np.ndarray | None,
    side: np.ndarray,
    copies: Copies,
    ledger: Ledger,
) -> None:
    """Note how many rows repeat another one, equally or nearly, and where their labels differ.

    `rows` has their places, `keys` are equal for equal texts, `texts` are the rows' numbers in
    `copies`, `codes` are the labels, and `side` is the split of each.
    """

    def note(kind: str, what: str, rest: str, left: Any, right: Any, **facts: Any) -> None:
        counts = {name: int(((left == at) & (right == at)).sum()) for at, name in enumerate(SPLITS)}
        counts["two splits"] = int((left != right).sum())
        splits = {name: count for name, count in counts.items() if count}
        listing = ", ".join(f"{count:,} in {name}" for name, count in splits.items())
        ledger.note(kind, f"{what} ({listing}){rest}", **facts, splits=splits)

    def conflict(what: str, left: Any, right: Any, pairs: Any, **facts: Any) -> None:
        rest = f", for example {' ~ '.join(pairs[0])}"
        note(
            "conflicts", what, rest, side[left], side[right], **facts, pairs=pairs, count=len(left)
        )

    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    again = np.delete(np.arange(len(keys)), first)
    if len(again):
        what = f"{counted(len(again), 'row repeats', 'rows repeat')} the text of another"
        own = side[again]
        note("duplicates", what, "; all are kept", own, own, rows=len(again))
    torn = np.flatnonzero(codes != codes[first][group]) if codes is not None else []
    if len(torn):
        many = first[np.unique(group[torn])]
        what = f"{counted(len(many), 'text stands', 'texts stand')} there with more than one label"
        conflict(what, many, many, _places(rows, first[group[torn]], rows, torn))
    first = _first_rows(copies, texts)
    here = (first[copies.left] >= 0) & (first[copies.right] >= 0)
    left, right = first[copies.left[here]], first[copies.right[here]]
    later = np.unique(np.maximum(left, right))
    if len(later):
        what = f"{counted(len(later), 'text nearly repeats', 'texts nearly repeat')} another"
        rest, own = "; all are kept, on one side of every cut", side[later]
        note("duplicates", what, rest, own, own, near=True, rows=len(later))
    torn = np.flatnonzero(codes[left] != codes[right]) if codes is not None else []
    if len(torn):
        what = f"{counted(len(torn), 'pair')} of nearly equal texts with different labels"
        a, b = left[torn], right[torn]
        pairs = _places(rows, np.minimum(a, b), rows, np.maximum(a, b))
        conflict(what, a, b, pairs, near=True)
