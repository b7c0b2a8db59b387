"""What several runs answered on the same test rows, as statistics that a paired test can use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from warmstart.evaluate.metrics import METRICS, Tally
from warmstart.scores.counts import split_counts
from warmstart.scores.measure import Floats, Measure, Scores


class ClassMeasure(Measure):
    """Accuracy, F1 and Matthews correlation of single labels, of `k` classes."""

    def __init__(self, k: int) -> None:
        self.k = k

    def weighted(self, rows: Floats, weights: Floats) -> Scores:
        """Figures [...] of rows [n, 3 k]: right, predicted and actual of each class."""
        whole = Tally(*split_counts(rows.sum(0), self.k))
        tally = Tally(*split_counts(weights @ rows, self.k), whole=whole)
        return {name: metric(tally) for name, metric in METRICS.items()}


class SeedMean(Measure):
    """The mean over seeds: statistics [n, seeds x S] of one method, seed after seed."""

    def __init__(self, measure: Measure, seeds: int) -> None:
        self.measure, self.seeds = measure, seeds

    def weighted(self, rows: Floats, weights: Floats) -> Scores:
        """The mean of each figure, [...]."""
        seeds = np.split(rows, self.seeds, axis=-1)
        parts = [self.measure.weighted(part, weights) for part in seeds]
        return {name: np.mean([part[name] for part in parts], axis=0) for name in parts[0]}

    def highest(self, name: str) -> float | None:
        return self.measure.highest(name)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Single labels of the same test rows by several runs, as class numbers.

    `said` is run → [n]; `truth` [n]; `k` classes.
    """

    truth: NDArray[np.int64]
    said: dict[str, NDArray[np.int64]]
    k: int

    @classmethod
    def of(cls, tables: dict[str, pa.Table], labels: Sequence[str], main: str) -> Answers | None:
        """From each run's predictions.parquet; None where they are no single labels of the same
        rows, or the figure `main` is not of single labels."""
        number = {label: i for i, label in enumerate(labels)}
        truths: list[NDArray[np.int64]] = []
        said: dict[str, NDArray[np.int64]] = {}
        if main not in METRICS or not number:
            return None
        for name, table in tables.items():
            if not {"label", "prediction"} <= set(table.column_names):
                return None
            columns = [table[column].to_pylist() for column in ("label", "prediction")]
            if not all(value in number for column in columns for value in column):
                return None
            truth, answer = (np.array([number[v] for v in column]) for column in columns)
            truths.append(truth)
            said[name] = answer
        if not truths or any(not np.array_equal(truth, truths[0]) for truth in truths):
            return None
        return cls(truths[0], said, len(labels))

    def measure(self, seeds: int) -> SeedMean:
        """The measure of a method with so many seeds."""
        return SeedMean(ClassMeasure(self.k), seeds)

    def rows(self, runs: Sequence[str]) -> Floats:
        """Statistics [n, runs x 3 k] of the runs of one method."""
        eye = np.eye(self.k)
        truth = eye[self.truth]
        parts: list[Floats] = []
        for run in runs:
            said = eye[self.said[run]]
            parts += [said * truth, said, truth]
        return np.concatenate(parts, axis=1)
