"""The request of `align`: the task that an objective needs, and what it leaves open settled as
models are usually aligned.

An objective says itself that it aligns (`Objective.aligns`) and in which task (`Objective.tasks`),
so that a new one is a file of its own here, too. Everything else is a recipe like any other: it
stands in the run, it may be written by hand, and `tune` would do the same with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmstart import part as parts
from warmstart.config.keys import nested, over, plain
from warmstart.errors import RecipeError, typed
from warmstart.models.checks import NOTE, note_of
from warmstart.pipelines.request import Request

USUAL = "dpo"
ALIGNMENT: Mapping[str, Any] = {
    "train": {"warmup": 0.1, "guard": True},
}  # fmt: skip
"""What `align` has in the place of the defaults of fine-tuning."""


def objectives() -> dict[str, Any]:
    """The objectives that align a model, by name."""
    every = {name: parts.find("objective", name) for name in parts.names("objective")}
    return {name: own for name, own in every.items() if _task_of(own)}


def alignment(data: Any, recipe: Any, keys: Mapping[str, Any], resume: Path | None) -> Request:
    """A request whose recipe has the usual settings below what was typed. Raises `RecipeError`."""
    if resume is not None:
        return Request(data, recipe, keys, resume)
    below, above = Request(data, recipe, keys).layers()
    stated = over(nested(below), nested(above))
    name = str(plain("objective", stated.get("objective", USUAL)).get("name", USUAL))
    objective: Any = parts.find("objective", name)
    task = _task_of(objective)
    if not task:
        raise RecipeError(
            f"objective {name} does not align a model; take one of {', '.join(objectives())}"
        )
    if "base" not in stated and "reward" not in objective.heads:
        what = typed(str(data)) if isinstance(data, str | Path) else "DATA"
        raise RecipeError(
            f"objective {name} begins with a model that writes: name it with --base, a run of your "
            f"own or smollm2, as in: warmstart align {what} --base smollm2 --objective {name}"
        )
    usual = {key: dict(value) for key, value in ALIGNMENT.items()}
    usual |= {"objective": {"name": name}, "task": {"name": task}}
    if "separator" in parts.find("task", task).model_fields:
        usual["task"] |= taught(stated.get("base"))
    return Request(data, over(usual, below) if below else usual, above)


def taught(base: Any) -> dict[str, str]:
    """What stands behind a prompt for a base that is a run of a task that writes: what it was
    taught, so that it is asked as it was taught."""
    place = Path(os.fspath(base)) if isinstance(base, str | os.PathLike) else None
    for folder in () if place is None else (place / "model", place):
        if (folder / NOTE).is_file():
            task = note_of(folder).get("task", {})
            behind = task.get("separator") if "max_new_tokens" in task else None
            return {"separator": behind} if behind else {}
    return {}


def _task_of(objective: Any) -> str:
    """The task that an objective aligns a model in; "" where it does not."""
    tasks = objective.tasks or ()
    return min(tasks) if objective.aligns else ""
