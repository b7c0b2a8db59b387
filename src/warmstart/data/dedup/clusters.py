"""Copies of one text: equal, equal but for case and punctuation, and nearly equal; and where.

Near is what a person would call a copy: a few words added, dropped, swapped or misspelt, or a text
cut off. A family made from one template ("What is the capital of …?") is not, and neither are texts
of which one has another value (a number, a name, a word) and another target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.dedup.exact import normal_texts
from warmstart.data.dedup.minhash import (
    blocks,
    bytes_of,
    candidates,
    cut_short,
    merged,
    resemblance,
    sketches_of,
)
from warmstart.data.tables import SPLITS, is_blank, pc
from warmstart.errors import DataError, nearest, shown

SIMILARITY = 0.8
LEAST_WORDS = 8  # shorter texts are copies only if they are equal: one word makes another question
STEPS = 4  # of the progress
EXCHANGED = 0.4  # share of the words that may be exchanged in one sentence of different things
VALUE_WORDS = 4  # that one value may have
LIKE = 0.75  # share of the letters of a word that are right in a misspelling of it
TEST_FIRST = ("test", "validation", "train")  # whose rows come first
_LOWER = np.uint64(0xFFFFFFFF)
UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """All rows of all splits, the test rows first, by the number of their normalised text.

    `texts` are the distinct normalised ones, by number; `rows` gives the number of each row's text;
    text `left[i]` and text `right[i]` resemble each other, with the share of words `similarity[i]`.
    """

    sizes: dict[str, int]  # split → rows, in the order of the rows
    texts: pa.Array  # large_string
    rows: np.ndarray  # int64
    left: np.ndarray
    right: np.ndarray
    similarity: np.ndarray  # float32
    groups: np.ndarray = field(init=False)
    """Int64 [texts]: equal where texts are near, directly or by way of others."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", joined(len(self.texts), self.left, self.right))

    @property
    def ends(self) -> np.ndarray:
        """Where each split ends among all rows."""
        return np.cumsum(list(self.sizes.values()), dtype=np.int64)

    def by_split(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Values of all rows, taken apart by split."""
        return dict(zip(self.sizes, np.split(values, self.ends[:-1]), strict=True))


def find_copies(
    parts: Mapping[str, pa.Table],
    texts: Sequence[str],
    similarity: float = SIMILARITY,
    progress: Progress | None = None,
    targets: Sequence[str] = (),
) -> Copies:
    """Compare the texts in the roles `texts` of all rows of all splits.

    Where `targets` name columns, texts that differ in a value and in all their targets are not near
    (see `values_differ`).

    Near are texts of LEAST_WORDS words or more that share at least `similarity` of their words,
    weighed by length, in much the same order; or of which one, of LEAST_OF_CUT words or more, is
    the first or last part of the other, and half of it at least. With a similarity of 0 no near
    ones are looked for. The result does not depend on the order of the rows, nor on chance: the
    seed of the hashes is fixed. Time is linear in the rows but for sorting.
    """
    names = [name for name in TEST_FIRST if name in parts]
    normal = [normal_texts(parts[name], texts) for name in names]
    encoded = pa.chunked_array([c for column in normal for c in column.chunks], pa.large_string())
    encoded = encoded.combine_chunks().dictionary_encode()
    left, right, share = _near(encoded.dictionary, similarity, progress)
    sizes = {name: len(parts[name]) for name in names}
    rows = np.asarray(encoded.indices, np.int64)
    if len(left) and targets:
        wanted = [_joined_values(parts[name], targets) for name in names]
        same = ~_mean_others(encoded.dictionary, rows, wanted, left, right)
        left, right, share = left[same], right[same], share[same]
    return Copies(sizes, encoded.dictionary, rows, left, right, share)


def _joined_values(table: pa.Table, columns: Sequence[str]) -> list[int]:
    """A number for each row, equal for rows of equal values in the columns."""
    values = (table[name].to_pylist() for name in columns if name in table.column_names)
    return [hash(repr(row)) for row in zip(*values, strict=True)] or [0] * len(table)


def _mean_others(
    texts: pa.Array, rows: np.ndarray, targets: Sequence[list[int]], left: Any, right: Any
) -> np.ndarray:
    """Which pairs of texts differ in a value and have no target in common."""
    concerned = np.zeros(len(texts), bool)
    concerned[left] = concerned[right] = True
    every = np.fromiter((target for part in targets for target in part), np.int64, len(rows))
    of_text: dict[int, set[int]] = {}
    which = np.flatnonzero(concerned[rows])
    for text, target in zip(rows[which].tolist(), every[which].tolist(), strict=True):
        of_text.setdefault(text, set()).add(target)
    numbers = np.flatnonzero(concerned)
    words = {
        number: text.split()
        for number, text in zip(
            numbers.tolist(), texts.take(pa.array(numbers)).to_pylist(), strict=True
        )
    }
    return np.array(
        [of_text[a].isdisjoint(of_text[b]) and values_differ(words[a], words[b])
         for a, b in zip(left.tolist(), right.tolist(), strict=True)], bool,
    )  # fmt: skip


def values_differ(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two texts, as words, are the same sentence of different things.

    Words stand in the place of others, and not only as misspellings of these: a number, or any word
    if everything else stays where it was. Words that are added, dropped or moved are no such.
    """
    if len(first) == len(second):
        pairs = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
        if 0 < len(pairs) <= EXCHANGED * len(first):
            left, right = (sorted(side) for side in zip(*pairs, strict=True))
            return left != right and not all(_misspelt(a, b) for a, b in pairs)
    least = min(len(first), len(second))
    start = next((i for i in range(least) if first[i] != second[i]), least)
    rest = least - start
    end = next((i for i in range(rest) if first[-1 - i] != second[-1 - i]), rest)
    middle = first[start : len(first) - end], second[start : len(second) - end]
    if not all(middle) or "".join(middle[0]) == "".join(middle[1]):
        return False
    if max(map(len, middle)) <= VALUE_WORDS:
        return not any(a == b or _misspelt(a, b) for a in middle[0] for b in middle[1])
    only = set(first) - set(second), set(second) - set(first)
    return all(any(c.isdigit() for word in side for c in word) for side in only)


def _misspelt(first: str, second: str) -> bool:
    """Whether a word is the other one with a letter or two wrong; numbers never are."""
    if any(c.isdigit() for c in first + second) or min(len(first), len(second)) < 4:
        return False
    return SequenceMatcher(None, first, second).ratio() >= LIKE


def blank_texts(texts: pa.Array) -> np.ndarray:
    """Which of the normalised texts hold nothing."""
    return np.asarray(pc.equal(pc.utf8_trim(texts, " \x1f"), ""))


def joined(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """For each of `count` things the smallest number it is connected with (int64)."""
    alone = np.arange(count, dtype=np.int64)
    if not len(left):
        return alone
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(left), bool), (left, right)), shape=(count, count))
    _, component = connected_components(edges, directed=False)
    return np.unique(component, return_index=True)[1][component].astype(np.int64)


def _near(
    distinct: pa.Array, similarity: float, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of the distinct texts are near: two numbers, and how similar."""

    def step(done: int) -> None:
        if progress is not None:
            progress("near-duplicates", done, STEPS)

    which, texts = _long_enough(distinct if similarity else distinct[:0])
    if len(texts) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    sketches = sketches_of(texts)
    step(1)
    pairs = candidates(sketches)
    step(2)
    cut = cut_short(texts, sketches.ends)
    del sketches
    step(3)
    pairs = merged(pairs, cut)
    left, right = (pairs >> np.uint64(32)).astype(np.int64), (pairs & _LOWER).astype(np.int64)
    shared = resemblance(texts, left, right)
    # A word that differs breaks two pairs of neighbours.
    near = (shared[:, 0] >= similarity) & (shared[:, 1] >= 2 * similarity - 1)
    near |= np.isin(pairs, cut, assume_unique=True)
    step(STEPS)
    return which[left[near]], which[right[near]], shared[near, 0]


def _long_enough(distinct: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """The texts of LEAST_WORDS words or more, sorted, and their numbers.

    In scripts without spaces a character counts as a word.
    """
    foreign = pc.invert(pc.string_is_ascii(distinct))
    if pc.any(foreign).as_py():
        spaced = pc.replace_substring_regex(distinct.filter(foreign), UNSPACED, r"\1 ")
        distinct = pc.replace_with_mask(distinct, foreign, spaced)
    which = np.flatnonzero(_words(distinct) >= LEAST_WORDS)
    texts = distinct.take(pa.array(which))
    order = np.asarray(pc.sort_indices(texts)).astype(np.int64)
    return which[order], texts.take(pa.array(order))


def _words(texts: pa.Array) -> np.ndarray:
    """How many words each text has, parted by spaces and unit separators (int32)."""
    counts = [np.zeros(0, np.int32)]
    for block in blocks(texts):
        data, starts = bytes_of(block)
        gaps = np.append(0, np.cumsum(data <= 0x20, dtype=np.int32))
        counts.append(gaps[starts[1:]] - gaps[starts[:-1]] + 1)
    return np.concatenate(counts)


def group_values(table: pa.Table, column: str) -> pa.Array:
    """The values of the column as text, null where empty. Raises DataError if there is none."""
    if column not in table.column_names:
        named = len(table) and "_file" in table.column_names
        file = table["_file"][0].as_py() if named else "the data"
        names = [name for name in table.column_names if not name.startswith("_")]
        raise DataError(
            f"{file} has no column '{shown(column)}'.{nearest(column, names)} Name the column "
            "whose rows belong together with --data.group NAME"
        )
    values = table[column].cast(pa.large_string())
    nothing = pa.scalar(None, pa.large_string())
    return pc.if_else(pa.array(is_blank(values)), nothing, values.combine_chunks())


def straddling_groups(parts: Mapping[str, pa.Table], column: str) -> pa.Table:
    """The values of `column` that stand in more than one split: `value`, and how many rows of each
    split have it (int64, a column for each split), the most frequent first."""
    names = [name for name in SPLITS if name in parts]
    values = {name: group_values(parts[name], column) for name in names}
    every = pa.chunked_array([values[name] for name in names], pa.large_string())
    distinct = pc.unique(every).drop_null() if names else pa.array([], pa.large_string())
    counts = np.zeros((len(names), len(distinct)), np.int64)
    for i, name in enumerate(names):
        at = pc.index_in(values[name], value_set=distinct).drop_null()
        counts[i] = np.bincount(np.asarray(at, np.int64), minlength=len(distinct))
    torn = np.flatnonzero((counts > 0).sum(0) > 1)
    torn = torn[np.argsort(-counts[:, torn].sum(0), kind="stable")]
    columns = {name: pa.array(counts[i, torn]) for i, name in enumerate(names)}
    return pa.table({"value": distinct.take(pa.array(torn)), **columns})


# Duplicates as a person reads them: which row is a copy of which, with file, line and label.

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
    copies = find_copies(parts, texts, similarity, progress, [label] if label else [])
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
