"""What gives the label away without being read: an extra column, or one word in the text.

A model that finds such a short cut scores well here and fails where the column or word is absent.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

FEW_ROWS = 40
BINS = 20
RULE = 0.98  # precision and recall of a single word
RULE_ROWS = 20
MOST_COUNTS = 50_000_000  # of values times classes
MANY_VALUES = 0.5  # distinct values a row above which a text column is an id


def column_rules(
    table: pa.Table, codes: np.ndarray, columns: Sequence[str], seed: int = 0
) -> list[dict[str, Any]]:
    """How well each column alone predicts the label, the best first (one rule; Holte 1993).

    On half of the rows each value (numbers: one of BINS quantile bins; ids: their letters) gets its
    commonest label, on the other half that rule is scored. `skill` is 0 for always saying the
    commonest label and 1 for no mistake. `codes` are class numbers; -1 rows are left out.
    """
    rows = np.flatnonzero(codes >= 0)
    if len(rows) < FEW_ROWS:
        return []
    order = np.random.default_rng([seed, 0x617E]).permutation(rows)
    half = len(order) // 2
    learn, held = order[:half], order[half:]
    commonest = np.bincount(codes[learn]).argmax()
    base = float((codes[held] == commonest).mean())
    rules: list[dict[str, Any]] = []
    for name in columns:
        values, read_as = _values(table[name])
        if values is None or base == 1.0:
            continue
        k, n = int(codes.max()) + 1, int(values.max()) + 1
        accuracy = 0.0
        if k * n <= MOST_COUNTS:
            counts = np.bincount(values[learn] * k + codes[learn], minlength=n * k).reshape(n, k)
            rule = np.where(counts.sum(1) > 0, counts.argmax(1), commonest)
            accuracy = float((rule[values[held]] == codes[held]).mean())
        skill = (accuracy - base) / (1 - base)
        rules.append({"column": name, "read_as": read_as, "accuracy": round(accuracy, 4),
                      "commonest": round(base, 4), "skill": round(skill, 4)})  # fmt: skip
    return sorted(rules, key=lambda rule: -rule["skill"])


def _values(column: pa.ChunkedArray) -> tuple[np.ndarray | None, str]:
    """One code a row for the values of a column, and how they were read; None for ids."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_null(kind):
        return None, ""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _binned(np.array([np.nan if v is None else v for v in column.to_pylist()], float))
    values = ["" if value is None else str(value).strip() for value in column.to_pylist()]
    if len(set(values)) > BINS:
        with contextlib.suppress(ValueError):
            return _binned(np.array([float(value or "nan") for value in values]))
    if len(set(values)) <= MANY_VALUES * len(values):
        return np.unique(values, return_inverse=True)[1], "its values"
    values = [re.sub(r"\d+", "", value) for value in values]
    if not 1 < len(set(values)) <= MANY_VALUES * len(values):
        return None, ""
    return np.unique(values, return_inverse=True)[1], "its letters, without the digits"


def _binned(numbers: np.ndarray) -> tuple[np.ndarray, str]:
    real = numbers[~np.isnan(numbers)]
    if len(np.unique(real)) <= BINS:
        return np.unique(numbers, return_inverse=True)[1], "its values"
    edges = np.unique(np.quantile(real, np.linspace(0, 1, BINS + 1)[1:-1]))
    codes = np.searchsorted(edges, numbers, side="right")
    codes[np.isnan(numbers)] = len(edges) + 1
    return codes, f"{BINS} ranges of its numbers"


def word_rules(texts: Sequence[str], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Words whose presence is next to the same as one label: precision and recall ≥ RULE.

    Words are what stands between white space, in lower case; a word must stand in at least
    RULE_ROWS rows. {"word", "label", "rows", "precision", "recall", "first"}; `first` is true if
    it is always the first word.
    """
    sizes = Counter(labels)
    if len(texts) < FEW_ROWS or len(sizes) < 2:
        return []
    by_word: Counter[str] = Counter()
    by_label: Counter[tuple[str, str]] = Counter()
    as_first: Counter[str] = Counter()
    for text, label in zip(texts, labels, strict=True):
        words = text.lower().split()
        distinct = set(words)
        by_word.update(distinct)
        by_label.update((word, label) for word in distinct)
        as_first.update(words[:1])
    rules: list[dict[str, Any]] = []
    for (word, label), rows in by_label.items():
        if rows < max(RULE_ROWS, RULE * sizes[label], RULE * by_word[word]):
            continue
        rules.append({"word": word, "label": label, "rows": rows,
                      "precision": rows / by_word[word], "recall": rows / sizes[label],
                      "first": as_first[word] == by_word[word]})  # fmt: skip
    return sorted(rules, key=lambda rule: (-rule["recall"] * rule["precision"], rule["word"]))


def sorted_by_label(codes: np.ndarray) -> bool:
    """Whether the rows stand in blocks of one label each: a cut without shuffling would fail."""
    if len(codes) < FEW_ROWS:
        return False
    changes, classes = int((np.diff(codes) != 0).sum()), len(np.unique(codes))
    return changes < 2 * classes and classes > 1
