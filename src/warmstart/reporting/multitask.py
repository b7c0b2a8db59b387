"""`report.html` of several tasks in one run: a table of all, and a link to the report of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from warmstart.evaluation import sentences as words
from warmstart.formatting import duration
from warmstart.metrics.bootstrap import disputed
from warmstart.reporting import charts
from warmstart.reporting.page import page
from warmstart.types import Metrics

TAGS = {"better": "good", "noise": "info", "worse": "bad"}
OUTCOMES = {"better": "sharing helped", "noise": "noise", "worse": "sharing harmed"}


def render_tasks(facts: Mapping[str, Any]) -> str:
    """The page of a run of several tasks as HTML text."""
    filters = {
        "duration": duration, "p": words.p_words, "tag": TAGS.__getitem__,
        "outcome": lambda gap: "unclear" if disputed(gap["low"], gap["high"], gap["p_value"])
        else OUTCOMES[gap["outcome"]],
        "signed": lambda value: f"{round(value, 3) + 0.0:+.3f}",
    }  # fmt: skip
    metrics = facts["metrics"]
    names = {
        "s": facts,
        "m": metrics,
        "tasks": [_row(name, task) for name, task in metrics["tasks"].items()],
        "compared": any("alone" in task for task in metrics["tasks"].values()),
        "training": _training(facts["history"]),
    }
    return page("multitask.html.j2", names, filters)


def _row(name: str, task: Mapping[str, Any]) -> dict[str, Any]:
    """A task's line: its main figure, drawn as a share, and what its report says first."""
    metrics = Metrics.from_json({"bootstrap": 0, **task})
    score = metrics.main_score
    return {
        "name": name,
        "task": task["task"],
        "share": task["share"],
        "rows": metrics.rows,
        "title": metrics.main_title,
        "value": score.value,
        "drawn_from": score,
        "drawn": score.times(metrics.scale),
        "verdict": metrics.verdict,
        "alone": task.get("alone"),
    }


def _training(history: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """The validation scores and losses of the tasks over the epochs."""
    if len(history) < 2:
        return []
    x = [float(row["epoch"]) for row in history]
    drawn: list[Markup] = []
    for kind, title in (("score", "score (higher is better)"), ("loss", "loss (lower is better)")):
        names = [key for key in history[0] if key.startswith(f"{kind}:")]
        rows = {key.partition(":")[2]: [row[key] for row in history] for key in names}
        drawn.append(charts.line_chart(f"Validation {title}", x, rows, "epoch"))
    return drawn
