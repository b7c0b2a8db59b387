"""What several tasks gave together: one table of figures, and the proof that the body is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.errors import ProofError

if TYPE_CHECKING:
    from warmstart.verbs.multitask import PreparedTasks

WHOLE = ("verdict", "main", "titles", "rows", "confidence_level", "scale", "comparison", "notes")
"""What of a task's metrics stands in those of the run; all of it stands in tasks/<name>."""


def metrics_of(
    prepared: PreparedTasks, found: Mapping[str, Mapping[str, Any]], alone: Mapping[str, Any]
) -> dict[str, Any]:
    """The metrics of the run: the mean of the main scores, and the figures of each task."""
    tasks: dict[str, Any] = {}
    for name, metrics in found.items():
        figures = {key: metrics[key] for key in metrics["titles"]}
        tasks[name] = {
            "task": prepared.each[name].task.part_name(),
            "share": round(prepared.shares[name], 6),
            **{key: metrics[key] for key in WHOLE if key in metrics},
            **figures,
            **({"alone": alone[name]} if name in alone else {}),
        }
    values = [one[one["main"]]["value"] * one.get("scale", 1.0) for one in tasks.values()]
    mean = sum(values) / len(values)
    return {
        "main": "mean",
        "titles": {"mean": "mean of the main scores"},
        "mean": {"value": mean},
        "tasks": tasks,
        "helpers": {name: round(prepared.shares[name], 6) for name in prepared.texts},
        "verdict": _verdict(mean, tasks, alone),
    }


def _verdict(mean: float, tasks: Mapping[str, Any], alone: Mapping[str, Any]) -> str:
    """The whole result in a few words."""
    from warmstart.evaluate.words import figure, listed

    text = f"{len(tasks)} tasks over one body, mean of the main scores {figure(mean)}"
    if not alone:
        return (
            f"{text}. Whether sharing helped is not known: `--task.compare true` also trains each "
            "task alone."
        )
    parts: list[str] = []
    for outcome, words in (("better", "helped"), ("worse", "harmed")):
        names = [name for name, one in alone.items() if one["outcome"] == outcome]
        parts += [f"sharing {words} {listed(names)}"] if names else []
    noise = [name for name, one in alone.items() if one["outcome"] == "noise"]
    parts += [f"for {listed(noise)} the difference to training alone is noise"] if noise else []
    return f"{text}; {'; '.join(parts)}."


def prove_shared(folders: Sequence[Path]) -> dict[str, Any]:
    """That the saved folders have one body: what they all have by name must be equal.

    Raises `ProofError`.
    """
    from safetensors.torch import load_file

    from warmstart.models.families import family_of
    from warmstart.models.weights import read_json

    saved = [
        {name: value for file in sorted(folder.glob("*.safetensors"))
         for name, value in load_file(file).items()}
        for folder in folders
    ]  # fmt: skip
    config = folders[0] / "config.json"
    heads = family_of(read_json(config)).head_modules if config.exists() else ()
    common = set.intersection(*(set(tensors) for tensors in saved))
    body = sorted(
        name for name in common
        if not any(f".{head}." in f".{name}" for head in (*heads, "classifier", "qa_outputs"))
    )  # fmt: skip
    for name in body:
        if any(not one[name].equal(saved[0][name]) for one in saved[1:]):
            raise ProofError(f"the saved folders of the tasks differ in '{name}' of the body")
    if not body:
        raise ProofError("the saved folders of the tasks have no weights in common")
    return {"tensors": len(body), "equal": True}
