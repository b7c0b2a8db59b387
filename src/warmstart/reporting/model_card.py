"""The model card: a README.md whose YAML head every hub reads and whose text a person can use.

The head follows https://huggingface.co/docs/hub/model-cards; figures in the text carry intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from warmstart.evaluation import sentences as words
from warmstart.formatting import counted
from warmstart.models.heads import HEADS
from warmstart.reporting.view import classes, confusions

TEMPLATES = Path(__file__).parent / "templates"
WEAKEST = 3  # classes and confusions named as limits
NAMED = ("summarization", "translation")  # tasks that the hub calls by our name
TYPES = {  # our name -> (type in the hub's list of metrics, its configuration in words)
    "accuracy": ("accuracy", "accuracy"),
    "f1_macro": ("f1", "macro-F1"),
    "f1_weighted": ("f1", "weighted F1"),
    "matthews_correlation": ("matthews_correlation", "Matthews correlation"),
}


def model_card(facts: Mapping[str, Any]) -> str:
    """The card as Markdown; `facts` as in `report.write_report`, plus what only a card says:

    `adapter` (bool: the folder holds PEFT weights), `language`, `license`, `datasets` (hub ids),
    `base["hub_id"]` (named as `base_model`; a base that came from a file is named in the text).
    """
    head = yaml.safe_dump(front_matter(facts), sort_keys=False, allow_unicode=True, width=1000)
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=False,  # Markdown, not HTML: `_inline` guards what comes from the data
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(inline=_inline, literal=_literal, score=words.figure, listed=words.listed)
    made.filters.update(counted=counted)
    body = made.get_template("card.md.j2").render(_view(facts))
    return f"---\n{head}---\n\n{body}"


def front_matter(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML head as a dict; keys that are not known are left out rather than made up."""
    base, adapter = facts.get("base") or {}, bool(facts.get("adapter"))
    name = str((facts.get("run") or {}).get("name") or facts.get("title") or "model")
    method = facts.get("method")
    pipeline = _pipeline(facts)
    head: dict[str, Any] = {
        "language": facts.get("language"),
        "license": facts.get("license"),
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": pipeline,
        "base_model": base.get("hub_id"),
        "base_model_relation": "adapter" if adapter else "finetune",
        "tags": ["warmstart", pipeline, *([method] if adapter and method else [])],
        "datasets": facts.get("datasets"),
        "metrics": sorted({TYPES.get(key, (key,))[0] for key in _shown(facts)}),
        "model-index": _index(name, facts),
    }
    if not head["base_model"]:
        del head["base_model_relation"]
    return {key: value for key, value in head.items() if value}


def _index(name: str, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results as the hub's `model-index`; empty without metrics."""
    metrics, shown = facts.get("metrics") or {}, _shown(facts)
    if not shown:
        return []
    source = str((facts.get("data") or {}).get("name") or "own data")
    result = {
        "task": {"type": _pipeline(facts), "name": _name(facts)},
        "dataset": {"type": "custom", "name": source, "split": "test"},
        "metrics": [
            {
                "type": TYPES.get(key, (key,))[0],
                "name": title,
                "value": round(metrics[key]["value"], 6),
            }
            for key, title in shown.items()
        ],
    }
    return [{"name": name, "results": [result]}]


def _shown(facts: Mapping[str, Any]) -> dict[str, str]:
    """The figures that are shown, the main one first, and what they are called."""
    metrics = facts.get("metrics") or {}
    return {key: title for key, title in metrics.get("titles", {}).items() if key in metrics}


def _task(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    return facts.get("task") or {"name": "classification", "head": "classes"}


def _name(facts: Mapping[str, Any]) -> str:
    """The task as one writes it."""
    pipeline = _pipeline(facts)
    return words.title(pipeline.replace("-", " "))


def _pipeline(facts: Mapping[str, Any]) -> str:
    """The hub's word for the task."""
    task = _task(facts)
    return task["name"] if task["name"] in NAMED else HEADS[task["head"]].hub_tag


def _view(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the card's template uses."""
    metrics = facts.get("metrics") or {}
    found = classes(metrics)
    base, task = facts.get("base") or {}, _task(facts)
    return {
        "title": facts.get("title") or f"{_name(facts)} model",
        "task": task,
        "by_pipeline": HEADS[task["head"]].pipeline and task["name"] != "pairs",
        "shown": _shown(facts),
        "verdict": facts.get("verdict") or metrics.get("verdict") or "",
        "m": metrics,
        "baselines": metrics.get("baselines", []),
        "labels": facts.get("labels") or metrics.get("labels", []),
        "base": base.get("hub_id") or base.get("name") or "",
        "base_facts": base,
        "adapter": bool(facts.get("adapter")),
        "weakest": sorted((c for c in found if c["support"]), key=lambda c: c["f1"])[:WEAKEST],
        "confusions": confusions(metrics)[:WEAKEST],
        "classes": found,
        "notes": metrics.get("notes", []),
        "data": facts.get("data") or {},
        "proof": facts.get("proof") or {},
        "versions": facts.get("versions") or {},
        "recipe": facts.get("recipe_toml") or "",
        "fence": _fence(facts.get("recipe_toml") or ""),
        "model_id": str((facts.get("run") or {}).get("model_path") or "path/to/this/folder"),
        "calibration": (metrics.get("calibration") or {}).get("sentence", ""),
    }


def _inline(text: Any) -> str:
    """A label or name in a line or table cell: one line, Markdown and HTML signs made harmless."""
    plain = " ".join(str(text).split()).replace("\\", "\\\\")
    for sign in "`*_[]|#":
        plain = plain.replace(sign, f"\\{sign}")
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _literal(texts: Sequence[str]) -> str:
    """Texts as a list in Python, on one line, which can neither end a fence nor begin one."""
    return repr([str(text) for text in texts])


def _fence(text: str) -> str:
    """A code fence longer than any run of backticks in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return fence
