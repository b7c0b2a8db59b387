"""Facts about texts: their lengths, what a limit would cut, and characters that went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.tables import is_blank, pc

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


def characters(texts: pa.ChunkedArray) -> np.ndarray:
    """Characters (code points) of each text."""
    return np.asarray(pc.utf8_length(texts), np.int64)


def words(texts: pa.ChunkedArray) -> np.ndarray:
    """Words of each text: what stands between white space."""
    return np.asarray(pc.count_substring_regex(texts, r"\S+"), np.int64)


def odd_rows(texts: pa.ChunkedArray) -> dict[str, np.ndarray]:
    """Kind of oddity → the rows that show it: `empty`; `near_empty`, with fewer than NEAR_EMPTY
    letters, digits or symbols such as emoji; and the kinds of ODD."""
    letters = np.asarray(pc.count_substring_regex(texts, r"[\p{L}\p{N}]|\p{So}"))
    ideographs = np.asarray(pc.match_substring_regex(texts, r"[\p{Han}\p{Hangul}\p{So}]"))
    empty = is_blank(texts)
    rows = {
        "empty": np.flatnonzero(empty),
        "near_empty": np.flatnonzero((letters < NEAR_EMPTY) & ~ideographs & ~empty),
    }
    for kind, pattern in ODD.items():
        rows[kind] = np.flatnonzero(np.asarray(pc.match_substring_regex(texts, pattern)))
    return rows


def distribution(lengths: np.ndarray) -> dict[str, Any]:
    """Mean, quantiles and a histogram of lengths.

    The histogram has up to BINS bins of one width up to the 99th percentile, and one for what is
    longer: {"edges": [0, w, 2w, …], "counts": […], "over": rows}.
    """
    if not len(lengths):
        return {"rows": 0}
    marks = {"min": 0, "p5": 5, "median": 50, "p95": 95, "p99": 99, "max": 100}
    values = np.percentile(lengths, list(marks.values()), method="higher").astype(int).tolist()
    quantiles = dict(zip(marks, values, strict=True))
    end = quantiles["p99"] + 1
    width = max(1, -(-end // BINS))
    bins = -(-end // width)
    inside = lengths[lengths < bins * width] // width
    histogram = {
        "edges": [width * i for i in range(bins + 1)],
        "counts": np.bincount(inside, minlength=bins).tolist(),
        "over": len(lengths) - len(inside),
    }
    mean = round(float(lengths.mean()), 1)
    return {"rows": len(lengths), "mean": mean, **quantiles, "histogram": histogram}


def cuts(
    lengths: np.ndarray, max_length: int, base_limit: int | None = None
) -> list[dict[str, Any]]:
    """What limits of 32 to 512 tokens and `max_length` would cut.

    `base_limit` is what the base can read at once; limits above it are left out. Each entry:
    {"max_length", "rows", "row_share", "tokens", "token_share", "asked"}.
    """
    total = max(int(lengths.sum()), 1)
    limits = {n for n in LIMITS if base_limit is None or n <= base_limit} | {max_length}
    rows: list[dict[str, Any]] = []
    for limit in sorted(limits):
        over = lengths[lengths > limit]
        lost = int((over - limit).sum())
        rows.append({"max_length": limit, "rows": len(over),
                     "row_share": len(over) / max(len(lengths), 1), "tokens": lost,
                     "token_share": lost / total, "asked": limit == max_length})  # fmt: skip
    return rows


def sufficient_limit(rows: Sequence[dict[str, Any]], share: float = 0.01) -> int | None:
    """The smallest limit of `cuts` that cuts at most `share` of the rows, or None."""
    return min((row["max_length"] for row in rows if row["row_share"] <= share), default=None)
