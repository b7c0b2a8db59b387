"""Several tasks at once, over one body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator

from warmstart import part as parts
from warmstart.errors import RecipeError, nearest, shown
from warmstart.tasks.base import Task

MASKED = "mlm"
"""The name of the auxiliary task: guessing masked words, which needs no labels."""
OWN = ("name", "data", "columns", "weight")
"""What an entry says beside the settings of its task."""
MASKED_SETTINGS = ("share", "max_length")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Multitask(Task):
    """Tasks that share one body and have a head each (Caruana 1997; Liu et al. 2019, MT-DNN).

    Every step is a batch of one task. How often each has its turn follows from its rows and the
    temperature. The weights that are kept are those with the best mean of the tasks' main scores.
    """

    own_data: ClassVar[bool] = True
    main_score: ClassVar[str] = "mean"
    metric_titles: ClassVar[Mapping[str, str]] = {"mean": "mean of the main scores"}

    tasks: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="each task under a name of its own: {name = 'tagging', data = 'file', …} with "
        "the settings of that task, and optionally columns (as data.columns) and weight (of its "
        "loss, 1); name = 'mlm' learns to guess masked words, of data or of the other tasks' texts",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        description="a task's share of the steps is its rows ** (1 / temperature): 1 in proportion "
        "to the rows, large values evenly",
    )
    compare: bool = Field(
        default=False,
        description="also train each task alone with the same settings, and say what sharing did",
    )
    max_length: int = Field(
        default=256, ge=3, description="tokens a text may have, where a task does not say its own"
    )

    @field_validator("tasks")
    @classmethod
    def _can_share(cls, tasks: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, entry in tasks.items():
            if not NAME.fullmatch(name):
                raise RecipeError(
                    f"task.tasks: '{shown(name)}' is to be the name of a folder; take letters, "
                    "digits, - and _"
                )
            _check_entry(f"task.tasks.{name}", entry)
        return tasks

    @property
    def labelled_tasks(self) -> dict[str, dict[str, Any]]:
        """The entries that have labels to learn from."""
        return {name: entry for name, entry in self.tasks.items() if kind_of(entry) != MASKED}

    @property
    def masked_tasks(self) -> dict[str, dict[str, Any]]:
        """The auxiliary entries."""
        return {name: entry for name, entry in self.tasks.items() if kind_of(entry) == MASKED}

    def settings_of(self, name: str) -> dict[str, Any]:
        """The settings of a labelled task, under its kind as `name`."""
        entry = self.tasks[name]
        rest = {key: value for key, value in entry.items() if key not in OWN}
        return {"name": kind_of(entry), "max_length": self.max_length, **rest}

    def weight_of(self, name: str) -> float:
        """How much the loss of a task counts."""
        return float(self.tasks[name].get("weight", 1.0))


def kind_of(entry: Mapping[str, Any]) -> str:
    """Which task an entry is."""
    return str(entry.get("name", "classification"))


def _check_entry(where: str, entry: Mapping[str, Any]) -> None:
    """Raise `RecipeError` where a task cannot share a body or lacks its data."""
    kind = kind_of(entry)
    if kind != MASKED:
        _check_kind(where, kind)
        if not entry.get("data"):
            raise RecipeError(f"{where} has no data: give the path of its file or folder as {where}"
                              ".data")  # fmt: skip
    elif strange := [key for key in entry if key not in (*OWN, *MASKED_SETTINGS)]:
        known = (*OWN, *MASKED_SETTINGS)
        raise RecipeError(f"unknown key '{where}.{strange[0]}'.{nearest(strange[0], known)}")
    if kind == MASKED:
        _number(where, "share", entry.get("share", 0.15), below=1.0)
    _number(where, "weight", entry.get("weight", 1.0))
    if not isinstance(entry.get("columns", {}), Mapping):
        raise RecipeError(f"{where}.columns: give a table, as in {{text = 'body'}}")


def _check_kind(where: str, kind: str) -> None:
    if kind in ("multitask", "custom"):
        raise RecipeError(
            f"{where}: task {kind} cannot be one of several; take one with a plain head"
        )
    task: Any = parts.find("task", kind)
    if not task.head.gives_logits or task.objective != "supervised":
        why = "has an objective of its own"
        if not task.head.gives_logits:
            why = "writes texts" if task.head.generates else "gives vectors"
        raise RecipeError(
            f"{where}: task {kind} {why} and cannot share a body with others yet; tasks with a "
            "plain head can: classification, multilabel, "
            "regression, pairs, tagging, extractive_qa, and mlm as a help"
        )


def _number(where: str, key: str, value: Any, below: float = float("inf")) -> None:
    try:
        fits = 0 < float(value) < below
    except (TypeError, ValueError):
        fits = False
    if not fits:
        limit = "" if below == float("inf") else f" and below {below:g}"
        raise RecipeError(f"{where}.{key} = {shown(value)}: give a number above 0{limit}")
