"""Was the task learned at all? Read from the paired comparisons with the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from warmstart.evaluate.words import figure

TRIVIAL = ("majority", "frequent", "mean", "nothing")  # baselines that never look at the text
ADVICE = (
    "Train for more epochs, try a higher learning rate or a method that moves more weights (full), "
    "or bring more rows."
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A baseline's main figure, and how the model stands against it: `outcome` is "better",
    "worse" or "noise", of the paired comparison on the test rows."""

    name: str
    title: str
    value: float
    outcome: str


def standings(judged: Sequence[Mapping[str, Any]], main: str) -> list[Standing]:
    """The standings against the baselines of metrics.json."""
    return [
        Standing(one["name"], one["title"], one[main]["value"], one["outcome"]) for one in judged
    ]


def not_learned(score: float | None, rivals: Sequence[Standing]) -> tuple[str, str] | None:
    """A sentence on a task that was not learned, whatever the curves look like, and advice.

    It never says more than the comparisons do: that a model is behind a baseline counts only where
    the difference is no noise, and a baseline that never looks at the text has to be beaten.
    """
    if score is None:
        return None
    best = max(rivals, key=lambda one: one.value, default=None)
    trivial = next((one for one in rivals if one.name in TRIVIAL), None)
    if best and best.outcome == "better":
        return None
    if score <= 0:
        text = f"The model has not learned the task: on the test rows it scores {figure(score)}."
    elif best and best.outcome == "worse":
        text = (
            "The model has not learned what there is to learn: on the test rows it scores "
            f"{figure(score)}, and the best baseline {figure(best.value)}."
        )
    elif trivial and trivial.outcome != "better":
        return _untold(score, trivial)
    else:
        return None
    return text, ADVICE


def _untold(score: float, trivial: Standing) -> tuple[str, str]:
    """What is said of a model that is not told from a baseline which never looks at the text."""
    figures = f"“{trivial.title}” ({figure(score)} and {figure(trivial.value)})"
    text = (
        f"It is not shown that the model has learned the task: on the test rows it cannot be told "
        f"from {figures}."
    )
    return text, f"More test rows would tell. {ADVICE}" if score > trivial.value else ADVICE
