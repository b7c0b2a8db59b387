"""One evaluation of any task but single-label classification: figures with intervals, baselines,
mistakes, words. What is particular to a task comes with its `Result`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from warmstart.errors import WarmstartError
from warmstart.evaluation import sentences as words
from warmstart.evaluation.classification import Evaluation, comparison
from warmstart.evaluation.settings import Evaluate
from warmstart.evaluation.training_curve import read_curves, standings
from warmstart.metrics.base import Floats, Measure
from warmstart.metrics.bootstrap import Difference, difference, intervals
from warmstart.tasks.base import Result, Rival


def evaluate(
    settings: Evaluate,
    main: str,
    titles: Mapping[str, str],
    result: Result,
    history: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> Evaluation:
    """Judge a task's answers; raises `WarmstartError` without test rows.

    Args:
        main: the figure that stands first, of which more is better.
        titles: figures to show → how they are called.
    """
    rows = len(result.table)
    if not rows:
        raise WarmstartError("there are no test rows, so nothing can be said about the model")
    title = titles.get(main, main)
    judged = [_judged(settings, rival, result, main, title, seed) for rival in result.rivals]
    figures = _figures(settings, result, result.rows, seed)
    metrics: dict[str, Any] = {
        **{name: value for name, value in figures.items() if ":" not in name},
        "main": main,
        "titles": {name: said for name, said in titles.items() if name in figures},
        "scale": scale(result.measure, main),
        "wrong": _wrong(result),
        "per_class": per_class(result.measure, result.rows, figures),
        "lower_is_better": sorted(result.measure.lower_is_better),
        "rows": rows,
        "confidence_level": settings.confidence_level,
        "bootstrap": settings.bootstrap,
        "baselines": judged,
        "comparison": comparison(judged, main, Difference, title, scale(result.measure, main)),
        "curves": read_curves(history, figures[main]["value"], standings(judged, main)).as_dict(),
        **result.facts,
    }
    known = [*words.few_rows(rows), *words.absent_classes(metrics["per_class"])]
    metrics["notes"] = [*known, *words.rival_notes(judged), *result.notes]
    metrics["verdict"] = words.verdict_sentence(metrics)
    return Evaluation(metrics, result.table, [dict(one) for one in result.mistakes])


def scale(measure: Measure, name: str) -> float:
    """What a figure is multiplied by to be a share: 0.01 for those that count to 100."""
    highest = measure.highest(name)
    return 1.0 if highest is None else 1.0 / highest


def per_class(
    measure: Measure, rows: Floats, figures: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Per class: precision, recall, F1 with its interval, and the number of rows that have it."""
    names = [name.partition(":")[2] for name in figures if name.startswith("f1:")]
    bearing = measure.bearing(rows)
    return [
        {
            "label": name,
            "precision": figures[f"precision:{name}"]["value"],
            "recall": figures[f"recall:{name}"]["value"],
            "f1": figures[f"f1:{name}"]["value"],
            "f1_low": figures[f"f1:{name}"]["low"],
            "f1_high": figures[f"f1:{name}"]["high"],
            "support": bearing.get(f"recall:{name}", len(rows)),
            "predicted": bearing.get(f"precision:{name}", len(rows)),
        }
        for name in names
    ]


def _wrong(result: Result) -> int:
    """How many rows were wrong, where right and wrong can be told."""
    if "correct" not in result.table.column_names:
        return len(result.mistakes)
    return len(result.table) - sum(map(bool, result.table["correct"].to_pylist()))


def _figures(
    settings: Evaluate, result: Result, rows: Floats, seed: int
) -> dict[str, dict[str, float]]:
    found = intervals(
        result.measure, rows, settings.bootstrap, settings.confidence_level, seed, result.groups
    )
    return {name: interval.as_dict() for name, interval in found.items()}


def _judged(
    settings: Evaluate, rival: Rival, result: Result, main: str, title: str, seed: int
) -> dict[str, Any]:
    """A baseline's figures, and how the model stands against it."""
    against = difference(
        result.measure, result.rows, rival.rows, main, settings.bootstrap,
        settings.confidence_level, seed, result.groups,
    )  # fmt: skip
    said = words.verdict(against, rival.title, title, scale(result.measure, main))
    return {
        "name": rival.name,
        "title": rival.title,
        **{
            name: value
            for name, value in _figures(settings, result, rival.rows, seed).items()
            if ":" not in name
        },
        "notes": list(rival.notes),
        "model_minus_baseline": against.as_dict(),
        "outcome": against.outcome,
        "sentence": words.sentence(said),
    }
