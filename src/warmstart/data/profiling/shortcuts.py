"""What gives the label away without being read: an extra column, or one word in the text.

A model that finds such a short cut scores well here and fails where the column or word is absent.
"""

from __future__ import annotations

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
    found: list[dict[str, Any]] = []
    for name in columns:
        values, how = _values(table[name])
        if values is None or base == 1.0:
            continue
        accuracy = _one_rule(values, codes, learn, held, int(commonest))
        skill = (accuracy - base) / (1 - base)
        row: dict[str, Any] = {"column": name, "read_as": how, "accuracy": round(accuracy, 4)}
        found.append(row | {"commonest": round(base, 4), "skill": round(skill, 4)})
    return sorted(found, key=lambda row: -row["skill"])


def _values(column: pa.ChunkedArray) -> tuple[np.ndarray | None, str]:
    """One code a row for the values of a column, and how they were read; None for ids."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_null(kind):
        return None, ""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _binned(np.array([np.nan if v is None else v for v in column.to_pylist()], float))
    values = ["" if value is None else str(value).strip() for value in column.to_pylist()]
    numbers = [_number(value) for value in values]
    distinct = len(set(values))
    numeric = all(n is not None or not v for n, v in zip(numbers, values, strict=True))
    if distinct > BINS and numeric:
        return _binned(np.array([np.nan if n is None else n for n in numbers], float))
    how = "its values"
    if distinct > MANY_VALUES * len(values):
        values = [re.sub(r"\d+", "", value) for value in values]
        how = "its letters, without the digits"
        if not 1 < len(set(values)) <= MANY_VALUES * len(values):
            return None, ""
    return np.unique(values, return_inverse=True)[1], how


def _binned(numbers: np.ndarray) -> tuple[np.ndarray | None, str]:
    real = numbers[~np.isnan(numbers)]
    if len(np.unique(real)) <= BINS:
        return np.unique(numbers, return_inverse=True)[1], "its values"
    edges = np.unique(np.quantile(real, np.linspace(0, 1, BINS + 1)[1:-1]))
    codes = np.searchsorted(edges, numbers, side="right")
    codes[np.isnan(numbers)] = len(edges) + 1
    return codes, f"{BINS} ranges of its numbers"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _one_rule(
    values: np.ndarray, codes: np.ndarray, learn: np.ndarray, held: np.ndarray, commonest: int
) -> float:
    """Accuracy on `held` of: each value's commonest label in `learn`."""
    k, n = int(codes.max()) + 1, int(values.max()) + 1
    if k * n > 50_000_000:
        return 0.0
    counts = np.bincount(values[learn] * k + codes[learn], minlength=n * k).reshape(n, k)
    rule = np.where(counts.sum(1) > 0, counts.argmax(1), commonest)
    return float((rule[values[held]] == codes[held]).mean())


def word_rules(texts: Sequence[str], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Words whose presence is next to the same as one label: precision and recall ≥ RULE.

    Words are what stands between white space, in lower case; a word must stand in at least
    RULE_ROWS rows. {"word", "label", "rows", "precision", "recall", "first"}; `first` is true if
    it is always the first word.
    """
    sizes = Counter(labels)
    if len(texts) < FEW_ROWS or len(sizes) < 2:
        return []
    holding: Counter[str] = Counter()
    with_label: Counter[tuple[str, str]] = Counter()
    leading: Counter[str] = Counter()
    for text, label in zip(texts, labels, strict=True):
        words = text.lower().split()
        distinct = set(words)
        holding.update(distinct)
        with_label.update((word, label) for word in distinct)
        leading.update(words[:1])
    found: list[dict[str, Any]] = []
    for (word, label), hits in with_label.items():
        if hits < RULE_ROWS or hits < RULE * sizes[label] or hits < RULE * holding[word]:
            continue
        row: dict[str, Any] = {"word": word, "label": label, "rows": hits}
        row |= {"precision": hits / holding[word], "recall": hits / sizes[label]}
        found.append(row | {"first": leading[word] == holding[word]})
    return sorted(found, key=lambda row: (-row["recall"] * row["precision"], row["word"]))


def sorted_by_label(codes: np.ndarray) -> bool:
    """Whether the rows stand in blocks of one label each: a cut without shuffling would fail."""
    if len(codes) < FEW_ROWS:
        return False
    changes = int((np.diff(codes) != 0).sum())
    return changes < 2 * len(np.unique(codes)) and len(np.unique(codes)) > 1
