"""`comparison.html`: the methods beside each other, in the look of a run's report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmstart.evaluate import words
from warmstart.evaluate.comparison_words import outcome_words
from warmstart.evaluate.report import page
from warmstart.evaluate.write import write_whole

TAGS = {"best": "good", "noise": "info", "worse": "bad", "unknown": "watch"}


def write_comparison(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the page of a comparison (`comparison.json`) to `path`, whole or not at all."""
    write_whole(path, render_comparison(summary))


def render_comparison(summary: Mapping[str, Any]) -> str:
    """The page as HTML text."""
    filters = {
        "millions": millions, "megabytes": megabytes, "mebibytes": mebibytes,
        "duration": duration, "joules": joules, "p": words.p_words, "said": words.sentence,
        "points": lambda value: words.points(value, sign=True),
        "outcome": outcome_words, "tag": TAGS.__getitem__,
    }  # fmt: skip
    methods = summary["methods"]
    facts = {
        "s": summary,
        "methods": methods,
        "title": words.sentence(summary["title"])[:-1],
        "several": len(summary["seeds"]) > 1,
        "has_memory": any(one["peak_memory_mb"] is not None for one in methods),
        "has_energy": any(one["energy_joules"] is not None for one in methods),
    }
    return page("comparison.html.j2", facts, filters)


def millions(count: int) -> str:
    """A number of weights: "22.7 M", "0.15 M", "3,456"."""
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1e6:.1f} M" if count >= 1_000_000 else f"{count / 1e6:.2f} M"


def megabytes(size: float) -> str:
    """Bytes as megabytes: "92 MB", "3.4 MB", "0.15 MB"."""
    value = size / 1e6
    digits = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{value:.{digits}f} MB"


def mebibytes(size: float) -> str:
    """MiB of memory: "1,194 MiB"."""
    return f"{size:,.0f} MiB"


def duration(seconds: float) -> str:
    """Seconds as one reads them: "8.4 s", "2 min 05 s", "1 h 20 min"."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def joules(value: float) -> str:
    """Energy: "850 J", "12.3 kJ", "1.20 kWh" from 3.6 MJ on."""
    if value >= 3.6e6:
        return f"{value / 3.6e6:.2f} kWh"
    return f"{value / 1000:.1f} kJ" if value >= 1000 else f"{value:.0f} J"
