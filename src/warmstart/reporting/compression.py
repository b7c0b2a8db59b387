"""`compression.html`: smaller models beside the one that they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from warmstart.evaluation.sentences import points
from warmstart.formatting import counted, duration
from warmstart.reporting import charts
from warmstart.reporting.comparison import millions
from warmstart.reporting.page import page

TAGS = {"not worse": "good", "unclear": "watch", "worse": "bad", "failed": "bad"}
Row = Mapping[str, Any]
SPEEDS = (("rows_per_second", "rows a second"), ("tokens_per_second", "tokens a second"))
"""The speed in bulk: of answers, and of texts that are written."""


def render_compression(summary: Mapping[str, Any]) -> str:
    """The page of a compression (`compression.json`) as HTML text."""
    products = [row for row in summary["products"] if not row["failure"]]
    key, speed = SPEEDS[summary["source"].get("tokens_per_second") is not None]
    filters = {
        "millions": millions, "duration": duration, "tag": TAGS.__getitem__,
        "change": change, "rate": rate, "megabytes": lambda size: f"{size:,.1f}",
    }  # fmt: skip
    facts = {
        "s": summary,
        "verdict": verdict(summary),
        "source": summary["source"],
        "products": summary["products"],
        "by_size": _plot("What is kept for its size", summary, products, "size_mb", "MB on disk"),
        "by_speed": _plot("What is kept for its speed", summary, products, key, speed),
        "speed": (key, "Tokens/s" if key == SPEEDS[1][0] else "Rows/s"),
        "unit": unit_of(summary),
    }
    return page("compression.html.j2", facts, filters)


def change(row: Row) -> str:
    """The change of the main score in points, or per cent, with its interval; below 0 it lost."""
    apart = row["difference"]
    scale = (-1 if apart.get("lower_is_better") else 1) / apart.get("span", 1.0)
    low, high = sorted((scale * apart["low"], scale * apart["high"]))
    return (f"{points(scale * apart['difference'], sign=True)} ({points(low, sign=True)} to "
            f"{points(high, sign=True)})")  # fmt: skip


def unit_of(summary: Mapping[str, Any]) -> str:
    """What changes of the main score are counted in: points of its range, or per cent of the
    source's own where it has no range."""
    return str((summary["source"].get("difference") or {}).get("unit", "points"))


def rate(value: float) -> str:
    """So many a second."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def speed_of(row: Row) -> float:
    """How fast a model is in bulk."""
    return float(row.get("tokens_per_second") or row["rows_per_second"])


def verdict(summary: Mapping[str, Any]) -> str:
    """The whole in a sentence or two: what is done, and what is not."""
    rows: Sequence[Row] = summary["products"]
    sure = [row for row in rows if row["outcome"] == "not worse"]
    unsure = [row["name"] for row in rows if row["outcome"] == "unclear"]
    what, parts = SPEEDS[summary["source"].get("tokens_per_second") is not None][1], list[str]()
    if sure:
        least, quick = min(sure, key=lambda row: row["size_mb"]), max(sure, key=speed_of)
        share = least["size_mb"] / summary["source"]["size_mb"]
        times = speed_of(quick) / speed_of(summary["source"])
        parts.append(
            f"The smallest that is not worse is {least['name']}, {100 * share:.0f} % of the size; "
            f"the quickest {quick['name']}, {times:.1f} times the {what}."
        )
    if unsure:
        parts.append(
            f"Not sure on {counted(summary['rows'])}: {', '.join(unsure)}; name more labelled rows "
            "after the model."
        )
    if lost := [row["name"] for row in rows if not row["done"]]:
        parts.append(f"Not done: {', '.join(lost)}.")
    return " ".join(parts)


def _plot(
    title: str, summary: Mapping[str, Any], rows: Sequence[Row], key: str, x_name: str
) -> Markup:
    """The main score against what it costs; whiskers are the interval of the difference."""
    source = summary["source"]
    marks = [("the source", source[key], source["score"], source["score"], source["score"])]
    for row in rows:
        low, high = (source["score"] + row["difference"][end] for end in ("low", "high"))
        marks.append((row["name"], row[key], row["score"], low, high))
    return charts.trade_off(title, marks, x_name)
