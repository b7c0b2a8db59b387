"""What to type when a model is there, and what it does: the same in the terminal and the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from warmstart.errors import typed

if TYPE_CHECKING:
    from warmstart.tasks.base import Task

Steps = list[tuple[str, str]]
"""Commands, and what each does."""


def next_steps(task: Task, model: Path) -> Steps:
    """For a run or model folder of this task."""
    folder = typed(model)
    module = getattr(task, "module", "")
    own = f" --task.module {typed(module)}" if module else ""
    example, rows = '"your text"', "a text"
    if len(task.inputs) > 1:
        example = f"'{json.dumps(dict.fromkeys(task.inputs, '…'), ensure_ascii=False)}'"
        rows = "a pair of texts"
    predict = f"warmstart predict {folder}"
    steps = [
        (f"{predict} {example}{own}", task.head.does.format(one=rows)),
        (f"{predict} new.csv --out {task.head.answers_file}{own}",
         "does so with every row of a file"),
        (f"warmstart evaluate {folder} other.csv{own}", "scores the model on other labelled data"),
    ]  # fmt: skip
    if not task.head.gives_vectors:
        return steps
    index = f"warmstart index {folder} texts.csv --out texts-index"
    search = 'warmstart search texts-index "your question"'
    return [
        (index, "makes an index of your texts"),
        (search, "finds those nearest in meaning"),
        *steps,
    ]


def next_steps_of_tasks(models: Sequence[Path]) -> Steps:
    """For the model folders of a run of several tasks."""
    folder, *others = [typed(model) for model in models]
    more = f"; the others are asked the same way: {', '.join(others)}"
    return [
        (f"warmstart predict {folder} new.csv --out answered.csv", f"answers every row{more}"),
        (f"warmstart evaluate {folder} other.csv", "scores a model on other labelled data"),
    ]
