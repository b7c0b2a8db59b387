"""What several tasks gave together: one table of figures, and the proof that the body is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.errors import ProofError

if TYPE_CHECKING:
    import numpy as np

    from warmstart.metrics.base import Floats, Measure
    from warmstart.pipelines.multitask.prepare import PreparedTasks
    from warmstart.pipelines.prepare import Prepared


# Did sharing help? A task's answers from the shared body beside those of a model of its own.


def compared(
    shared: Prepared,
    together: dict[str, Any],
    single: Prepared,
    alone: dict[str, Any],
    titles: Mapping[str, str],
) -> dict[str, Any]:
    """Together minus alone on the test rows: the paired difference of the main figure.

    `together` and `alone` are outputs by split, `titles` how figures are called. The outcome is
    "better", "worse" or "noise".
    """
    from warmstart.evaluation import sentences as words
    from warmstart.evaluation.evaluate import scale
    from warmstart.metrics.bootstrap import difference

    settings, main = shared.recipe.evaluate, shared.task.main_score
    measure, ours, groups = statistics(shared, together)
    _, theirs, _ = statistics(single, alone)
    gap = difference(
        measure, ours, theirs, main, settings.bootstrap, settings.confidence_level,
        shared.recipe.seed, groups,
    )  # fmt: skip
    said = words.verdict(
        gap, "the same task trained alone", titles.get(main, main), scale(measure, main)
    )
    value = {"together": measure.total(ours)[main], "alone": measure.total(theirs)[main]}
    return {**value, **gap.as_dict(), "outcome": gap.outcome, "sentence": words.sentence(said)}


def statistics(
    prepared: Prepared, outputs: dict[str, Any]
) -> tuple[Measure, Floats, np.ndarray | None]:
    """What the figures of the test rows are made of: the measure, its rows, and their groups."""
    result = prepared.task.evaluate(outputs, prepared.examples)
    return result.measure, result.statistics, result.groups


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
    from warmstart.evaluation.sentences import figure, listed

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

    from warmstart.models.architectures import family_of
    from warmstart.models.checks import read_json

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
