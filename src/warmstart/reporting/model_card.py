"""The model card: a README.md whose YAML head every hub reads and whose text a person can use.

The head follows https://huggingface.co/docs/hub/model-cards; figures in the text carry intervals.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from warmstart.evaluation import sentences as words
from warmstart.models.heads import HEADS
from warmstart.reporting.page import environment
from warmstart.reporting.view import confusions
from warmstart.types import RunReport

WEAKEST = 3  # classes and confusions named as limits
NAMED = ("summarization", "translation")  # tasks that the hub calls by our name
PLACE = re.compile(r'^\w+ = "((?:[/~.]|[A-Z]:)[^"\n]*[/\\][^"\n]*)"$', re.MULTILINE)
"""A line of a recipe whose value is a path that begins at the root, at home or at a dot."""
TYPES = {"f1_macro": "f1", "f1_weighted": "f1"}
"""Our name → the type in the hub's list of metrics, where they differ."""


def model_card(report: RunReport) -> str:
    """The card as Markdown. `base["hub_id"]` is named as `base_model`; a base that came from a file
    is named in the text."""
    head = yaml.safe_dump(front_matter(report), sort_keys=False, allow_unicode=True, width=1000)
    look = environment(autoescape=False)  # Markdown: `_inline` guards what comes from the data
    look.filters.update(inline=_inline, literal=repr)
    body = look.get_template("card.md.j2").render(_view(report))
    for folder in _folders(report):
        body = body.replace(_inline(folder), "").replace(folder, "")
    return f"---\n{head}---\n\n{body}"


def front_matter(report: RunReport) -> dict[str, Any]:
    """The YAML head as a dict; keys that are not known are left out rather than made up."""
    pipeline, hub_id = _pipeline(report), report.base.get("hub_id")
    shown = report.metrics.shown if report.metrics else {}
    head: dict[str, Any] = {
        "language": report.language,
        "license": report.license,
        "library_name": "peft" if report.adapter else "transformers",
        "pipeline_tag": pipeline,
        "base_model": hub_id,
        "base_model_relation": hub_id and ("adapter" if report.adapter else "finetune"),
        "tags": ["warmstart", pipeline, *([report.method] if report.adapter else [])],
        "datasets": report.datasets,
        "metrics": sorted({TYPES.get(name, name) for name in shown}),
        "model-index": _index(report),
    }
    head["tags"] = [tag for tag in head["tags"] if tag]
    return {key: value for key, value in head.items() if value}


def _index(report: RunReport) -> list[dict[str, Any]]:
    """The results as the hub's `model-index`; empty without metrics."""
    metrics = report.metrics
    if not metrics or not metrics.shown:
        return []
    source = str(report.data.get("name") or "own data")
    result = {
        "task": {"type": _pipeline(report), "name": _task_title(report)},
        "dataset": {"type": "custom", "name": source, "split": "test"},
        "metrics": [
            {"type": TYPES.get(name, name), "name": title,
             "value": round(metrics.scores[name].value, 6)}
            for name, title in metrics.shown.items()
        ],
    }  # fmt: skip
    return [{"name": report.run.name or report.title or "model", "results": [result]}]


def _task_title(report: RunReport) -> str:
    """The task as one writes it."""
    return words.title(_pipeline(report).replace("-", " "))


def _pipeline(report: RunReport) -> str:
    """The hub's word for the task."""
    task = report.task
    return task.name if task.name in NAMED else HEADS[task.head].hub_tag


def _view(report: RunReport) -> dict[str, Any]:
    """What the card's template uses."""
    metrics = report.metrics
    classes = metrics.per_class if metrics else ()
    weakest = sorted((row for row in classes if row.support), key=lambda row: row.f1)
    return {
        "r": report,
        "m": metrics,
        "title": report.title or f"{_task_title(report)} model",
        "by_pipeline": HEADS[report.task.head].pipeline and report.task.name != "pairs",
        "labels": [str(label) for label in report.labels or (metrics and metrics.labels) or ()],
        "base": report.base.get("hub_id") or report.base.get("name") or "",
        "classes": classes,
        "weakest": weakest[:WEAKEST],
        "confusions": confusions(metrics)[:WEAKEST],
        "fence": "`" * max([3, *(len(run) + 1 for run in re.findall("`+", report.recipe_toml))]),
    }


def _folders(report: RunReport) -> list[str]:
    """The folders of this machine that the recipe names, longest first: the card goes where the
    model goes, and says of a file its name alone, in the recipe and in every note."""
    paths = [Path(value) for value in PLACE.findall(report.recipe_toml)]
    folders = {f"{path.parent}{os.sep}" for path in paths if path.parent != path.parent.parent}
    return sorted(folders, key=len, reverse=True)


def _inline(text: Any) -> str:
    """A label or name in a line or table cell: one line, Markdown and HTML signs made harmless."""
    plain = " ".join(str(text).split()).replace("\\", "\\\\")
    for sign in "`*_[]|#":
        plain = plain.replace(sign, f"\\{sign}")
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
