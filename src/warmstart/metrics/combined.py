"""Several measures of the same predictions as one, and exact match."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from warmstart.metrics.base import Floats, Measure, Scores, ratio
from warmstart.metrics.text import References, several


class Joined(Measure):
    """The figures of several measures, whose names must differ.

    Statistics [n, S] are those of the measures side by side.
    """

    def __init__(self, *parts: Measure) -> None:
        self.parts = parts
        self.lower_is_better = frozenset[str]().union(*(part.lower_is_better for part in parts))
        tried = [part.rows(["a"], ["a"]) for part in parts]
        self._ends = np.cumsum([rows.shape[1] for rows in tried]).tolist()
        self._owner = {
            name: part
            for part, rows in zip(parts, tried, strict=True)
            for name in part.score(rows.sum(0))
        }

    def rows(self, predictions: Sequence[Any], references: Sequence[Any]) -> Floats:
        return np.hstack([part.rows(predictions, references) for part in self.parts])

    def score(self, sums: Floats) -> Scores:
        pieces = np.split(sums, self._ends[:-1], axis=-1)
        found = [part.score(piece) for part, piece in zip(self.parts, pieces, strict=True)]
        return {name: value for figures in found for name, value in figures.items()}

    def highest(self, name: str) -> float | None:
        return self._owner[name].highest(name)


class Exact(Measure):
    """Share of the predictions that equal a reference, but for spaces at the ends or doubled.

    Statistics [n, 2]: 1, equal.
    """

    def rows(self, predictions: Sequence[str], references: References) -> Floats:
        counts = np.ones((len(references), 2))
        for row, text, golds in zip(counts, predictions, several(references), strict=True):
            row[1] = float(any(text.split() == gold.split() for gold in golds))
        return counts

    def score(self, sums: Floats) -> Scores:
        return {"exact_match": ratio(sums[..., 1], sums[..., 0])}
