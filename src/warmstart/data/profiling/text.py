"""Facts about texts: their lengths, what a limit would cut, and characters that went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.tables import pc

LIMITS = (32, 64, 128, 256, 512)  # tokens
BINS = 24
NEAR_EMPTY = 3  # letters and digits below which a text says next to nothing
ODD = {
    "html": r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,6}|#x[0-9a-fA-F]{1,6});"
    r"|</?(?:br|p|div|span|a|b|i)\b[^<>]*>",
    "mojibake": r"Ã[\x{80}-\x{BF}]|Ã[ƒ‚„…†‡ˆ‰Š‹Œ]|â€|â\x{80}|Â[\x{A0}-\x{BF}]|ï¿½|\x{FFFD}",
    "control": r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x{84}\x{86}-\x{9F}]",
    "invisible": r"[\x{200B}\x{202A}-\x{202E}\x{2066}-\x{2069}\x{FEFF}\x{AD}]",
}  # fmt: skip
"""RE2 patterns: HTML left in, an encoding read as another, control and invisible characters."""


def as_array(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The texts with "" for null."""
    return pc.fill_null(column, "")


def characters(texts: pa.ChunkedArray) -> np.ndarray:
    """Characters (code points) of each text."""
    return _numpy(pc.utf8_length(texts))


def words(texts: pa.ChunkedArray) -> np.ndarray:
    """Words of each text: what stands between white space."""
    return _numpy(pc.count_substring_regex(texts, r"\S+"))


def near_empty(texts: pa.ChunkedArray) -> np.ndarray:
    """Rows with some text but fewer than NEAR_EMPTY letters, digits or symbols such as emoji."""
    letters = _numpy(pc.count_substring_regex(texts, r"[\p{L}\p{N}]|\p{So}"))
    ideographs = _numpy(pc.match_substring_regex(texts, r"[\p{Han}\p{Hangul}\p{So}]")).astype(bool)
    empty = _numpy(pc.equal(pc.utf8_trim_whitespace(texts), "")).astype(bool)
    return np.flatnonzero((letters < NEAR_EMPTY) & ~ideographs & ~empty)


def odd_rows(texts: pa.ChunkedArray) -> dict[str, np.ndarray]:
    """Kind of oddity (see ODD) → the rows that hold it."""
    return {
        kind: np.flatnonzero(_numpy(pc.match_substring_regex(texts, pattern)))
        for kind, pattern in ODD.items()
    }


def distribution(lengths: np.ndarray) -> dict[str, Any]:
    """Mean, quantiles and a histogram of lengths.

    The histogram has up to BINS bins of one width up to the 99th percentile, and one for what is
    longer: {"edges": [0, w, 2w, …], "counts": […], "over": rows}.
    """
    if not len(lengths):
        return {"rows": 0}
    marks = {"min": 0, "p5": 5, "median": 50, "p95": 95, "p99": 99, "max": 100}
    found: dict[str, Any] = {"rows": len(lengths), "mean": round(float(lengths.mean()), 1)}
    cuts = np.percentile(lengths, list(marks.values()), method="higher")
    found |= {name: int(value) for name, value in zip(marks, cuts, strict=True)}
    width = max(1, -(-(found["p99"] + 1) // BINS))
    bins = -(-(found["p99"] + 1) // width)
    inside = lengths[lengths < bins * width] // width
    counts = np.bincount(inside, minlength=bins)
    found["histogram"] = {
        "edges": [int(width * i) for i in range(bins + 1)],
        "counts": counts.tolist(),
        "over": int(len(lengths) - len(inside)),
    }
    return found


def cuts(lengths: np.ndarray, asked: int, most: int | None = None) -> list[dict[str, Any]]:
    """What limits of 32 to 512 tokens and the asked one would cut.

    `most` is what the base can read at once; limits above it are left out. Each entry:
    {"max_length", "rows", "row_share", "tokens", "token_share", "asked"}.
    """
    total = max(int(lengths.sum()), 1)
    limits = {limit for limit in (*LIMITS, asked) if most is None or limit <= most} | {asked}
    found: list[dict[str, Any]] = []
    for limit in sorted(limits):
        over = lengths[lengths > limit]
        lost = int((over - limit).sum())
        row: dict[str, Any] = {"max_length": limit, "rows": len(over)}
        row |= {"row_share": len(over) / max(len(lengths), 1), "tokens": lost}
        found.append(row | {"token_share": lost / total, "asked": limit == asked})
    return found


def enough(found: Sequence[dict[str, Any]], share: float = 0.01) -> int | None:
    """The smallest of the limits that cuts at most `share` of the rows, or None."""
    fitting = [row["max_length"] for row in found if row["row_share"] <= share]
    return min(fitting) if fitting else None


def _numpy(values: pa.ChunkedArray) -> np.ndarray:
    parts = [np.asarray(chunk).astype(np.int64) for chunk in values.chunks]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
