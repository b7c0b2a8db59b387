"""`compression.html`: smaller models beside the one that they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from warmstart.evaluation.sentences import points
from warmstart.formatting import duration
from warmstart.reporting import charts
from warmstart.reporting.comparison import millions
from warmstart.reporting.page import page

TAGS = {"not worse": "good", "unclear": "watch", "worse": "bad", "failed": "bad"}
Row = Mapping[str, Any]


def render_compression(summary: Mapping[str, Any]) -> str:
    """The page of a compression (`compression.json`) as HTML text."""
    products = [row for row in summary["products"] if not row["failure"]]
    filters = {
        "millions": millions, "duration": duration, "tag": TAGS.__getitem__,
        "change": change, "megabytes": lambda size: f"{size:,.1f}",
    }  # fmt: skip
    facts = {
        "s": summary,
        "verdict": verdict(summary),
        "source": summary["source"],
        "products": summary["products"],
        "by_size": _plot("What is kept for its size", summary, products, "size_mb", "MB on disk"),
        "by_speed": _plot(
            "What is kept for its speed", summary, products, "rows_per_second", "rows a second"
        ),
    }
    return page("compression.html.j2", facts, filters)


def change(row: Row) -> str:
    """The change of the main score in points, with its interval."""
    apart = row["difference"]
    sign = -1 if apart.get("lower_is_better") else 1
    low, high = sorted((sign * apart["low"], sign * apart["high"]))
    return (f"{points(sign * apart['difference'], sign=True)} ({points(low, sign=True)} to "
            f"{points(high, sign=True)})")  # fmt: skip


def verdict(summary: Mapping[str, Any]) -> str:
    """The whole in a sentence or two: what is done, and what is not."""
    rows: Sequence[Row] = summary["products"]
    done = [row for row in rows if row["done"]]
    parts = list[str]()
    if done:
        least = min(done, key=lambda row: row["size_mb"])
        share = least["size_mb"] / summary["source"]["size_mb"]
        quick = max(done, key=lambda row: row["rows_per_second"])
        times = quick["rows_per_second"] / summary["source"]["rows_per_second"]
        parts.append(
            f"The smallest that is done is {least['name']}, {100 * share:.0f} % of the size; the "
            f"quickest {quick['name']}, {times:.1f} times the rows a second."
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
