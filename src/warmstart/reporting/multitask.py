"""`report.html` of several tasks in one run: a table of all, and a link to the report of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from warmstart.evaluation import sentences as words
from warmstart.files import write_text
from warmstart.metrics.bootstrap import disputed
from warmstart.reporting import charts
from warmstart.reporting.comparison import duration
from warmstart.reporting.page import page

TAGS = {"better": "good", "noise": "info", "worse": "bad"}
OUTCOMES = {"better": "sharing helped", "noise": "noise", "worse": "sharing harmed"}


def write_tasks(path: Path, facts: Mapping[str, Any]) -> None:
    """Write the page of a run of several tasks to `path`, whole or not at all."""
    write_text(path, render_tasks(facts))


def render_tasks(facts: Mapping[str, Any]) -> str:
    """The page as HTML text."""
    filters = {
        "duration": duration, "p": words.p_words, "outcome": _outcome, "tag": TAGS.__getitem__,
        "signed": lambda value: f"{round(value, 3) + 0.0:+.3f}",
    }  # fmt: skip
    metrics = facts["metrics"]
    given = {
        "s": facts,
        "m": metrics,
        "tasks": [_shown(name, one) for name, one in metrics["tasks"].items()],
        "compared": any("alone" in one for one in metrics["tasks"].values()),
        "training": _training(facts["history"]),
    }
    return page("multitask.html.j2", given, filters)


def _outcome(alone: Mapping[str, Any]) -> str:
    """What sharing did, in words."""
    if disputed(alone["low"], alone["high"], alone["p_value"]):
        return "unclear"
    return OUTCOMES[alone["outcome"]]


def _shown(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    """A task's line: its main figure, drawn as a share, and what its report says first."""
    scale, main = one.get("scale", 1.0), one["main"]
    figure = one[main]
    return {
        "name": name,
        "task": one["task"],
        "share": one["share"],
        "rows": one["rows"],
        "title": one["titles"].get(main, main),
        **figure,
        "drawn": {key: scale * figure[key] for key in ("value", "low", "high")},
        "verdict": one["verdict"],
        "alone": one.get("alone"),
    }


def _training(history: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """The validation scores and losses of the tasks over the epochs."""
    if len(history) < 2:
        return []
    x = [float(row["epoch"]) for row in history]
    found: list[Markup] = []
    for kind, title in (("score", "score (higher is better)"), ("loss", "loss (lower is better)")):
        names = [key for key in history[0] if key.startswith(f"{kind}:")]
        rows = {key.partition(":")[2]: [row[key] for row in history] for key in names}
        found.append(charts.line_chart(f"Validation {title}", x, rows, "epoch"))
    return found
