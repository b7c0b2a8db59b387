"""`predict` and `evaluate` with a saved model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from warmstart.config.recipe import Recipe
from warmstart.data.tokens.lost import TextNotes
from warmstart.errors import RunError, nearest
from warmstart.files import write_atomically, write_json
from warmstart.inference.hosted import open_hosted
from warmstart.inference.openai import is_hosted
from warmstart.inference.predictor import Instead, Predictor, open_predictor
from warmstart.models.base import is_base, resolve
from warmstart.part import OWN_HEAD, allow_named
from warmstart.pipelines.reading.rows import (
    AsTrained,
    Writer,
    check_out,
    columns_of,
    labelled,
    parts_of,
    source_of,
    task_for,
)
from warmstart.pipelines.request import engine_of, settings_of, task_of
from warmstart.run import why
from warmstart.types import Prediction

if TYPE_CHECKING:
    from warmstart.evaluation.evaluate import Evaluation

Keys = Mapping[str, Any]


def answers(
    model: Path, data: Any, keys: Keys, notes: list[str] | None
) -> Iterator[tuple[str, Prediction]]:
    """See `api.answers`."""
    for part in _parts(model, data, keys, notes):
        answers = part.predictor.answers(part.inputs, part.start, seen=part.seen)
        yield from zip(part.texts, answers, strict=True)


def label_file(model: Path, data: Any, out: Path, keys: Keys, notes: list[str] | None) -> int:
    """See `api.predict`: the rows go to `out` as they are labelled; returns their number."""
    done = 0
    with Writer(out) as writer:
        for part in _parts(model, data, keys, notes, out):
            outputs, examples = part.predictor.outputs(part.inputs, part.start, seen=part.seen)
            rows = part.rows
            for name, column in part.predictor.task.labelled(outputs, examples).items():
                rows = rows.append_column(_free(name, rows.column_names), column)
            writer.write(rows)
            done += len(rows)
    return done


class _Part(NamedTuple):
    """Some rows, and what answers them."""

    predictor: Predictor
    rows: pa.Table
    inputs: pa.Table
    texts: list[str]
    start: int
    """The number of the first of them."""
    seen: TextNotes


def _parts(
    model: Path, data: Any, keys: Keys, notes: list[str] | None, out: Path | None = None
) -> Iterator[_Part]:
    """The rows of a request, a part at a time; `notes` is complete when the last one was read."""
    settings = _settings("predict", keys, hosted=is_hosted(model)).data
    source = source_of(data)
    if out is not None:
        check_out(out, source)
    predictor = _open(model, keys)
    seen, start, reader = TextNotes(), 0, AsTrained(settings, predictor)
    for rows, inputs in parts_of(source, reader, seen.set_table):
        texts = seen.see(predictor.task.as_text(inputs).to_pylist(), start)
        yield _Part(predictor, rows, inputs, texts, start, seen)
        start += len(inputs)
    seen.add_to(notes, predictor.task.max_length, predictor.task.when_cut)
    if notes is not None:
        notes += [*reader.notes, *predictor.notes()]


def evaluate(model: Path, data: Any, out: Path | None, keys: Keys) -> dict[str, Any]:
    """See `api.evaluate`."""
    check_folder(out)
    evaluation, _ = judge(model, data, keys)
    if out is not None:
        write(evaluation, out)
    return evaluation.metrics


def check_folder(out: Path | None) -> None:
    """Raise `RunError` where results cannot go to this folder."""
    if out is not None and out.is_file():
        raise RunError(f"cannot write to {out}: it is a file; give --out a folder")
    if out is not None and out.exists() and any(out.iterdir()):  # perhaps the results of a run
        raise RunError(f"{out} exists and is not empty; choose another --out")


def judge(model: Path, data: Any, keys: Keys) -> tuple[Evaluation, Predictor]:
    """A model's evaluation on labelled rows, and what has answered them."""
    from warmstart.evaluation.evaluate import evaluate as evaluate_task

    recipe, reasons = _settings("evaluate", keys), list[str]()
    instead = task_for(data, recipe.data, _task_named(keys), reasons)
    predictor = _open(model, keys, instead, lambda: columns_of(data, recipe.data))
    reader = AsTrained(recipe.data, predictor)
    table = labelled(data, reader)
    predictor.task.resolve_for_data(table)  # which may refuse them
    seen = TextNotes(table)
    outputs, examples = predictor.judged(table, seen)
    task = predictor.task.resolve_for_data(table)
    evaluation = evaluate_task(
        recipe.evaluate, task, {"test": outputs}, {"test": examples}, seed=recipe.seed
    )
    notes = evaluation.metrics["notes"]
    notes[:0] = reasons
    seen.add_to(notes, predictor.task.max_length, predictor.task.when_cut)
    notes += [*reader.notes, *predictor.notes()]
    evaluation.metrics.update(predictor.facts())
    return evaluation, predictor


def write(evaluation: Evaluation, out: Path) -> None:
    """The figures and the predictions, in a folder. Raises `RunError`."""
    import pyarrow.parquet as pq

    try:
        out.mkdir(parents=True, exist_ok=True)
        with write_atomically(out / "predictions.parquet") as part:
            pq.write_table(evaluation.predictions, part)
        write_json(out / "metrics.json", evaluation.metrics)
    except OSError as error:
        raise RunError(f"cannot write to {out}: {why(error)}; choose another --out") from error


def _settings(verb: str, keys: Keys, *, hosted: bool = False) -> Recipe:
    own = {OWN_HEAD} | {key for key in _task_named(keys) if verb == "evaluate" or hosted}
    return settings_of(verb, {key: value for key, value in keys.items() if key not in own})


def _task_named(keys: Keys) -> Keys:
    """The keys that say how a language model is asked."""
    return {key: value for key, value in keys.items()
            if key.partition(".")[0] == "task" and key != OWN_HEAD}  # fmt: skip


def _open(
    model: Path, keys: Keys, instead: Instead | None = None,
    columns: Callable[[], Sequence[str] | None] = lambda: None,
) -> Predictor:  # fmt: skip
    allow_named(keys)
    engine = engine_of(keys, [model])
    if is_hosted(model):
        return open_hosted(str(model), engine, task_of(_task_named(keys)), columns() or ())
    if instead is not None and is_base(str(model)):
        model = resolve(str(model)).path
    if not os.path.exists(model):
        siblings = [p.name for p in model.parent.iterdir()] if model.parent.is_dir() else []
        guess = nearest(model.name, [name for name in siblings if name[0] != "."])
        raise RunError(f"there is no run or model folder {model}.{guess or ' Check the path'}")
    return open_predictor(model, engine, instead)


def _free(name: str, taken: list[str]) -> str:
    """`prediction`, or `prediction_2` where there is such a column already."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free
