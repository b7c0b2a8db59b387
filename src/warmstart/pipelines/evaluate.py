"""A task's answers judged: by the classifiers' own harness, or by the one for every other task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warmstart.evaluation.classification import Evaluation
    from warmstart.evaluation.settings import Evaluate
    from warmstart.tasks.base import Examples, Task


def judge(
    settings: Evaluate,
    task: Task,
    outputs: Mapping[str, Any],
    examples: Mapping[str, Examples],
    history: Sequence[Mapping[str, Any]],
    seed: int,
) -> Evaluation:
    """Scores with intervals, baselines and mistakes of the test split.

    `outputs` and `examples` may lack "validation" and "train", where a saved model meets new rows.
    """
    if task.head.single_label:
        return _classifier(settings, task, outputs, examples, history, seed)
    from warmstart.evaluation.evaluate import evaluate

    baselines = settings.baselines and "train" in examples
    result = task.result(outputs, examples, baselines=baselines, seed=seed)
    return evaluate(settings, task.main_score, task.metric_titles, result, history, seed)


def _classifier(
    settings: Evaluate,
    task: Task,
    outputs: Mapping[str, Any],
    examples: Mapping[str, Examples],
    history: Sequence[Mapping[str, Any]],
    seed: int,
) -> Evaluation:
    from warmstart.evaluation.classification import evaluate
    from warmstart.evaluation.predictions import Scored

    test, train = examples["test"], examples.get("train")
    nothing = Scored(outputs["test"][:0], test.store.targets[:0], task.as_text(test.table)[:0])
    scored = {
        name: Scored(
            outputs[name],
            part.store.targets,
            task.as_text(part.table),
            part.table["_file"],
            part.table["_line"],
        )
        for name, part in examples.items()
        if name in outputs and (len(part) or name == "test")
    }
    if train is None:
        settings = settings.model_copy(update={"baselines": False})
    return evaluate(
        settings,
        test.labels,
        scored["test"],
        scored.get("validation", nothing),
        [] if train is None else task.as_text(train.table),
        test.store.targets[:0] if train is None else train.store.targets,
        history,
        seed,
    )
