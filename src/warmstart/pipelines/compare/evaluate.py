"""`evaluate`: a model on labelled rows; or several, saved and hosted ones, in one table of how
good they are, how quick, and at what cost."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from warmstart.data.readers.read import ALIASES
from warmstart.data.splitting import row_units
from warmstart.data.tokens.lost import TextNotes
from warmstart.errors import RecipeError, RunError, WarmstartError
from warmstart.evaluation.evaluate import Evaluation, scale
from warmstart.evaluation.evaluate import evaluate as evaluate_task
from warmstart.evaluation.sentences import sentence, verdict
from warmstart.files import write_atomically, write_json
from warmstart.formatting import counted
from warmstart.inference.openai import is_hosted
from warmstart.inference.predictor import Predictor
from warmstart.metrics.base import Floats, Measure
from warmstart.metrics.bootstrap import difference
from warmstart.metrics.classification import ClassMeasure
from warmstart.pipelines.predict import Keys, opened, settings_for, task_keys
from warmstart.pipelines.reading.rows import AsTrained, columns_of, labelled, task_for
from warmstart.run import Run, why

TEST = ALIASES["test"]
ALONE = 16
"""Rows that a saved model is asked one by one, to see how long one takes."""
FILE = "leaderboard.json"


def evaluate(model: Path, data: Any, out: Path | None, keys: Keys) -> Any:
    """See `api.evaluate`."""
    check_folder(out)
    evaluation = judge(model, data, keys, [model]).evaluation
    if out is not None:
        _write(evaluation, out)
    return evaluation.metrics


def check_folder(out: Path | None) -> None:
    """Raise `RunError` where results cannot go to this folder."""
    if out is not None and out.is_file():
        raise RunError(f"cannot write to {out}: it is a file; give --out a folder")
    if out is not None and out.exists() and any(out.iterdir()):  # perhaps the results of a run
        raise RunError(f"{out} exists and is not empty; choose another --out")


class Judged(NamedTuple):
    """A model's evaluation on labelled rows, what has answered them, and in how many seconds."""

    evaluation: Evaluation
    predictor: Predictor
    table: pa.Table
    seconds: float
    seed: int


def judge(model: Path, data: Any, keys: Keys, models: Sequence[object]) -> Judged:
    """A model's evaluation; `models` are all that `keys` are meant for."""
    recipe, reasons = settings_for("evaluate", keys), list[str]()
    instead = task_for(data, recipe.data, task_keys(keys), reasons)
    predictor = opened(model, keys, models, instead, lambda: columns_of(data, recipe.data))
    reader = AsTrained(recipe.data, predictor)
    table = labelled(data, reader)
    predictor.task.resolve_for_data(table)  # which may refuse them
    seen, begin = TextNotes(table), time.perf_counter()
    outputs, examples = predictor.judged(table, seen)
    seconds = time.perf_counter() - begin
    task = predictor.task.resolve_for_data(table)
    evaluation = evaluate_task(
        recipe.evaluate, task, {"test": outputs}, {"test": examples}, seed=recipe.seed
    )
    notes = evaluation.metrics["notes"]
    notes[:0] = [*reasons, *_learned(model, data, table)]
    seen.add_to(notes, predictor.task.max_length, predictor.task.when_cut)
    notes += [*reader.notes, *predictor.notes()]
    evaluation.metrics.update(predictor.facts())
    return Judged(evaluation, predictor, table, seconds, recipe.seed)


def _learned(model: Path, data: Any, table: pa.Table) -> list[str]:
    """What is said where the rows are those that the run was trained on."""
    if not isinstance(data, str | Path) or not (model / "run.json").is_file():
        return []
    run, path = Run(model), None
    with suppress(WarmstartError):  # no recipe is needed to be judged
        path = run.recipe.data.path
    began = Path(str(run.facts.get("began_in", ".")))
    if path is None or os.path.realpath(began / path) != os.path.realpath(data):
        return []
    names = [Path(str(name)) for name in table["_file"].unique().to_pylist()]
    if Path(data).is_dir() and all(_of_test(name) for name in names):
        return []
    return [
        f"{data} is what this model was trained on: most of these it has learned, so the "
        f"figures flatter it; those of rows that it never saw stand in {model}/report.html"
    ]


def _of_test(file: Path) -> bool:
    return file.parent.name.lower() in TEST or file.name.lower().partition(".")[0] in TEST


def _write(evaluation: Evaluation, out: Path) -> None:
    """The figures and the predictions, in a folder. Raises `RunError`."""
    import pyarrow.parquet as pq

    try:
        out.mkdir(parents=True, exist_ok=True)
        with write_atomically(out / "predictions.parquet") as part:
            pq.write_table(evaluation.predictions, part)
        write_json(out / "metrics.json", evaluation.metrics)
    except OSError as error:
        shutil.rmtree(out, ignore_errors=True)  # which was empty
        raise RunError(f"cannot write to {out}: {why(error)}; choose another --out") from error


def leaderboard(models: Sequence[str], data: Any, out: Path | None, keys: Mapping[str, Any]) -> Any:
    """The models on labelled rows, the best first, each beside the best.

    `models` of the answer have: the figures, the milliseconds of one row, rows a second, the cost
    of a thousand rows (None where nothing is paid by the token), and "against" the best: the
    difference, its interval and p-value, over the same rows. With `out` each model has a folder
    there, and all of them `leaderboard.json`. Raises `WarmstartError`.
    """
    check_folder(out)
    if len(set(models)) < len(models):
        raise RecipeError("the same model is named twice; name each once")
    judged = {model: judge(Path(model), data, keys, models) for model in models}
    first = next(iter(judged.values())).evaluation.metrics
    main = str(first["main"])
    for model, own in judged.items():
        if (other := own.evaluation.metrics)["main"] != main or other["rows"] != first["rows"]:
            raise RecipeError(
                f"{model} is judged by {other['main']} on {counted(other['rows'])} and {models[0]} "
                f"by {main} on {counted(first['rows'])}: they cannot stand in one table"
            )
    rows = [_row(model, own, main) for model, own in judged.items()]
    sign = -1 if main in first["lower_is_better"] else 1
    rows.sort(key=lambda row: -sign * row["score"]["value"])
    best = rows[0]["model"]
    measure, statistics = _comparable(judged)
    chance = _chance(judged[best])
    title = first["titles"].get(main, main)
    for row in rows[1:]:
        against = difference(measure, statistics[row["model"]], statistics[best], main, *chance)
        words = verdict(against, best, title, scale(measure, main))
        row |= {"against": against.as_dict(), "outcome": against.outcome,
                "sentence": sentence(words)}  # fmt: skip
    notes = [f"{model}: {note}" for model, own in judged.items() for note in own.predictor.notes()]
    table = {"rows": first["rows"], "main": main, "title": title, "best": best, "models": rows,
             "confidence_level": first["confidence_level"], "notes": notes}  # fmt: skip
    if out is not None:
        for number, (model, own) in enumerate(judged.items(), 1):
            _write(own.evaluation, out / f"{number}-{_name(model)}")
        write_json(out / FILE, table)
    return table


def _row(model: str, judged: Judged, main: str) -> Any:
    metrics, count = judged.evaluation.metrics, len(judged.table)
    hosted: Mapping[str, Any] = metrics.get("hosted", {})
    seconds = hosted.get("seconds_median") or _alone(judged)
    requests = hosted.get("requests") or 0
    cost = hosted.get("cost")
    return {
        "model": model,
        "score": metrics[main],
        "milliseconds": round(1000 * seconds, 2),
        "rows_per_second": round(count / max(judged.seconds, 1e-9), 2),
        "cost_per_1000": None if cost is None or not requests else round(1000 * cost / requests, 6),
        "outcome": "best",
        "against": None,
        "metrics": metrics,
    }


def _alone(judged: Judged) -> float:
    """The median seconds of a row that is asked alone."""
    times: list[float] = []
    for row in range(min(ALONE, len(judged.table))):
        begin = time.perf_counter()
        judged.predictor.outputs(judged.table.slice(row, 1).combine_chunks())
        times.append(time.perf_counter() - begin)
    return median(times)


def _comparable(judged: Mapping[str, Judged]) -> tuple[Measure, Mapping[str, Floats]]:
    """One measure for all, and each model's statistics: of classes by the names of all of them, as
    every model numbers them in its own order."""
    results = {model: own.evaluation.result for model, own in judged.items()}
    first = next(iter(results.values())).measure
    if not isinstance(first, ClassMeasure):
        return first, {model: result.statistics for model, result in results.items()}
    names_of = {model: _labels(result.measure) for model, result in results.items()}
    names = sorted({name for labels in names_of.values() for name in labels})
    number = {name: place for place, name in enumerate(names)}
    made = {
        model: np.array([number[label] for label in names_of[model]])[result.statistics.astype(int)]
        for model, result in results.items()
    }
    return ClassMeasure(len(names)), {model: rows.astype(float) for model, rows in made.items()}


def _labels(measure: Measure) -> Sequence[str]:
    assert isinstance(measure, ClassMeasure)
    return measure.labels


def _chance(judged: Judged) -> tuple[int, float, int, Any]:
    metrics = judged.evaluation.metrics
    groups = row_units(judged.table, judged.evaluation.result.groups)
    return metrics["bootstrap"], metrics["confidence_level"], judged.seed, groups


def _name(model: str) -> str:
    """A model's name as that of a folder."""
    last = model.removeprefix("openai:") if is_hosted(model) else Path(model).name
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in last)[:60]
