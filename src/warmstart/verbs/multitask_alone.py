"""Did sharing help? A task's answers from the shared body beside those of a model of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from warmstart.scores.measure import Floats, Measure
    from warmstart.verbs.prepare import Prepared


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
    from warmstart.evaluate import words
    from warmstart.evaluate.figures import scale
    from warmstart.scores.bootstrap import difference

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
    from warmstart.evaluate.comparison_rows import ClassMeasure

    task, test = prepared.task, prepared.examples["test"]
    if task.form == "classes":
        eye = np.eye(len(prepared.labels))
        said, truth = eye[outputs["test"].argmax(-1)], eye[test.store.targets]
        measure = ClassMeasure(len(prepared.labels))
        return measure, np.concatenate([said * truth, said, truth], axis=1), None
    result = task.result(outputs, prepared.examples, baselines=False, seed=prepared.recipe.seed)
    return result.measure, result.rows, result.groups
