"""What a model must beat. Tasks name their baselines; each is `fit(train).predict(rows)`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from warmstart.evaluation.baselines import rules, tfidf
from warmstart.evaluation.baselines.base import Baseline, BaseRate, Untuned
from warmstart.evaluation.settings import Evaluate
from warmstart.tasks.base import Examples, Task

BASELINES: Mapping[str, type[Baseline]] = {
    re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): value
    for module in (rules, tfidf)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Baseline) and hasattr(value, "name")
}
"""The names that `TaskResult.baselines` uses: "majority_class" is the class `MajorityClass`."""


def fit_baselines(
    settings: Evaluate,
    task: Task,
    names: Sequence[str],
    outputs: Mapping[str, Any],
    examples: Mapping[str, Examples],
    seed: int,
) -> list[Baseline]:
    """The baselines that can be fitted, in order; `outputs` may have "untuned", those of the base
    before training, on the test rows, and "base_rate"."""
    train, validation = examples.get("train"), examples.get("validation")
    fitted: list[Baseline] = []
    if settings.baselines and train is not None and len(train):
        for name in names:
            baseline = BASELINES[name](task, settings.baseline_rows, seed)
            if baseline.fit(train, validation):
                fitted.append(baseline)
    return fitted + [kind(outputs[kind.name]) for kind in (Untuned, BaseRate)
                     if kind.name in outputs]  # fmt: skip
