"""The rows a model got wrong, the most confident first: often the label is wrong, not the model."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute

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
