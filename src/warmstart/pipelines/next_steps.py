"""What to type when a model is there, and what it does: the same in the terminal and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.errors import typed

if TYPE_CHECKING:
    from warmstart.tasks.base import Task

Steps = list[tuple[str, str]]
"""Commands, and what each does."""


def next_steps(task: Task, model: Path) -> Steps:
    """For a run or model folder of this task."""
    folder = typed(model)
    asked = f"warmstart predict {folder}"
    module = getattr(task, "module", "")
    own = f" --task.module {typed(module)}" if module else ""
    out = task.head.answers_file
    one = "a text" if len(task.inputs) == 1 else "a pair of texts"
    steps = [
        (f"{asked} {_example(task)}{own}", task.head.does.format(one=one)),
        (f"{asked} new.csv --out {out}{own}", "does so with every row of a file"),
        (f"warmstart evaluate {folder} other.csv{own}", "scores the model on other labelled data"),
    ]
    return [*_search(model), *steps] if task.head.gives_vectors else steps


def _example(task: Any) -> str:
    """The input of one answer, as the shell takes it."""
    if len(task.inputs) == 1:
        return '"your text"'
    return f"'{json.dumps(dict.fromkeys(task.inputs, '…'), ensure_ascii=False)}'"


def _search(model: Path) -> Steps:
    """What vectors are made for."""
    folder = typed(model)
    return [
        (f"warmstart index {folder} texts.csv --out texts-index", "makes an index of your texts"),
        ('warmstart search texts-index "your question"', "finds those nearest in meaning"),
    ]
