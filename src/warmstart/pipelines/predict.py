"""`predict` and `evaluate` with a saved model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from warmstart.config.recipe import Recipe
from warmstart.data.tokens.lost import TextNotes
from warmstart.errors import RunError, nearest
from warmstart.files import write_atomically, write_json
from warmstart.inference.predictor import Instead, Predictor, open_predictor
from warmstart.models.base import is_base, resolve
from warmstart.part import OWN_HEAD, allow_named
from warmstart.pipelines.reading.rows import (
    AsTrained,
    Writer,
    check_out,
    labelled,
    parts_of,
    source_of,
    task_for,
)
from warmstart.pipelines.request import engine_of, settings_of
from warmstart.run import why
from warmstart.types import Prediction

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
    settings = _settings("predict", keys).data
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
        notes += reader.notes


def evaluate(model: Path, data: Any, out: Path | None, keys: Keys) -> dict[str, Any]:
    """See `api.evaluate`."""
    import pyarrow.parquet as pq

    from warmstart.evaluation.evaluate import evaluate as evaluate_task

    recipe = _settings("evaluate", keys)
    if out is not None and out.is_file():
        raise RunError(f"cannot write to {out}: it is a file; give --out a folder")
    if out is not None and out.exists() and any(out.iterdir()):  # perhaps the results of a run
        raise RunError(f"{out} exists and is not empty; choose another --out")
    reasons: list[str] = []
    predictor = _open(model, keys, task_for(data, recipe.data, _task_named(keys), reasons))
    reader = AsTrained(recipe.data, predictor)
    table = labelled(data, reader)
    task = predictor.task.resolve_for_data(table)
    seen = TextNotes(table)
    if task.head.generates:  # the texts that are wanted are scored whole, and noted by none
        inputs = table.select([*task.inputs, "_file", "_line"])
        task.encode(inputs, predictor.labels, predictor.tokenizer, task.max_length, seen.see_cut)
        outputs, examples = predictor.outputs(table)
    else:
        outputs, examples = predictor.outputs(table, seen=seen)
    evaluation = evaluate_task(
        recipe.evaluate, task, {"test": outputs}, {"test": examples}, seed=recipe.seed
    )
    evaluation.metrics["notes"][:0] = reasons
    seen.add_to(evaluation.metrics["notes"], predictor.task.max_length, predictor.task.when_cut)
    evaluation.metrics["notes"] += reader.notes
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            with write_atomically(out / "predictions.parquet") as part:
                pq.write_table(evaluation.predictions, part)
            write_json(out / "metrics.json", evaluation.metrics)
        except OSError as error:
            shutil.rmtree(out, ignore_errors=True)  # which was empty
            raise RunError(f"cannot write to {out}: {why(error)}; choose another --out") from error
    return evaluation.metrics


def _settings(verb: str, keys: Keys) -> Recipe:
    own = {OWN_HEAD} | {key for key in _task_named(keys) if verb == "evaluate"}
    return settings_of(verb, {key: value for key, value in keys.items() if key not in own})


def _task_named(keys: Keys) -> Keys:
    """The keys that say how a language model is asked."""
    return {key: value for key, value in keys.items()
            if key.partition(".")[0] == "task" and key != OWN_HEAD}  # fmt: skip


def _open(model: Path, keys: Keys, instead: Instead | None = None) -> Predictor:
    allow_named(keys)
    engine = engine_of(keys)
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
