"""One evaluation of any task: figures with intervals, baselines, calibration, mistakes, words.

What is particular to a task comes with its `TaskResult`. The test rows are only ever scored:
thresholds, the temperature and the strength of a baseline are chosen on the validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from warmstart.data.splitting import row_units
from warmstart.errors import WarmstartError
from warmstart.evaluation import sentences
from warmstart.evaluation.baselines import Baseline, fit_baselines
from warmstart.evaluation.calibration import calibrate
from warmstart.evaluation.settings import Evaluate
from warmstart.evaluation.training_curve import Judged, Standing, read_curves
from warmstart.metrics.base import Floats, Measure, softmax
from warmstart.metrics.bootstrap import Difference, difference, intervals
from warmstart.tasks.base import Examples, Task
from warmstart.tasks.results import TaskResult


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`metrics` goes to metrics.json, `predictions` to predictions.parquet, `mistakes` is read."""

    metrics: dict[str, Any]
    predictions: pa.Table
    mistakes: list[dict[str, Any]]
    result: TaskResult


def evaluate(
    settings: Evaluate,
    task: Task,
    outputs: Mapping[str, Any],
    examples: Mapping[str, Examples],
    history: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> Evaluation:
    """Evaluate a model's outputs on the test rows; raises `WarmstartError` without any.

    Args:
        outputs: by split; "validation" may lack where a saved model meets new rows.
        examples: by split; "train", from which the baselines learn, may lack too.
        history: rows of the training log.
    """
    rows = len(examples["test"])
    if not rows:
        raise WarmstartError("there are no test rows, so nothing can be said about the model")
    result, main = task.evaluate(outputs, examples), task.main_score
    groups = row_units(examples["test"].table, result.groups)
    chance = settings.bootstrap, settings.confidence_level, seed, groups
    figures = _figures(result, result.statistics, chance)
    fitted = fit_baselines(settings, task, result.baselines, outputs, examples, seed)
    baselines, comparison = _compare(task, result, fitted, examples["test"], chance)
    standings = [
        Standing(row["name"], row["title"], row[main]["value"], row["outcome"]) for row in baselines
    ]
    blind = result.ceiling is not None and result.ceiling <= 0
    score = None if blind else figures[main]["value"]
    metrics: dict[str, Any] = {
        **{name: value for name, value in figures.items() if ":" not in name},
        "main": main,
        "titles": {name: text for name, text in task.metric_titles.items() if name in figures},
        "scale": scale(result.measure, main),
        "wrong": result.wrong,
        "per_class": _per_class(result.measure, result.statistics, figures),
        "lower_is_better": sorted(result.measure.lower_is_better),
        "rows": rows,
        **({} if groups is None else {"units": len(np.unique(groups))}),
        "confidence_level": settings.confidence_level,
        "bootstrap": settings.bootstrap,
        "baselines": baselines,
        "comparison": comparison,
        "curves": read_curves(history, score, standings, _judged(task, examples))._asdict(),
        **result.facts,
    }
    table = result.table
    if task.head.single_label:
        metrics["calibration"] = _calibration(settings, outputs, examples, groups)
        softer = softmax(outputs["test"], metrics["calibration"]["temperature"])
        confidence = pa.array(softer.max(axis=1).astype(np.float32))
        place = table.column_names.index("confidence") + 1
        table = table.add_column(place, "confidence_calibrated", confidence)
    if "_near" in examples["test"].table.column_names:
        metrics |= _without_near(result, examples["test"], main, chance)
    unseen = [sentences.unseen_texts(metrics["titles"][main])] if blind else []
    notes = sentences.notes(metrics, task.head.single_label)
    metrics["notes"] = [*notes, *unseen, *result.notes]
    metrics["verdict"] = sentences.verdict_sentence(metrics)
    return Evaluation(metrics, table, [dict(mistake) for mistake in result.mistakes], result)


def _judged(task: Task, examples: Mapping[str, Examples]) -> Judged:
    """What the figures of the training log are of."""
    return Judged(
        len(examples.get("validation", ())) or None, task.head.states_confidence, task.score_span
    )


def scale(measure: Measure, name: str) -> float:
    """What a figure is multiplied by to be a share: 0.01 for those that count to 100."""
    highest = measure.highest(name)
    return 1.0 if highest is None else 1.0 / highest


def _figures(
    result: TaskResult, statistics: Floats, chance: Any
) -> dict[str, dict[str, float | None]]:
    """Every figure with its interval; `chance` is how rows are drawn again."""
    table = intervals(result.measure, statistics, *chance)
    return {name: interval.as_dict() for name, interval in table.items()}


def _without_near(
    result: TaskResult, test: Examples, main: str, chance: Any
) -> Mapping[str, Mapping[str, Any]]:
    """The main figure on the test rows that do not nearly repeat a text of train, as
    `without_near_copies`: {"rows", "near", "score"}; the score is None where there are no such
    rows."""
    far = ~np.asarray(test.table["_near"])
    draws, level, seed, groups = chance
    kept = None if groups is None else groups[far]
    score = None
    if far.any() and len(far) == len(result.statistics):
        own = intervals(result.measure, result.statistics[far], draws, level, seed, kept)
        score = own[main].as_dict()
    counts = {"rows": int(far.sum()), "near": int((~far).sum())}
    return {"without_near_copies": {**counts, "score": score}}


def _compare(
    task: Task, result: TaskResult, fitted: Sequence[Baseline], test: Examples, chance: Any
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The baselines' figures and how the model stands against each, and against the strongest."""
    main, measure = task.main_score, result.measure
    title, share = task.metric_titles.get(main, main), scale(measure, main)
    unit = str(result.facts.get("unit", ""))
    table: list[dict[str, Any]] = []
    differences: list[Difference] = []
    for baseline in fitted:
        statistics = result.score(baseline.predict(test))
        figures = _figures(result, statistics, chance)
        against = difference(measure, result.statistics, statistics, main, *chance)
        text = sentences.verdict(against, baseline.title, title, share, unit)
        differences.append(against)
        table.append(
            {
                "name": baseline.name,
                "title": baseline.title,
                **{name: value for name, value in figures.items() if ":" not in name},
                "notes": list(baseline.notes),
                "model_minus_baseline": against.as_dict(),
                "outcome": against.outcome,
                "sentence": sentences.sentence(text),
            }
        )
    if not table:
        return [], None
    sign = -1 if main in measure.lower_is_better else 1
    best = max(range(len(table)), key=lambda place: sign * table[place][main]["value"])
    against, called = differences[best], f"the best baseline ({table[best]['title']})"
    return table, {
        "baseline": table[best]["name"],
        "title": table[best]["title"],
        **against.as_dict(),
        "outcome": against.outcome,
        "sentence": sentences.verdict(against, called, title, share, unit),
    }


def _per_class(
    measure: Measure, statistics: Floats, figures: Mapping[str, Mapping[str, float | None]]
) -> list[dict[str, Any]]:
    """Per class: precision, recall, F1 with its interval, and the number of rows that have it."""
    bearing = measure.bearing(statistics)
    return [
        {
            "label": name,
            **{key: figures[f"{key}:{name}"]["value"] for key in ("precision", "recall", "f1")},
            "f1_low": f1["low"],
            "f1_high": f1["high"],
            "support": bearing[f"recall:{name}"],
            "predicted": bearing[f"precision:{name}"],
        }
        for figure, f1 in figures.items()
        if (name := figure.partition(":")[2]) and figure.startswith("f1:")
    ]


def _calibration(
    settings: Evaluate,
    outputs: Mapping[str, Any],
    examples: Mapping[str, Examples],
    groups: NDArray[Any] | None,
) -> dict[str, Any]:
    """Whether the stated confidence is true, and the temperature of the validation rows."""
    splits = {n: (outputs[n], own.store.targets) for n, own in examples.items() if n in outputs}
    logits, truth = splits["test"]
    held_out = splits.get("validation", (logits[:0], truth[:0]))
    measured = calibrate(logits, truth, *held_out, settings.calibration_bins, groups)
    return {**measured, "sentence": sentences.calibration_sentence(measured)}
