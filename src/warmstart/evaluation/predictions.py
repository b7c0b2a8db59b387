"""The test rows with the model's answers, as an Arrow table that goes to `predictions.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from warmstart.errors import WarmstartError
from warmstart.metrics.base import softmax

# The rows a model got wrong, the most confident first: often the label is wrong, not the model.

compute: Any = pyarrow.compute  # its functions are made at import: no checker sees them
LIMIT = 200
TEXT = 2_000  # characters shown of one text
COLUMNS = ["id", "file", "line", "text", "label", "prediction", "confidence"]


def mistakes(predictions: pa.Table, limit: int = LIMIT) -> list[dict[str, Any]]:
    """At most `limit` wrong rows of a prediction table, as {"id", "file", "line", "text", ...}."""
    wrong = predictions.select(COLUMNS).filter(compute.invert(predictions["correct"]))
    order = compute.sort_indices(wrong["confidence"], sort_keys=[("", "descending")])
    rows = wrong.take(order[:limit]).to_pylist()
    return [{**row, "text": _short(row["text"])} for row in rows]


def _short(text: str | None) -> str:
    """A text that fits on a page."""
    text = text or ""
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"


Column = Sequence[Any] | pa.ChunkedArray | pa.Array


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows that a model has answered: parallel columns of length n.

    `logits` [n, k] float32, `y` [n] true class numbers, and where each row came from. `ids` name
    the rows; without them a row's id is its number, from 0.
    """

    logits: NDArray[np.float32]
    y: NDArray[Any]
    texts: Sequence[str] | pa.ChunkedArray | pa.Array
    files: Column | None = None
    lines: Column | None = None
    ids: Column | None = None

    def __len__(self) -> int:
        return len(self.y)

    def check(self, k: int, name: str) -> None:
        """Raise unless the columns agree with one another and with the number of classes."""
        if self.logits.shape != (len(self.y), k) or len(self.texts) != len(self.y):
            raise WarmstartError(
                f"{name}: logits {self.logits.shape}, {len(self.y)} labels, {len(self.texts)} "
                f"texts and {k} classes do not fit together"
            )
        if not np.isfinite(self.logits).all():
            raise WarmstartError(f"{name}: the model gave values that are not finite numbers")


def prediction_table(test: Scored, labels: Sequence[str], temperature: float) -> pa.Table:
    """One row per test row: where it came from, the truth, the answer and how sure it was.

    `probabilities` (a list, in the order of `labels`) and `confidence` are the plain softmax, equal
    to what a Hugging Face pipeline gives; `confidence_calibrated` is divided by the temperature.
    """
    probabilities = softmax(test.logits).astype(np.float32)
    answer = np.asarray(test.logits).argmax(axis=1)
    sharpened = softmax(test.logits, temperature).max(axis=1).astype(np.float32)
    names = pa.array([str(label) for label in labels], pa.string())
    rows = len(test)
    return pa.table(
        {
            "id": _strings(test.ids if test.ids is not None else np.arange(rows).tolist()),
            "file": _strings(test.files) if test.files is not None else pa.nulls(rows, pa.string()),
            "line": _integers(test.lines, rows),
            "text": _strings(test.texts),
            "label": names.take(pa.array(np.asarray(test.y, dtype=np.int64))),
            "prediction": names.take(pa.array(answer)),
            "correct": pa.array(answer == test.y),
            "confidence": pa.array(probabilities.max(axis=1, initial=0.0)),
            "confidence_calibrated": pa.array(sharpened),
            "probabilities": _lists(probabilities),
        }
    )


def _strings(values: Column) -> Any:
    """A column of strings, from Arrow or from anything that can be written."""
    if not isinstance(values, Sequence):
        return values.cast(pa.string())
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _integers(values: Column | None, rows: int) -> Any:
    """A column of int64, empty where the line is not known."""
    if values is None:
        return pa.nulls(rows, pa.int64())
    if not isinstance(values, Sequence):
        return values.cast(pa.int64())
    return pa.array([None if value is None else int(value) for value in values], pa.int64())


def _lists(matrix: NDArray[np.float32]) -> Any:
    """A matrix [n, k] as a column of lists of k floats, without a Python object per number."""
    rows, width = matrix.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(width))
    return pa.ListArray.from_arrays(offsets, pa.array(matrix.reshape(-1)))
