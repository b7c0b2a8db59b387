"""What a task makes of outputs on the test rows, and what the results of all tasks are built of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.metrics.base import Floats, Measure

LISTED, SHOWN = 200, 2_000  # mistakes; characters of one text


@dataclass(frozen=True, slots=True, eq=False)
class TaskResult:
    """Predictions on the test rows beside the references, ready for the evaluator.

    Args:
        measure: gives the figures from `statistics` [n, S] of the predictions.
        score: the statistics [n, S] of other predictions for the same rows, such as those of a
            baseline (`Baseline.predict`).
        table: one row a test row for predictions.parquet: id, file, line, the inputs, the
            reference, the prediction, confidence.
        mistakes: what was wrong, the most telling first; each a dict with `file`, `line`, `text`,
            `label` (the reference), `prediction`, and optionally `confidence`, `note`, `context`.
        baselines: names of baselines to compare with, the simplest first; see
            `warmstart.evaluation.baselines`.
        groups: [n] which rows belong together (questions on one passage), for the resampling.
        facts: what else goes to metrics.json, such as thresholds.
        notes: sentences that a careful reader should know.
        ceiling: what the references themselves have as the main figure, where it may not be the
            best: a figure that gives them 0 does not see them.
    """

    measure: Measure
    statistics: Floats
    score: Callable[[Any], Floats]
    table: pa.Table
    mistakes: Sequence[Mapping[str, Any]]
    baselines: Sequence[str] = ()
    groups: np.ndarray | None = None
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: Sequence[str] = ()
    ceiling: float | None = None

    @property
    def wrong(self) -> int:
        """How many rows were wrong, where right and wrong can be told."""
        if "correct" not in self.table.column_names:
            return len(self.mistakes)
        return len(self.table) - sum(map(bool, self.table["correct"].to_pylist()))


def column(values: Any, kind: str | None = None) -> pa.Array:
    """Values as a column, of pyarrow's type of this name; None: of the type that they show. A
    matrix becomes a column of lists, without a Python object a number."""
    import pyarrow as pa

    if not isinstance(values, np.ndarray) or values.ndim == 1:
        return pa.array(values, kind)
    rows, width = values.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))


def prediction_table(rows: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    """One row a test row: its number as `id`, `file`, `line`, and the columns."""
    import pyarrow as pa

    where = {
        "id": column([str(number) for number in range(len(rows))], "string"),
        "file": rows["_file"].cast("string"),
        "line": rows["_line"].cast("int64"),
    }
    return pa.table({**where, **columns})


def list_mistakes(
    table: pa.Table, order: Iterable[int], describe: Callable[[int], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The first rows in this order: id, file and line of a prediction table, and their words."""
    rows = np.array(list(order), np.int64)[:LISTED]
    where = table.select(["id", "file", "line"]).take(rows).to_pylist()
    return [{**place, **describe(row)} for row, place in zip(rows.tolist(), where, strict=True)]


def shortened(text: str | None, most: int = SHOWN) -> str:
    """A text that fits on a page."""
    text = text or ""
    return text if len(text) <= most else text[: most - 1] + "…"
